"""Frequent and rare classes: head, mid and tail, by their training photos."""

import numpy as np


def head_classes(train_counts, fraction=0.58):
    """Smallest set of most frequent classes that holds `fraction` of the training photos.

    Equally frequent classes are taken in the order of their numbers. At least one class is always
    left over when there are two or more, so head and tail are never the same class. On a balanced
    set the border between equals is arbitrary, but it is the same for every model compared.

    Args:
      train_counts: int [classes], training photos of each class.
      fraction: in (0, 1].

    Returns:
      int [head], class numbers in ascending order.
    """
    counts, order = _by_frequency(train_counts, fraction)
    held = np.cumsum(counts[order])
    # The tolerance keeps 0.58 * 50 = 28.999999999999996 and its kind from adding a class.
    needed = int(np.searchsorted(held, fraction * held[-1] * (1 - 1e-12))) + 1
    return np.sort(order[: min(needed, max(len(counts) - 1, 1))])


def tail_classes(train_counts, fraction=0.2, head_fraction=0.58):
    """Least frequent classes that together hold at most `fraction` of the training photos.

    At least one class, unless there is only one in all; never a class of the head. Of equally
    frequent classes the one with the highest number goes first. Classes without any training
    photo belong here.

    Args:
      train_counts: int [classes], training photos of each class.
      fraction: in (0, 1].
      head_fraction: the head's fraction, see `head_classes`.

    Returns:
      int [tail], class numbers in ascending order.
    """
    counts, order = _by_frequency(train_counts, fraction)
    head = len(head_classes(train_counts, head_fraction))
    rarest_first = order[head:][::-1]
    held = np.cumsum(counts[rarest_first])
    taken = int(np.searchsorted(held, fraction * counts.sum() * (1 + 1e-12)))
    return np.sort(rarest_first[: max(taken, 1)])


def mid_classes(train_counts):
    """Classes that are neither of the head nor of the tail: int [mid], ascending, maybe empty."""
    taken = np.concatenate([head_classes(train_counts), tail_classes(train_counts)])
    return np.setdiff1d(np.arange(len(train_counts)), taken)


def _by_frequency(train_counts, fraction):
    """Checked counts [classes] and the class numbers, most frequent first, ties by number."""
    counts = np.asarray(train_counts)
    if counts.ndim != 1 or not len(counts) or (counts < 0).any() or counts.sum() == 0:
        raise ValueError(
            "train_counts must be a vector of counts >= 0 with at least one photo, got "
            f"shape {counts.shape}, values {counts.tolist()}"
        )
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction!r}")
    return counts, np.argsort(-counts.astype(np.int64), kind="stable")
