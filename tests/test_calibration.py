import numpy as np
import pytest
import scipy.special

from kdtf import calibration

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


@pytest.mark.parametrize("call, message", [
    (lambda: calibration.expected_calibration_error([[1.0, 2.0]], [0], 0),
     "bins must be at least 1"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
