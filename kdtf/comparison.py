"""Whether one of two classifiers is better, from the same test photos."""

import math

import numpy as np
import scipy.stats

from kdtf.intervals import check_confidence


def paired_difference(correct_baseline, correct_distilled, confidence=0.95):
    """Accuracy of the distilled student minus the baseline's, on the same test photos.

    The interval is Newcombe's for paired proportions (1998, Statistics in Medicine 17:2635,
    method 10: Wilson scores with a continuity-corrected correlation). It stays sound near 0 and 1
    and for few photos, where Wald's is too short. The p value is McNemar's exact (binomial) test.
    Both cover the sampling of test photos only, not the variation between training seeds.

    Args:
      correct_baseline: bool [examples], whether the baseline was right.
      correct_distilled: bool [examples], the same photos in the same order.
      confidence: of the interval, in (0, 1).

    Returns:
      dict of difference (float, fraction), interval ([low, high]), confidence, p_value,
      verdict ("helps" or "hurts" when the interval excludes 0 and p_value < 1 - confidence, else
      "no difference shown"), only_baseline and only_distilled (photos that one alone got right)
      and test_examples.
    """
    baseline, distilled = np.asarray(correct_baseline), np.asarray(correct_distilled)
    if baseline.shape != distilled.shape or baseline.ndim != 1 or not len(baseline):
        raise ValueError(
            "correct_baseline and correct_distilled must be two non-empty vectors over the same "
            f"photos, got shapes {baseline.shape} and {distilled.shape}")
    for name, values in (("correct_baseline", baseline), ("correct_distilled", distilled)):
        if values.dtype != bool:
            raise ValueError(
                f"{name} must be bool (prediction == label), got {values.dtype}: class numbers or "
                "probabilities would be counted wrongly")
    check_confidence(confidence)
    examples = len(baseline)
    both = int(np.sum(baseline & distilled))
    only_distilled = int(np.sum(distilled & ~baseline))
    only_baseline = int(np.sum(baseline & ~distilled))
    low, high = _newcombe_interval(
        both, only_distilled, only_baseline, examples, confidence)
    discordant = only_distilled + only_baseline
    p_value = (
        float(scipy.stats.binomtest(only_distilled, discordant).pvalue) if discordant else 1.0)
    verdict = "no difference shown"
    if p_value < 1 - confidence and (low > 0 or high < 0):
        verdict = "helps" if low > 0 else "hurts"
    return {
        "verdict": verdict,
        "difference": (only_distilled - only_baseline) / examples,
        "interval": [low, high],
        "confidence": confidence,
        "p_value": p_value,
        "only_baseline": only_baseline,
        "only_distilled": only_distilled,
        "test_examples": examples,
    }


def _newcombe_interval(both, only_first, only_second, total, confidence):
    """First minus second proportion of paired counts, Newcombe's method 10: (low, high)."""
    neither = total - both - only_first - only_second
    first, second = both + only_first, both + only_second
    wilson = [
        scipy.stats.binomtest(count, total).proportion_ci(confidence, method="wilson")
        for count in (first, second)]
    margins = first * (total - first) * second * (total - second)
    cross = both * neither - only_first * only_second
    if cross > 0:
        cross = max(cross - total / 2, 0)
    correlation = cross / math.sqrt(margins) if margins else 0.0
    first_down, first_up = first / total - wilson[0].low, wilson[0].high - first / total
    second_down, second_up = second / total - wilson[1].low, wilson[1].high - second / total

    def reach(a, b):
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    difference = (only_first - only_second) / total
    return (
        float(difference - reach(first_down, second_up)),
        float(difference + reach(second_down, first_up)))
