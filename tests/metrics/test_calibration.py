import numpy as np
import pytest
import scipy.optimize
import scipy.special
import sklearn.calibration

from kdtf import metrics
from kdtf.metrics import calibration

# Three classes with probabilities given as logs, so that every number below is exact by hand.
PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
LABELS = np.array([0, 2, 0, 1])


def test_calibration_error_golden():
    # Confidences 0.7 (right), 0.6 (wrong), 0.5 (right), 0.6 (wrong).
    # Two bins: 0.5 belongs to (0, 0.5], gap |1 - 0.5|; the rest have accuracy 1/3, confidence
    # 1.9/3, gap 0.3. Weighted: 0.25 * 0.5 + 0.75 * 0.3 = 0.35.
    logits = np.log(PROBS)
    assert calibration.expected_calibration_error(logits, LABELS, bins=2) == pytest.approx(0.35)
    # One bin: |2/4 - 2.4/4| = 0.1.
    assert calibration.expected_calibration_error(logits, LABELS, bins=1) == pytest.approx(0.1)


def test_calibration_error_matches_a_loop():
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(500, 5)) * 2, rng.integers(0, 5, 500)
    probs = scipy.special.softmax(logits, 1)
    confidence, right = probs.max(1), probs.argmax(1) == labels
    want = 0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            want += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration.expected_calibration_error(logits, labels) == pytest.approx(want)


def sample(examples=500, classes=5, seed=2, scale=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(examples, classes)) * scale, rng.integers(0, classes, examples)


def test_equal_mass_matches_a_loop():
    logits, labels = sample(503)
    probs = scipy.special.softmax(logits, 1)
    gap = (probs.argmax(1) == labels) - probs.max(1)
    bins = np.array_split(gap[np.argsort(probs.max(1))], 15)
    want = sum(abs(bin_.sum()) for bin_ in bins) / 503
    got = calibration.expected_calibration_error(logits, labels, equal_mass=True)
    assert got == pytest.approx(want, abs=1e-12)


def test_equal_mass_keeps_equal_confidences_together():
    confidence = np.array([0.5, 0.9, 0.5, 0.5, 0.2, 0.3])
    assert calibration.bin_numbers(confidence, 2, True).tolist() == [1, 1, 1, 1, 0, 0]
    assert calibration.bin_numbers(np.array([0.2, 0.9]), 5, True).tolist() == [0, 1]


def test_classwise_error_golden():
    # One bin: class 0 |(.7 + .1 + .5 + .2) - 2| / 4, class 1 |1.3 - 1| / 4, class 2 |1.2 - 1| / 4.
    got = calibration.classwise_calibration_error(np.log(PROBS), LABELS, bins=1)
    assert got == pytest.approx((0.5 + 0.3 + 0.2) / 4 / 3, abs=1e-12)


def test_classwise_error_matches_a_loop():
    logits, labels = sample()
    probs = scipy.special.softmax(logits, 1)
    want = 0
    for number in range(5):
        for low in np.arange(15) / 15:
            inside = (probs[:, number] > low) & (probs[:, number] <= low + 1 / 15)
            if inside.any():
                want += (
                    inside.mean()
                    * abs(np.mean(labels[inside] == number) - probs[inside, number].mean())
                    / 5
                )
    assert calibration.classwise_calibration_error(logits, labels) == pytest.approx(want, abs=1e-12)


def test_reliability_curve_matches_sklearn():
    logits, labels = sample()
    confidence = scipy.special.softmax(logits, 1).max(1)
    right = logits.argmax(1) == labels
    for equal_mass, strategy in ((False, "uniform"), (True, "quantile")):
        rows = calibration.reliability_curve(logits, labels, 10, equal_mass)
        accuracy, predicted = sklearn.calibration.calibration_curve(
            right, confidence, n_bins=10, strategy=strategy
        )
        np.testing.assert_allclose([row["accuracy"] for row in rows], accuracy, atol=1e-12)
        np.testing.assert_allclose([row["confidence"] for row in rows], predicted, atol=1e-12)
        assert sum(row["examples"] for row in rows) == 500
        gaps = [row["examples"] * abs(row["accuracy"] - row["confidence"]) for row in rows]
        assert sum(gaps) / 500 == pytest.approx(
            calibration.expected_calibration_error(logits, labels, 10, equal_mass), abs=1e-12
        )
        for row in rows:
            assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]


