"""Whether one of two classifiers is better: on the same test photos, and over training seeds.

A verdict is "helps", "hurts" or "no difference shown", for the second against the first; beside it
stands how many photos or seeds would be needed to tell a difference of the size seen.
"""

import math

import numpy as np
import scipy.special
import scipy.stats

from kdtf.metrics import correct_by_group
from kdtf.metrics.bootstrap import CALIBRATION_ERRORS, BootstrapStatistics, bootstrap_interval
from kdtf.metrics.intervals import check_confidence, mean_interval
from kdtf.metrics.predictions import check_same_photos

NO_DIFFERENCE = "no difference shown"
_MOST_SEEDS = 2**20


def verdict(*intervals):
    """What intervals [low, high] of a difference say together: they all have to exclude 0.

    Returns:
      "helps" where all lie above 0, "hurts" where all lie below, else `NO_DIFFERENCE`.
    """
    if all(low > 0 for low, _ in intervals):
        return "helps"
    return "hurts" if all(high < 0 for _, high in intervals) else NO_DIFFERENCE


def paired_difference(correct_baseline, correct_distilled, confidence=0.95, power=0.8):
    """Accuracy of the distilled student minus the baseline's, on the same test photos.

    The interval is Newcombe's for paired proportions (1998, Statistics in Medicine 17:2635,
    method 10: Wilson scores with a continuity-corrected correlation). It stays sound near 0 and 1
    and for few photos, where Wald's is too short. The p value is McNemar's exact (binomial) test.
    Both cover the sampling of test photos only, not the variation between training seeds.

    Args:
      correct_baseline: bool [examples], whether the baseline was right.
      correct_distilled: bool [examples], the same photos in the same order.
      confidence: of the interval, in (0, 1).
      power: chance of telling that `needed_test_examples` stands for, in (0, 1).

    Returns:
      dict of difference (float, fraction), interval ([low, high]), confidence, p_value (McNemar's),
      verdict ("helps" or "hurts" when the interval excludes 0 and p_value < 1 - confidence, else
      "no difference shown"), only_baseline and only_distilled (photos that one alone got right),
      test_examples, needed_test_examples (int as `needed_test_examples` gives it, or None) and
      power.
    """
    baseline, distilled = np.asarray(correct_baseline), np.asarray(correct_distilled)
    if baseline.shape != distilled.shape or baseline.ndim != 1 or not len(baseline):
        raise ValueError(
            "correct_baseline and correct_distilled must be two non-empty vectors over the same "
            f"photos, got shapes {baseline.shape} and {distilled.shape}"
        )
    for name, values in (("correct_baseline", baseline), ("correct_distilled", distilled)):
        if values.dtype != bool:
            raise ValueError(
                f"{name} must be bool (prediction == label), got {values.dtype}: class numbers or "
                "probabilities would be counted wrongly"
            )
    check_confidence(confidence)
    examples = len(baseline)
    both = int(np.sum(baseline & distilled))
    only_distilled = int(np.sum(distilled & ~baseline))
    only_baseline = int(np.sum(baseline & ~distilled))
    low, high = _newcombe_interval(both, only_distilled, only_baseline, examples, confidence)
    discordant = only_distilled + only_baseline
    p_value = float(scipy.stats.binomtest(only_distilled, discordant).pvalue) if discordant else 1.0
    outcome = verdict([low, high])
    return {
        "verdict": outcome if p_value < 1 - confidence else NO_DIFFERENCE,
        "difference": (only_distilled - only_baseline) / examples,
        "interval": [low, high],
        "confidence": confidence,
        "p_value": p_value,
        "only_baseline": only_baseline,
        "only_distilled": only_distilled,
        "test_examples": examples,
        "needed_test_examples": needed_test_examples(
            only_baseline / examples, only_distilled / examples, confidence, power
        ),
        "power": power,
    }


def needed_test_examples(only_baseline_share, only_distilled_share, confidence=0.95, power=0.8):
    """Test photos on which McNemar's test would tell two models apart (Connor, 1987).

    Biometrics 43:207, two-sided; it takes the shares for the true ones, so the number is a guide,
    not a promise.

    Args:
      only_baseline_share: share of photos that the baseline alone gets right.
      only_distilled_share: share of photos that the distilled student alone gets right.
      confidence: of the test, in (0, 1).
      power: chance of telling, in (0, 1).

    Returns:
      int, or None where the shares are equal: no number of photos tells then.
    """
    check_confidence(confidence)
    _check_power(power)
    discordant = only_baseline_share + only_distilled_share
    if min(only_baseline_share, only_distilled_share) < 0 or discordant > 1:
        raise ValueError(
            "the shares must be at least 0 and at most 1 together, got "
            f"{only_baseline_share!r} and {only_distilled_share!r}"
        )
    difference = only_distilled_share - only_baseline_share
    if not difference:
        return None
    size = scipy.special.ndtri((1 + confidence) / 2) * math.sqrt(discordant)
    reach = scipy.special.ndtri(power) * math.sqrt(discordant - difference**2)
    return math.ceil(((size + reach) / difference) ** 2)


