"""How far a measured number may be from the one that more photos or seeds would give.

Shares of photos get Wilson's interval, means over seeds Student's t; for the rest see bootstrap.py.
"""

import math

import numpy as np
import scipy.stats


def proportion_interval(hits, examples, confidence=0.95):
    """Wilson's interval of a share (1927, JASA 22:209): sound for few photos and near 0 and 1.

    Args:
      hits: int, photos that count.
      examples: int, photos in all.
      confidence: in (0, 1).

    Returns:
      [low, high], fractions; None where there are no examples.
    """
    check_confidence(confidence)
    if not examples:
        return None
    if not 0 <= hits <= examples:
        raise ValueError(f"hits must be 0 to {examples} (the number of examples), got {hits!r}")
    interval = scipy.stats.binomtest(int(hits), int(examples)).proportion_ci(
        confidence, method="wilson"
    )
    return [float(interval.low), float(interval.high)]


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
            "with more seeds"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"values must be finite, got {values.tolist()}")
    check_confidence(confidence)
    mean = float(values.mean())
    reach = float(
        scipy.stats.t.ppf((1 + confidence) / 2, len(values) - 1)
        * values.std(ddof=1)
        / math.sqrt(len(values))
    )
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
