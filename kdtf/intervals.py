"""How far a measured number may be from the one that more photos or seeds would give."""

import math

import numpy as np
import scipy.stats


def mean_interval(values, confidence=0.95):
    """Mean over training seeds and its Student-t interval.

    Args:
      values: float [seeds], at least two, one result for each seed.
      confidence: in (0, 1).

    Returns:
      dict of mean (float), interval ([low, high]), confidence and count.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"an interval needs a vector of at least two values, got shape {values.shape}: train "
            "with more seeds")
    if not np.isfinite(values).all():
        raise ValueError(f"values must be finite, got {values.tolist()}")
    check_confidence(confidence)
    mean = float(values.mean())
    reach = float(
        scipy.stats.t.ppf((1 + confidence) / 2, len(values) - 1)
        * values.std(ddof=1) / math.sqrt(len(values)))
    return {
        "mean": mean,
        "interval": [mean - reach, mean + reach],
        "confidence": confidence,
        "count": len(values),
    }


def check_confidence(confidence):
    """ValueError unless confidence is in (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence!r}")
