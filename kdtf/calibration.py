"""How far a classifier's probabilities are from the shares that come true.

Every function takes whole-split arrays and imports no TensorFlow.
"""

import numpy as np
import scipy.special

from kdtf.predictions import checked


def expected_calibration_error(logits, labels, bins=15):
    """Mean gap between confidence and accuracy (Guo et al., 2017, arXiv:1706.04599).

    Top-label, with bins of equal width: the examples are grouped by the probability of the
    predicted class into (0, 1/bins], (1/bins, 2/bins], ..., and the gaps weighted by group size.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      bins: number of groups, at least 1.

    Returns:
      float in [0, 1].
    """
    logits, labels = checked(logits, labels)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins!r}")
    predictions = logits.argmax(axis=1)
    confidence = np.exp(scipy.special.log_softmax(logits, axis=1).max(axis=1))
    group = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(group, weights=(predictions == labels) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))