def test_temperature_golden():
    # Two classes 3 apart, 80 % right: sigmoid(3 / T) = 0.8, so T = 3 / log(4).
    logits = np.tile([3.0, 0.0], (10, 1))
    assert calibration.fit_temperature(logits, [0] * 8 + [1] * 2) == pytest.approx(
        3 / np.log(4), abs=1e-9
    )


def test_temperature_matches_a_minimiser():
    logits, labels = sample()
    logits[np.arange(500), labels] += 1.5

    def loss(log_t):
        return metrics.negative_log_likelihood(logits / np.exp(log_t), labels)

    want = scipy.optimize.minimize_scalar(loss, bounds=(-2, 2), options={"xatol": 1e-10})
    got = calibration.fit_temperature(logits, labels)
    assert got == pytest.approx(np.exp(want.x), rel=1e-6)
    assert calibration.fit_temperature(4 * logits + 9, labels) == pytest.approx(4 * got, rel=1e-9)


def test_temperature_stays_in_its_limits():
    assert calibration.fit_temperature([[5.0, 0.0]], [0]) == 0.05
    assert calibration.fit_temperature([[5.0, 0.0]], [1]) == 20
    assert calibration.fit_temperature([[1.0, 1.0]], [1]) == 20


def test_temperature_scaling_cures_overconfidence():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4000)
    logits = rng.normal(size=(4000, 10))
    logits[np.arange(4000), labels] += 2.0  # softmax(2 * logits) is the true posterior
    half = 2000
    got = calibration.temperature_scaling(
        6 * logits[:half], labels[:half], 6 * logits[half:], labels[half:]
    )
    assert got["temperature"] == pytest.approx(3, rel=0.1)
    assert got["ece_before"] > 0.1 and got["ece_after"] < 0.03
    assert got["nll_after"] < got["nll_before"] and got["val_examples"] == half
    assert got["ece_before"] == calibration.expected_calibration_error(
        6 * logits[half:], labels[half:]
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: calibration.expected_calibration_error([[1.0, 2.0]], [0], 0),
            "bins must be at least 1",
        ),
        (lambda: calibration.fit_temperature([[1.0, np.nan]], [0]), "not finite"),
        (lambda: calibration.classwise_calibration_error([[1.0, 2.0]], [2]), "0..1, got 2 to 2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def drawn(examples, seed, classes=10):
    """Logits whose softmax is the true posterior, and labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = 5 * rng.normal(size=(examples, classes))
    below = scipy.special.softmax(logits, 1).cumsum(1) > rng.random((examples, 1))
    return logits, below.argmax(1)


@pytest.mark.parametrize(
    "val, labels",
    [
        (5 * np.eye(10)[np.arange(40) % 10], np.arange(40) % 10),  # all right
        (0.5 * np.eye(10)[np.arange(40) % 10], np.arange(40) % 10),  # all right, and unsure of it
        (5 * np.eye(10)[np.arange(40) % 10], (np.arange(40) + 1) % 10),  # all wrong
        (np.zeros((40, 10)), np.arange(40) % 10),  # it says nothing
        (5 * np.eye(10)[[3]], np.array([3])),  # a single photo
    ],
)
def test_no_temperature_is_taken_that_the_photos_do_not_show(val, labels):
    assert calibration.fit_temperature(val, labels) in (0.05, 20)
    got = calibration.temperature_scaling(val, labels, *drawn(500, 0))
    assert got["temperature"] == 1 and got["calibrated"] is False
    assert (got["nll_after"], got["ece_after"]) == (got["nll_before"], got["ece_before"])
    assert not calibration.is_calibrated(got)


@pytest.mark.parametrize("examples", [10, 40])
def test_a_small_validation_set_seldom_does_harm(examples):
    """Of a calibrated model; the likeliest temperature alone loses 0.02 and 0.2 nats on average."""
    test = drawn(5000, 99)
    losses = [
        got["nll_after"] - got["nll_before"]
        for got in (
            calibration.temperature_scaling(*drawn(examples, seed), *test) for seed in range(60)
        )
    ]
    assert np.mean(losses) < 0.02 and np.mean(np.array(losses) > 0.01) < 0.1


def test_a_temperature_is_shown_by_enough_photos():
    logits, labels = drawn(300, 1)
    for factor in (0.4, 3.0):
        got = calibration.temperature_scaling(factor * logits, labels, *drawn(300, 2))
        assert got["calibrated"] is True
        assert got["temperature"] == pytest.approx(factor, rel=0.3)


def test_temperatures_of_earlier_versions():
    assert calibration.is_calibrated({"temperature": 1.7})
    assert not calibration.is_calibrated({"temperature": 0.05})
    assert not calibration.is_calibrated({"temperature": 20.0})
