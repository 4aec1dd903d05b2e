import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from kdtf import metrics
from kdtf.metrics import comparison

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
    assert got["verdict"] == "no difference shown"  # The interval alone would say "helps".
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
            np.isin(outcome, [0, 2]), np.isin(outcome, [0, 1])
        )["interval"]
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


def students(rng, examples, gain=0.0):
    """Right or wrong of two students: photos differ in how hard they are, both find the same hard.

    A photo's chance to be recognised is near 0 or 1 for most. One student alone is right on 12 % of
    the photos; on real ones 7.5 % were measured (docs/grocery.md), which is easier to tell apart.
    """
    chance = rng.beta(0.48, 0.12, examples)
    room = chance < 1 - abs(gain)
    ahead = np.clip(chance + gain / np.mean(room) * room, 0, 1)
    return rng.random(examples) < chance, rng.random(examples) < ahead


def verdicts(runs, examples, gain, seed, swapped=False):
    rng = np.random.default_rng(seed)
    order = -1 if swapped else 1
    found = [
        comparison.paired_difference(*students(rng, examples, gain)[::order]) for _ in range(runs)
    ]
    discordant = np.mean(
        [(each["only_baseline"] + each["only_distilled"]) / examples for each in found]
    )
    return [each["verdict"] for each in found], discordant


def test_no_difference_is_seldom_called_one():
    """A/A: two equal students are told apart in at most 7 % of the runs."""
    said, discordant = verdicts(1000, 2000, 0.0, 0)
    assert 0.02 <= np.mean([each != "no difference shown" for each in said]) <= 0.07
    assert sum(each != "no difference shown" for each in said[:200]) <= 14
    assert discordant == pytest.approx(0.12, abs=0.005)


@pytest.mark.parametrize("swapped, word", [(False, "helps"), (True, "hurts")])
def test_three_points_are_found_with_2000_photos(swapped, word):
    said, discordant = verdicts(300, 2000, 0.03, 1, swapped)
    assert said.count(word) > 270, said.count(word)
    assert discordant == pytest.approx(0.12, abs=0.005)


def test_needed_test_examples_golden():
    # 10 % and 16 %: (1.959964 sqrt(.26) + .841621 sqrt(.26 - .0036))^2 / .0036 = 564.97.
    assert comparison.needed_test_examples(0.10, 0.16) == 565
    assert comparison.needed_test_examples(0.16, 0.10) == 565
    assert comparison.needed_test_examples(0.1, 0.1) is None
    got = comparison.paired_difference(*pairs(740, 160, 100, 0))
    assert (got["needed_test_examples"], got["power"]) == (565, 0.8)


def test_needed_test_examples_tell_as_often_as_promised():
    needed = comparison.needed_test_examples(0.06, 0.10)
    rng = np.random.default_rng(0)
    tables = rng.multinomial(needed, [0.7, 0.10, 0.06, 0.14], 400)
    said = [comparison.paired_difference(*pairs(*table))["verdict"] for table in tables]
    assert said.count("helps") / 400 == pytest.approx(0.8, abs=0.06)


def logits_of(rng, labels, classes, skill):
    logits = rng.normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += skill
    return logits


def test_paired_bootstrap_differences_are_those_of_evaluate():
    rng = np.random.default_rng(0)
    labels, counts = rng.integers(0, 8, 400), [90, 80, 20, 20, 20, 10, 5, 5]
    pair = [logits_of(rng, labels, 8, skill) for skill in (1.0, 2.0)]
    before, after = (metrics.evaluate(logits, labels, counts) for logits in pair)
    got = comparison.paired_bootstrap(*pair, labels, counts)
    assert set(got) == {
        "top1",
        "macro_f1",
        "nll",
        "brier",
        "ece",
        "ece_equal_mass",
        "head_top1",
        "mid_top1",
        "tail_top1",
    }
    for name, row in got.items():
        assert row["difference"] == pytest.approx(after[name] - before[name], abs=1e-9)
        assert row["interval"][0] < row["difference"] < row["interval"][1]
    # The better student is shown to be better, and the photos' noise is mostly common to both.
    assert got["top1"]["interval"][0] > 0 and got["nll"]["interval"][1] < 0
    right = [logits.argmax(1) == labels for logits in pair]
    newcombe = comparison.paired_difference(*right)["interval"]
    assert got["top1"]["interval"] == pytest.approx(newcombe, abs=0.01)


