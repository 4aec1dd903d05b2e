import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from kdtf import comparison

# No deadline: how fast the machine is tells nothing about the numbers.
any_of = hypothesis.settings(deadline=None, max_examples=60, derandomize=True)


def pairs(both, only_distilled, only_baseline, neither):
    baseline = [True] * both + [False] * only_distilled + [True] * only_baseline + [False] * neither
    distilled = [True] * (both + only_distilled) + [False] * (only_baseline + neither)
    return np.array(baseline), np.array(distilled)


def test_paired_difference_golden():
    got = comparison.paired_difference(*pairs(40, 12, 4, 4))
    # McNemar: 2 * sum(C(16, i), i <= 4) / 2**16 = 2 * 2517 / 65536.
    assert got["p_value"] == pytest.approx(2 * 2517 / 65536)
    assert got["difference"] == pytest.approx(8 / 60)
    # Wilson: 52/60 in [0.758349, 0.930859], 44/60 in [0.609913, 0.828673]. The cross product
    # 40 * 4 - 12 * 4 = 112, less n/2 = 30, over sqrt(52 * 8 * 44 * 16) gives phi = 0.15152.
    # Down: sqrt(.108318^2 - 2 phi .108318 * .095340 + .095340^2) = 0.133015.
    # Up: sqrt(.123420^2 - 2 phi .123420 * .064192 + .064192^2) = 0.130200.
    assert got["interval"] == pytest.approx([8 / 60 - 0.133015, 8 / 60 + 0.130200], abs=2e-6)
    assert got["verdict"] == "no difference shown"     # The interval alone would say "helps".
    assert (got["only_distilled"], got["only_baseline"], got["test_examples"]) == (12, 4, 60)


def test_paired_interval_is_the_bootstrap_s_where_that_is_sound():
    baseline, distilled = pairs(1500, 140, 90, 270)
    rng = np.random.default_rng(0)
    gains = distilled.astype(int) - baseline
    means = [rng.choice(gains, len(gains)).mean() for _ in range(2000)]
    got = comparison.paired_difference(baseline, distilled)
    assert got["interval"] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1.5e-3)
    assert got["verdict"] == "helps"


def test_paired_interval_covers_the_truth():
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(400):
        outcome = rng.choice(4, 80, p=[0.8, 0.1, 0.04, 0.06])
        low, high = comparison.paired_difference(
            np.isin(outcome, [0, 2]), np.isin(outcome, [0, 1]))["interval"]
        covered.append(low <= 0.06 <= high)
    assert 0.92 <= np.mean(covered) <= 0.99


@any_of
@hypothesis.given(st.tuples(*[st.integers(0, 40)] * 4).filter(any))
def test_paired_difference_mirrors(table):
    both, ours, theirs, neither = table
    got = comparison.paired_difference(*pairs(both, ours, theirs, neither))
    mirrored = comparison.paired_difference(*pairs(both, theirs, ours, neither))
    low, high = got["interval"]
    assert -1 - 1e-9 <= low <= got["difference"] + 1e-9 and got["difference"] <= high + 1e-9
    assert mirrored["interval"] == pytest.approx([-high, -low], abs=1e-9)
    assert mirrored["p_value"] == pytest.approx(got["p_value"])
    swapped = {"helps": "hurts", "hurts": "helps"}
    assert mirrored["verdict"] == swapped.get(got["verdict"], got["verdict"])


def test_verdict_needs_p_and_interval():
    assert comparison.paired_difference(*pairs(50, 20, 2, 10))["verdict"] == "helps"
    assert comparison.paired_difference(*pairs(50, 2, 20, 10))["verdict"] == "hurts"
    same = comparison.paired_difference(*pairs(5, 0, 0, 5))
    assert same["verdict"] == "no difference shown" and same["p_value"] == 1.0
    # The interval is above 0, but p = 0.077.
    few = comparison.paired_difference(*pairs(40, 12, 4, 4))
    assert few["interval"][0] > 0 and few["verdict"] == "no difference shown"
    assert comparison.paired_difference(*pairs(40, 12, 4, 4), confidence=0.9)["verdict"] == "helps"


@pytest.mark.parametrize("call, message", [
    (lambda: comparison.paired_difference(np.array([1, 0]), np.array([1, 1])), "must be bool"),
    (lambda: comparison.paired_difference(np.ones(2, bool), np.ones(3, bool)),
     r"\(2,\) and \(3,\)"),
    (lambda: comparison.paired_difference(np.ones(2, bool), np.ones(2, bool), 95), "confidence"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
