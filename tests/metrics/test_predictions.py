"""What measures are taken of."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from kdtf import metrics
from kdtf.metrics import predictions

LABELS = np.arange(60) % 10


def logits_of(seed=0, classes=10, scale=2.0):
    return np.random.default_rng(seed).normal(size=(60, classes)) * scale


@pytest.mark.parametrize(
    "measure",
    [
        metrics.expected_calibration_error,
        metrics.classwise_calibration_error,
        metrics.negative_log_likelihood,
        metrics.brier_score_loss,
        metrics.fit_temperature,
        metrics.reliability_curve,
        lambda logits, labels: metrics.evaluate(logits, labels, [5] * 10),
        lambda logits, labels: metrics.teacher_agreement(logits, logits),
    ],
)
@pytest.mark.parametrize("rounded", [None, "float16", "int8"])
def test_probabilities_are_no_logits(measure, rounded):
    probs = scipy.special.softmax(logits_of(), axis=1)
    if rounded == "int8":
        probs = np.rint(probs * 256) / 256
    elif rounded:
        probs = probs.astype(rounded)
    with pytest.raises(ValueError, match="expected logits, got probabilities: all 60 rows"):
        measure(probs, LABELS)
    measure(np.log(probs + 1e-9), LABELS)


@given(st.integers(0, 10**6), st.integers(2, 300), st.floats(0.01, 30))
def test_logits_are_taken_for_logits_and_softmaxes_are_not(seed, classes, scale):
    logits = logits_of(seed, classes, scale)
    labels = np.zeros(60, int)
    predictions.checked(logits, labels)
    predictions.checked(logits - logits.min(), labels)
    probs = scipy.special.softmax(logits, axis=1).astype("float32")
    if not (probs.max(axis=1) == 1).all():
        with pytest.raises(ValueError, match="got probabilities"):
            predictions.checked(probs, labels)


def test_an_answer_of_ones_and_zeros_is_read_as_argmax_reads_it():
    assert metrics.top_k_accuracy(np.eye(10)[LABELS], LABELS, 1) == 1
    predictions.checked(np.zeros((3, 2)), np.zeros(3, int))
    predictions.checked(np.full((3, 1), 1.0), np.zeros(3, int))