def test_paired_bootstrap_of_a_model_with_itself_is_zero():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 50)
    logits = logits_of(rng, labels, 3, 1.0)
    for name, row in comparison.paired_bootstrap(logits, logits, labels, [5, 3, 1]).items():
        assert row["difference"] == 0
        if not name.endswith("_top1"):
            assert row["interval"] == [0, 0]


def test_paired_bootstrap_covers_the_truth():
    """Two equal students: the interval of each difference holds 0 in 93 to 97 % of 500 splits."""
    covered = {}
    for seed in range(500):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 4, 250)
        pair = [logits_of(rng, labels, 4, 2.0) for _ in range(2)]
        found = comparison.paired_bootstrap(*pair, labels, [4, 3, 2, 1], resamples=300, seed=seed)
        for name, row in found.items():
            low, high = row["interval"]
            covered.setdefault(name, []).append(low <= 0 <= high)
    for name in ("top1", "macro_f1", "nll", "brier"):
        assert 0.93 <= np.mean(covered[name]) <= 0.975, (name, np.mean(covered[name]))
    for name in ("ece", "ece_equal_mass"):  # cautious with few photos
        assert 0.93 <= np.mean(covered[name]), (name, np.mean(covered[name]))


def test_seed_difference_golden():
    # Gains 1, 2, 3 points: t(2; .975) = 4.302653 over sqrt(3); t = 2 sqrt(3), p = 0.0741799.
    got = comparison.seed_difference([0.80, 0.70, 0.60], [0.81, 0.72, 0.63])
    assert got["difference"] == pytest.approx(0.02)
    assert got["interval"] == pytest.approx([0.02 - 0.0248414, 0.02 + 0.0248414], abs=1e-7)
    assert got["p_value"] == pytest.approx(0.0741799, abs=1e-6)
    assert got["verdict"] == "no difference shown" and got["seeds"] == 3
    # Effect 2 standard deviations: power 0.71 with 4 seeds, 0.88 with 5 (noncentral t).
    assert got["needed_seeds"] == 5
    assert comparison.seed_difference([0.5, 0.6], [0.6, 0.7001])["verdict"] == "helps"
    assert comparison.seed_difference([0.6, 0.7001], [0.5, 0.6])["verdict"] == "hurts"
    same = comparison.seed_difference([0.5, 0.25], [0.5, 0.25])
    assert same["verdict"] == "no difference shown"
    assert (same["p_value"], same["needed_seeds"]) == (1.0, None)


def test_seeds_of_equal_trainings_are_seldom_told_apart():
    rng = np.random.default_rng(0)
    gains = rng.normal(0, 0.01, (600, 3))
    said = [comparison.seed_difference(np.zeros(3), row)["verdict"] for row in gains]
    assert 0.03 <= np.mean([each != "no difference shown" for each in said]) <= 0.07


def test_needed_seeds_tell_as_often_as_promised():
    needed = comparison.needed_seeds(0.01, 0.008)
    assert needed == comparison.needed_seeds(-1, 0.8)
    gains = np.random.default_rng(0).normal(0.01, 0.008, (500, needed))
    said = [comparison.seed_difference(np.zeros(needed), row)["verdict"] for row in gains]
    assert 0.78 <= said.count("helps") / 500 <= 0.92
    assert comparison.needed_seeds(1, 0.0) == 2
    assert comparison.needed_seeds(1e-9, 1.0) is None


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: comparison.paired_difference(np.array([1, 0]), np.array([1, 1])), "must be bool"),
        (
            lambda: comparison.paired_difference(np.ones(2, bool), np.ones(3, bool)),
            r"\(2,\) and \(3,\)",
        ),
        (
            lambda: comparison.paired_difference(np.ones(2, bool), np.ones(2, bool), 95),
            "confidence",
        ),
        (
            lambda: comparison.needed_test_examples(0.1, 0.2, power=80),
            "power must be between 0 and 1",
        ),
        (lambda: comparison.needed_test_examples(0.6, 0.5), "at most 1 together, got 0.6 and 0.5"),
        (lambda: comparison.seed_difference([0.5, 0.6], [0.5]), r"\(2,\) and \(1,\)"),
        (lambda: comparison.seed_difference([0.5], [0.5]), "train with more seeds"),
        (
            lambda: comparison.paired_bootstrap([[1.0, 2.0]], [[1.0]], [0], [1, 1]),
            r"\(1, 2\).*\(1, 1\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
