"""Measures of a classifier: NumPy in, plain numbers out.

Every function takes whole-split arrays. Scores and shares are fractions in [0, 1], losses are
in nats. Nothing here imports TensorFlow, so results can be recomputed from stored logits.
"""

import numpy as np
import scipy.special
import sklearn.metrics

from kdtf import calibration
from kdtf.predictions import check_range, checked


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
    logits, labels = checked(logits, labels)
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
    check_range("predictions", predictions, classes)
    check_range("labels", labels, classes)
    return float(sklearn.metrics.f1_score(
        labels, predictions, labels=np.unique(labels), average="macro", zero_division=0))


def negative_log_likelihood(logits, labels):
    """Mean of -log softmax(logits)[label], in nats.

    Args:
      logits: float [examples, classes].
      labels: int [examples].

    Returns:
      float, at least 0.
    """
    logits, labels = checked(logits, labels)
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
    logits, labels = checked(logits, labels)
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
        "ece": calibration.expected_calibration_error(logits, labels),
        "nll": negative_log_likelihood(logits, labels),
        "head_top1": accuracy_among(head_classes(train_counts)),
        "tail_top1": accuracy_among(tail_classes(train_counts)),
        "examples": len(labels),
    }


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
