"""Measures of a classifier and of the difference between two: NumPy in, plain numbers out.

Every function takes whole-split arrays. Scores and shares are fractions in [0, 1], losses are
in nats. Nothing here imports TensorFlow, so results can be recomputed from stored logits.
"""

import math

import numpy as np
import scipy.special
import scipy.stats
import sklearn.metrics


def top_k_accuracy(logits, labels, k):
    """Share of examples whose label is among the k largest logits.

    Equal logits rank by class number, lowest first, as argmax does: k = 1 is exactly
    `argmax(logits) == labels`, and a model that gives every class the same logit earns nothing.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      k: 1 to classes.

    Returns:
      float in [0, 1].
    """
    logits, labels = _checked(logits, labels)
    classes = logits.shape[1]
    if not 1 <= k <= classes:
        raise ValueError(f"k must be 1 to {classes} (the number of classes), got {k!r}")
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(classes)[None, :] < labels[:, None]
    rank = np.sum((logits > own) | ((logits == own) & earlier), axis=1)
    return float(np.mean(rank < k))


def macro_f1_score(predictions, labels, classes):
    """Unweighted mean of the F1 score of every class that occurs in the labels.

    A class that is only predicted, never present, lowers the precision of none but itself and is
    left out: on a test split that lacks some of the classes the mean would otherwise be pulled
    down by classes that no prediction could get right. Computed by scikit-learn.

    Args:
      predictions: int [examples], class numbers.
      labels: int [examples], class numbers.
      classes: how many classes there are; numbers outside 0..classes-1 are refused.

    Returns:
      float in [0, 1].
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            "predictions and labels must be two non-empty vectors of one length, got shapes "
            f"{predictions.shape} and {labels.shape}")
    _check_range("predictions", predictions, classes)
    _check_range("labels", labels, classes)
    return float(sklearn.metrics.f1_score(
        labels, predictions, labels=np.unique(labels), average="macro", zero_division=0))


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
    logits, labels = _checked(logits, labels)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins!r}")
    predictions = logits.argmax(axis=1)
    confidence = np.exp(scipy.special.log_softmax(logits, axis=1).max(axis=1))
    group = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(group, weights=(predictions == labels) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def negative_log_likelihood(logits, labels):
    """Mean of -log softmax(logits)[label], in nats.

    Args:
      logits: float [examples, classes].
      labels: int [examples].

    Returns:
      float, at least 0.
    """
    logits, labels = _checked(logits, labels)
    log_probs = scipy.special.log_softmax(logits, axis=1)
    return float(-log_probs[np.arange(len(labels)), labels].mean())


def head_classes(train_counts, share=0.58):
    """Smallest set of most frequent classes that holds `share` of the training photos.

    Equally frequent classes are taken in the order of their numbers. At least one class is always
    left over when there are two or more, so head and tail are never the same class. On a balanced
    set the border between equals is arbitrary, but it is the same for every model compared.

    Args:
      train_counts: int [classes], training photos of each class.
      share: in (0, 1].

    Returns:
      int [head], class numbers in ascending order.
    """
    counts, order = _by_frequency(train_counts, share)
    held = np.cumsum(counts[order])
    # The tolerance keeps 0.58 * 50 = 28.999999999999996 and its kind from adding a class.
    needed = int(np.searchsorted(held, share * held[-1] * (1 - 1e-12))) + 1
    return np.sort(order[:min(needed, max(len(counts) - 1, 1))])


def tail_classes(train_counts, share=0.2, head_share=0.58):
    """Least frequent classes that together hold at most `share` of the training photos.

    At least one class, unless there is only one in all; never a class of the head. Of equally
    frequent classes the one with the highest number goes first. Classes without any training
    photo belong here.

    Args:
      train_counts: int [classes], training photos of each class.
      share: in (0, 1].
      head_share: the head's share, see `head_classes`.

    Returns:
      int [tail], class numbers in ascending order.
    """
    counts, order = _by_frequency(train_counts, share)
    head = len(head_classes(train_counts, head_share))
    rarest_first = order[head:][::-1]
    held = np.cumsum(counts[rarest_first])
    taken = int(np.searchsorted(held, share * counts.sum() * (1 + 1e-12)))
    return np.sort(rarest_first[:max(taken, 1)])


def evaluate(logits, labels, train_counts):
    """All measures of one model on one split, ready for results.json.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      train_counts: int [classes], training photos of each class: they decide head and tail.

    Returns:
      dict of top1, top5, macro_f1, ece, nll, head_top1, tail_top1 (float; None where the split
      holds no photo of the head or tail) and examples (int). With fewer than five classes top5
      is 1.0.
    """
    logits, labels = _checked(logits, labels)
    classes = logits.shape[1]
    if np.shape(train_counts) != (classes,):
        raise ValueError(
            f"train_counts has shape {np.shape(train_counts)}, the logits have {classes} classes: "
            "pass one count for each class")
    predictions = logits.argmax(axis=1)

    def accuracy_among(chosen):
        mask = np.isin(labels, chosen)
        return float(np.mean(predictions[mask] == labels[mask])) if mask.any() else None

    return {
        "top1": top_k_accuracy(logits, labels, 1),
        "top5": top_k_accuracy(logits, labels, min(5, classes)),
        "macro_f1": macro_f1_score(predictions, labels, classes),
        "ece": expected_calibration_error(logits, labels),
        "nll": negative_log_likelihood(logits, labels),
        "head_top1": accuracy_among(head_classes(train_counts)),
        "tail_top1": accuracy_among(tail_classes(train_counts)),
        "examples": len(labels),
    }


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
    _check_confidence(confidence)
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
    _check_confidence(confidence)
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


def _by_frequency(train_counts, share):
    """Checked counts [classes] and the class numbers, most frequent first, ties by number."""
    counts = np.asarray(train_counts)
    if counts.ndim != 1 or not len(counts) or (counts < 0).any() or counts.sum() == 0:
        raise ValueError(
            "train_counts must be a vector of counts >= 0 with at least one photo, got "
            f"shape {counts.shape}, values {counts.tolist()}")
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share!r}")
    return counts, np.argsort(-counts.astype(np.int64), kind="stable")


def _checked(logits, labels):
    """Logits as float64 [examples, classes] and integer labels [examples], or ValueError."""
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.ndim != 1 or len(logits) != len(labels) or not logits.size:
        raise ValueError(
            "expected logits [examples, classes] and labels [examples] with at least one example, "
            f"got shapes {logits.shape} and {labels.shape}")
    _check_range("labels", labels, logits.shape[1])
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise ValueError(
            f"{len(broken)} of {len(logits)} examples have logits that are not finite, the first "
            f"is example {broken[0]}: the model diverged or its file is broken")
    return logits, labels


def _check_range(name, numbers, classes):
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{name} must be class numbers of an integer type, got {numbers.dtype}")
    if numbers.min() < 0 or numbers.max() >= classes:
        raise ValueError(
            f"{name} must be in 0..{classes - 1}, got {numbers.min()} to {numbers.max()}: model "
            "and data disagree about the classes")


def _check_confidence(confidence):
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence!r}")