def paired_bootstrap(
    baseline_logits, distilled_logits, labels, train_counts, confidence=0.95, resamples=1000, seed=0
):
    """Differences of all measures, distilled minus baseline, over the same test photos.

    Both models are measured on the same resamples of the photos. Shares of head, mid and tail
    photos, often few, have Newcombe's interval as in `paired_difference`.

    Args:
      baseline_logits: float [examples, classes].
      distilled_logits: float [examples, classes], the same photos in the same order.
      labels: int [examples].
      train_counts: int [classes], training photos of each class.
      confidence: in (0, 1).
      resamples: how many are drawn.
      seed: int.

    Returns:
      {measure: {"difference": float, "interval": [low, high]}} of top1, macro_f1, nll, brier, ece,
      ece_equal_mass, and of head_top1, mid_top1 and tail_top1 where there are such photos. For nll,
      brier and the calibration errors a negative difference is the better one.
    """
    check_same_photos(baseline_logits=baseline_logits, distilled_logits=distilled_logits)
    check_confidence(confidence)
    pair = [BootstrapStatistics(logits, labels) for logits in (baseline_logits, distilled_logits)]
    whole = np.ones((1, len(labels)))
    before, after = (statistics.measures(whole) for statistics in pair)
    drawn_before, drawn_after = (statistics.replicates(resamples, seed) for statistics in pair)
    differences = {}
    for name in before:
        difference = float(after[name][0] - before[name][0])
        drawn = drawn_after[name] - drawn_before[name]
        if name in CALIBRATION_ERRORS:
            # Resampling shifts both models' errors: in the difference that cancels by itself.
            ends = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
            interval = np.quantile(drawn, ends).tolist()
        else:
            interval = bootstrap_interval(difference, drawn, confidence)
        differences[name] = {"difference": difference, "interval": interval}
    hits = [
        correct_by_group(logits, labels, train_counts)
        for logits in (baseline_logits, distilled_logits)
    ]
    for name in ("head_top1", "mid_top1", "tail_top1"):
        if len(hits[0][name]):
            pairwise = paired_difference(hits[0][name], hits[1][name], confidence)
            differences[name] = {key: pairwise[key] for key in ("difference", "interval")}
    return differences


def seed_difference(baseline, distilled, confidence=0.95, power=0.8):
    """Difference of a measure over training seeds, paired by seed: Student's t.

    It covers what another seed would change on these test photos, not other photos.

    Args:
      baseline: float [seeds], a measure of which more is better, at least two seeds.
      distilled: float [seeds], of the students with the same seeds in the same order.
      confidence: of the interval, in (0, 1).
      power: chance of telling that `needed_seeds` stands for, in (0, 1).

    Returns:
      dict of verdict ("helps", "hurts" when the interval excludes 0, else "no difference shown"),
      difference (mean), interval ([low, high]), confidence, p_value (of the paired t test), seeds,
      needed_seeds (int as `needed_seeds` gives it, or None) and power.
    """
    baseline, distilled = np.asarray(baseline, np.float64), np.asarray(distilled, np.float64)
    if baseline.shape != distilled.shape:
        raise ValueError(
            "baseline and distilled must have one value for each seed, got shapes "
            f"{baseline.shape} and {distilled.shape}"
        )
    gains = distilled - baseline
    gain = mean_interval(gains, confidence)
    spread = float(gains.std(ddof=1))
    if spread:
        p_value = float(scipy.stats.ttest_1samp(gains, 0.0).pvalue)
    else:
        p_value = 0.0 if gain["mean"] else 1.0
    return {
        "verdict": verdict(gain["interval"]),
        "difference": gain["mean"],
        "interval": gain["interval"],
        "confidence": confidence,
        "p_value": p_value,
        "seeds": len(gains),
        "needed_seeds": needed_seeds(gain["mean"], spread, confidence, power),
        "power": power,
    }


def needed_seeds(difference, spread, confidence=0.95, power=0.8):
    """Seeds at which a paired t test would tell two trainings apart, by the noncentral t.

    Args:
      difference: mean over seeds, taken for the true one.
      spread: standard deviation over seeds of the difference, in its unit.
      confidence: of the test, in (0, 1).
      power: chance of telling, in (0, 1).

    Returns:
      int, at least 2; None where the difference is 0 or a million seeds would not do.
    """
    check_confidence(confidence)
    _check_power(power)
    if not difference:
        return None
    if not spread:
        return 2

    def chance(seeds):
        limit = scipy.stats.t.ppf((1 + confidence) / 2, seeds - 1)
        return scipy.stats.nct.sf(limit, seeds - 1, abs(difference) / spread * math.sqrt(seeds))

    low, high = 1, 2
    while chance(high) < power:
        low, high = high, 2 * high
        if high > _MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return high


def _newcombe_interval(both, only_first, only_second, total, confidence):
    """First minus second proportion of paired counts, Newcombe's method 10: (low, high)."""
    neither = total - both - only_first - only_second
    first, second = both + only_first, both + only_second
    wilson = [
        scipy.stats.binomtest(count, total).proportion_ci(confidence, method="wilson")
        for count in (first, second)
    ]
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
        float(difference + reach(second_down, first_up)),
    )


def _check_power(power):
    if not 0 < power < 1:
        raise ValueError(f"power must be between 0 and 1, got {power!r}")
