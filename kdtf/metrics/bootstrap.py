"""Bootstrap of measures that are no plain share of photos: what other test photos would have given.

Not the logits are resampled but what each photo adds to sums: a thousand resamples are then a few
matrix products.
"""

import numpy as np
import scipy.sparse
import scipy.special

from kdtf.metrics import calibration
from kdtf.metrics.intervals import check_confidence
from kdtf.metrics.predictions import checked, log_losses, squared_errors, top_label

CALIBRATION_ERRORS = {"ece": False, "ece_equal_mass": True}  # measure: bins of equal mass
_CHUNK = 4_000_000  # cells of a block of resamples: 32 MB however large the split


class BootstrapStatistics:
    """What each photo of a split adds to the sums that a model's measures are made of.

    Bins of equal mass keep the ends that the split itself gives them.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
    """

    def __init__(self, logits, labels):
        logits, labels = checked(logits, labels)
        confidence, correct = top_label(logits, labels)
        gap = correct - confidence
        self._examples, classes = logits.shape
        self._means = np.stack(
            [correct, log_losses(logits, labels), squared_errors(logits, labels)], axis=1
        )
        predictions = logits.argmax(axis=1)
        self._labels = self._spread(labels, 1.0, classes)
        self._predictions = self._spread(predictions, 1.0, classes)
        self._hits = self._spread(labels, correct, classes)
        self._gaps = {
            name: self._spread(
                calibration.bin_numbers(confidence, equal_mass=equal_mass), gap, calibration.BINS
            )
            for name, equal_mass in CALIBRATION_ERRORS.items()
        }

    def measures(self, counts):
        """Measures of resamples.

        Args:
          counts: float64 [resamples, examples], how often each photo is in each resample.

        Returns:
          {"top1", "nll", "brier", "macro_f1", "ece", "ece_equal_mass": float64 [resamples]}.
        """
        drawn = counts.sum(axis=1)
        values = dict(zip(("top1", "nll", "brier"), (counts @ self._means).T / drawn, strict=True))
        photos, answers, hits = (
            counts @ each for each in (self._labels, self._predictions, self._hits)
        )
        present = photos > 0
        scores = 2 * hits / np.where(present, photos + answers, 1.0)
        values["macro_f1"] = (scores * present).sum(axis=1) / present.sum(axis=1)
        for name, gaps in self._gaps.items():
            values[name] = np.abs(counts @ gaps).sum(axis=1) / drawn
        return values

    def replicates(self, resamples=1000, seed=0):
        """`measures` of bootstrap resamples; the same ones for the same seed and examples."""
        return _joined(self.measures(counts) for counts in self._resampled(resamples, seed))

    def intervals(self, confidence=0.95, resamples=1000, seed=0):
        """Intervals of every measure that `measures` gives.

        The calibration errors are sums of absolute gaps, which chance only makes larger: neither a
        percentile nor its mirror image covers them where the model is nearly calibrated. Their
        lower end is the estimate less what the gaps vary by (the triangle inequality; it covers
        more often than it says), their upper end the mirrored percentile, or the estimate where
        that is less.

        Args:
          confidence: in (0, 1).
          resamples: how many are drawn.
          seed: int.

        Returns:
          {measure: [low, high]}.
        """
        check_confidence(confidence)
        whole = np.ones((1, self._examples))
        ends = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
        estimates = {name: float(value[0]) for name, value in self.measures(whole).items()}
        drawn = _joined(
            self.measures(counts) | self._gap_noise(counts)
            for counts in self._resampled(resamples, seed)
        )
        intervals = {}
        for name, estimate in estimates.items():
            if name in CALIBRATION_ERRORS:
                noise = np.quantile(drawn[f"{name}_noise"], ends[1])
                high = 2 * estimate - np.quantile(drawn[name], ends[0])
                intervals[name] = [
                    max(0.0, float(estimate - noise)),
                    min(1.0, max(estimate, float(high))),
                ]
            else:
                intervals[name] = bootstrap_interval(estimate, drawn[name], confidence)
        return intervals

    def _gap_noise(self, counts):
        """Sums over the bins of how far a resample's gaps are from the split's."""
        return {
            f"{name}_noise": np.abs(counts @ gaps - gaps.sum(axis=0)).sum(axis=1) / self._examples
            for name, gaps in self._gaps.items()
        }

    def _resampled(self, resamples, seed):
        return resampled_counts(self._examples, resamples, seed)

    def _spread(self, columns, values, width):
        """Sparse [examples, width] with one value a row."""
        values = np.broadcast_to(np.float64(values), self._examples)
        cells = (np.arange(self._examples), columns)
        return scipy.sparse.csr_array((values, cells), (self._examples, width))


def resampled_counts(examples, resamples=1000, seed=0):
    """How often each photo is in each bootstrap resample (Efron, 1979), block by block.

    Args:
      examples: photos of the split, at least 1.
      resamples: how many are drawn, each of `examples` photos with replacement.
      seed: int; the same seed draws the same resamples, so that models can be compared in pairs.

    Yields:
      float64 [block, examples] of whole numbers; the blocks add up to `resamples` rows.
    """
    if examples < 1 or resamples < 1:
        raise ValueError(
            f"examples and resamples must be at least 1, got {examples!r} and {resamples!r}"
        )
    rng = np.random.default_rng(seed)
    block = max(1, _CHUNK // examples)
    for first in range(0, resamples, block):
        rows = min(block, resamples - first)
        drawn = rng.integers(0, examples, (rows, examples)) + examples * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * examples)
        yield counts.reshape(rows, examples).astype(np.float64)


def bootstrap_interval(estimate, replicates, confidence=0.95):
    """Bias-corrected percentile interval (Efron and Tibshirani, 1993, chapter 14).

    The correction matters for measures that resampling itself shifts, as it does macro-F1 with few
    photos a class. A replicate equal to the estimate counts half as below it.

    Args:
      estimate: the measure on the split itself.
      replicates: float [resamples], the measure on each resample.
      confidence: in (0, 1).

    Returns:
      [low, high].
    """
    check_confidence(confidence)
    replicates = np.asarray(replicates, np.float64)
    if replicates.ndim != 1 or not len(replicates) or not np.isfinite(replicates).all():
        raise ValueError(
            "replicates must be a vector of finite numbers, one for each resample, got shape "
            f"{replicates.shape}"
        )
    below = np.mean(replicates < estimate) + np.mean(replicates == estimate) / 2
    # Half a resample from the ends, beyond which the correction is not known.
    margin = 0.5 / len(replicates)
    shift = scipy.special.ndtri(np.clip(below, margin, 1 - margin))
    reach = scipy.special.ndtri((1 + confidence) / 2)
    ends = scipy.special.ndtr(2 * shift + np.array([-reach, reach]))
    return [float(end) for end in np.quantile(replicates, ends)]


def _joined(blocks):
    """{name: float64 [resamples]} from an iterable of such dicts."""
    blocks = list(blocks)
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
