"""Ranges of int8 activations, chosen from what calibration photos produce."""

import numpy as np

# A layer that is always 0 would get a scale of 0, and the layers around it a multiplier that
# XNNPACK refuses; with 0.1 a dead layer's multiplier stays far below that limit.
SMALLEST_SPAN = 0.1
_SAMPLES = 20_000


class RangeObserver:
    """Remembers the extremes of a tensor, and a sample of its values, over calibration batches.

    Args:
      seed: of the sample.
    """

    def __init__(self, seed=0):
        self.low, self.high = np.inf, -np.inf
        self._samples = []
        self._rng = np.random.default_rng(seed)

    def update(self, values):
        """Adds one batch: float array of any shape.

        Raises:
          ValueError: a value is not finite.
        """
        values = np.asarray(values, np.float32).ravel()
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ValueError(
                f"calibration met values from {low} to {high}: the float student is not finite"
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        if values.size > _SAMPLES:
            values = self._rng.choice(values, _SAMPLES, replace=False)
        self._samples.append(values)

    def range(self, low_limit=-np.inf, high_limit=np.inf):
        """(low, high) that quantises the seen values to int8 with the least squared error.

        Values outside saturate, so the range may be narrower than what was seen: one rare extreme
        should not cost all other values their resolution. It always contains 0 and spans at least
        `SMALLEST_SPAN`.

        Args:
          low_limit, high_limit: values beyond are not worth representing.

        Raises:
          ValueError: nothing was seen.
        """
        if not self._samples:
            raise ValueError("no calibration batch was seen: pass at least one batch of photos")
        samples = np.clip(np.concatenate(self._samples), low_limit, high_limit)
        low = min(float(np.clip(self.low, low_limit, high_limit)), 0.0)
        high = max(float(np.clip(self.high, low_limit, high_limit)), 0.0)
        shares = np.linspace(1.0, 0.3, 36)
        # One end after the other, then the first again: the two hardly depend on each other.
        for _ in range(2):
            high = min(shares * high, key=lambda end: squared_error(samples, low, end))
            low = min(shares * low, key=lambda end: squared_error(samples, end, high))
        return widened(low, high)


def widened(low, high):
    """The range with its upper end raised, where needed, to span `SMALLEST_SPAN`."""
    return float(low), float(max(high, low + SMALLEST_SPAN))


def fake_quantize(values, low, high, bits=8):
    """Values rounded to the grid of an asymmetric integer type (Jacob et al., 2017,
    arXiv:1712.05877).

    Args:
      values: float array.
      low, high: the range, containing 0; it is shifted so that 0 falls on the grid.
      bits: of the integer type.
    """
    levels = 2**bits - 1
    scale = (high - low) / levels
    if not scale > 0:
        return np.zeros_like(values)
    zero_point = np.clip(np.round(-low / scale), 0, levels)
    return (np.clip(np.round(values / scale) + zero_point, 0, levels) - zero_point) * scale


def squared_error(values, low, high, bits=8):
    """Mean squared error of `fake_quantize`."""
    return float(np.mean((values - fake_quantize(values, low, high, bits)) ** 2))
