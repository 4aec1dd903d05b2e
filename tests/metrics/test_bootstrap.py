import numpy as np
import pytest

from kdtf import metrics
from kdtf.metrics import bootstrap, calibration


def drawn(examples, classes, seed, scale=3.0):
    """Logits of an overconfident model; softmax(2 / scale * logits) would be the true posterior."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples)
    logits = rng.normal(size=(examples, classes))
    logits[np.arange(examples), labels] += 2
    return scale * logits, labels


def measured(logits, labels):
    return {
        "top1": metrics.top_k_accuracy(logits, labels, 1),
        "macro_f1": metrics.macro_f1_score(logits.argmax(1), labels, logits.shape[1]),
        "nll": metrics.negative_log_likelihood(logits, labels),
        "brier": metrics.brier_score_loss(logits, labels),
        "ece": calibration.expected_calibration_error(logits, labels),
    }


def test_measures_are_those_of_the_photos_drawn():
    logits, labels = drawn(40, 6, 0)
    tallies = bootstrap.BootstrapStatistics(logits, labels)
    (counts,) = bootstrap.resampled_counts(40, 30, seed=1)
    assert counts.shape == (30, 40) and (counts.sum(1) == 40).all() and counts.max() > 1
    got = tallies.measures(np.vstack([np.ones(40), counts]))
    for row, times in enumerate([np.ones(40, int), *counts.astype(int)]):
        want = measured(np.repeat(logits, times, axis=0), np.repeat(labels, times))
        assert {name: got[name][row] for name in want} == pytest.approx(want, abs=1e-9)
    whole = calibration.expected_calibration_error(logits, labels, equal_mass=True)
    assert got["ece_equal_mass"][0] == pytest.approx(whole, abs=1e-9)


def test_resamples_do_not_depend_on_blocks(monkeypatch):
    logits, labels = drawn(50, 4, 0)
    tallies = bootstrap.BootstrapStatistics(logits, labels)
    want = tallies.replicates(20, seed=3)
    monkeypatch.setattr(bootstrap, "_CHUNK", 150)
    assert [len(block) for block in bootstrap.resampled_counts(50, 20)] == [3] * 6 + [2]
    got = tallies.replicates(20, seed=3)
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, atol=1e-12)
    assert np.abs(tallies.replicates(20, seed=4)["nll"] - want["nll"]).min() > 0


def test_interval_golden():
    # Without bias the plain percentiles; ties with the estimate count half.
    values = np.arange(1001) / 1000
    assert bootstrap.bootstrap_interval(0.5, values) == pytest.approx([0.025, 0.975], abs=1e-6)
    # 84.13 % below: shift 1, so the ends are Phi(2 - 1.96) = .51595 and Phi(2 + 1.96) = .99996.
    low, high = bootstrap.bootstrap_interval(0.841845, values)
    assert (low, high) == pytest.approx((0.51595, 0.99996), abs=2e-3)
    assert bootstrap.bootstrap_interval(2.0, [1.0, 1.0]) == [1.0, 1.0]


def test_95_percent_intervals_cover_the_truth():
    """93 to 97 % of 700 simulated test splits."""
    classes, examples, runs = 5, 300, 700
    truth = measured(*drawn(400_000, classes, 10_000))
    covered = {name: 0 for name in truth}
    for seed in range(runs):
        tallies = bootstrap.BootstrapStatistics(*drawn(examples, classes, seed))
        for name, (low, high) in tallies.intervals(resamples=300, seed=seed).items():
            if name in truth:
                covered[name] += low <= truth[name] <= high
    for name in ("top1", "macro_f1", "nll", "brier"):
        assert 0.93 <= covered[name] / runs <= 0.97, (name, covered[name])
    # Cautious by construction.
    assert 0.93 <= covered["ece"] / runs


@pytest.mark.parametrize("scale", [2.0, 2.2])
def test_calibration_errors_are_covered_also_near_zero(scale):
    truth = calibration.expected_calibration_error(*drawn(400_000, 10, 10_000, scale))
    covered = []
    for seed in range(100):
        tallies = bootstrap.BootstrapStatistics(*drawn(600, 10, seed, scale))
        low, high = tallies.intervals(resamples=200, seed=seed)["ece"]
        assert low <= tallies.measures(np.ones((1, 600)))["ece"][0] <= high
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.93


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: list(bootstrap.resampled_counts(0)), "at least 1, got 0 and 1000"),
        (lambda: bootstrap.bootstrap_interval(0.5, [np.nan]), "finite numbers"),
        (
            lambda: bootstrap.bootstrap_interval(0.5, [1.0], 95),
            "confidence must be between 0 and 1",
        ),
        (lambda: bootstrap.BootstrapStatistics([[1.0, np.nan]], [0]), "not finite"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
