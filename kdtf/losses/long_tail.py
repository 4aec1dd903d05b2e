"""Losses that keep a long tail of rare classes from paying for the head.

A class's frequency is its photos in the training split, `info.split("train").class_counts`.
"""

import functools

import numpy as np
import tensorflow as tf

from kdtf.losses.labels import label_cross_entropy


def adjusted_cross_entropy(labels, student_logits, class_counts, strength=1.0):
    """Cross-entropy of logits plus log frequency (Menon et al., 2021, arXiv:2007.07314).

    The student need not learn that a class is rare, so its own logits say what all classes being
    equally frequent would mean: the balanced error's optimum.

        loss = functools.partial(losses.adjusted_cross_entropy, class_counts=counts)
        distiller.compile("adam", loss)

    Args:
      labels: int [batch, ...] or [batch, ..., 1], -1 where there is none.
      student_logits: float [batch, ..., classes].
      class_counts: [classes], photos of each class, > 0.
      strength: tau of the paper, >= 0; 0 is `label_cross_entropy`.

    Returns:
      float32 [batch, ...], nats; 0 where there is no label.

    Raises:
      ValueError: counts of another number of classes, or a count that is not > 0.
    """
    student_logits = tf.cast(student_logits, tf.float32)
    shift = strength * _log_frequencies(class_counts, student_logits)
    return label_cross_entropy(labels, student_logits + shift)


def balanced_teacher(loss, class_counts, strength=1.0):
    """A loss on logits whose soft targets are those of equally frequent classes.

    The teacher's softened probabilities are divided by the classes' frequencies and normalised
    (balanced soft targets; after Zhang et al., 2021, arXiv:2104.10510): softmax(teacher / T -
    strength * log frequency). Else a teacher that learned from a long tail teaches its student to
    neglect it.

    Args:
      loss: (teacher_logits, student_logits, temperature, ...) -> float [batch, ...], of softmaxes,
        such as `soft_target_kl`.
      class_counts: [classes], photos of each class in the teacher's training, > 0.
      strength: >= 0; 0 leaves the teacher as it is.

    Returns:
      A function with the arguments of `loss`.

    Raises:
      ValueError: by it, counts of another number of classes, or a count that is not > 0.
    """

    @functools.wraps(loss)
    def balanced(teacher_logits, student_logits, temperature=4.0, **kwargs):
        teacher_logits = tf.cast(teacher_logits, tf.float32)
        shift = strength * _log_frequencies(class_counts, teacher_logits)
        shifted = teacher_logits - tf.cast(temperature, tf.float32) * shift
        return loss(shifted, student_logits, temperature, **kwargs)

    return balanced


def class_balanced_weights(class_counts, beta=0.999):
    """Weights by the effective number of photos (Cui et al., 2019, arXiv:1901.05555).

    A class of n photos weighs (1 - beta) / (1 - beta**n); beta = 0 weighs all alike, and with beta
    to 1 a weight tends to 1 / n. For `data.training_batches(class_weights=...)`, or by class number
    for `fit(class_weight=...)`.

    Args:
      class_counts: [classes], photos of each class, > 0.
      beta: 0 <= beta < 1.

    Returns:
      float64 [classes], of mean 1.

    Raises:
      ValueError: beta out of range, or a count that is not > 0.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be from 0 to below 1, got {beta!r}")
    counts = _checked_counts(class_counts)
    # 1 - beta**n without the rounding of beta**n, which is near 1 where n is small.
    effective = -np.expm1(counts * np.log(beta)) if beta else np.ones_like(counts)
    weights = 1 / effective
    return weights / weights.mean()


def _log_frequencies(class_counts, logits):
    counts = _checked_counts(class_counts)
    if logits.shape[-1] not in (None, len(counts)):
        raise ValueError(
            f"class_counts has {len(counts)} entries, but there are {logits.shape[-1]} classes"
        )
    return tf.constant(np.log(counts / counts.sum()), tf.float32)


def _checked_counts(class_counts):
    counts = np.asarray(class_counts, np.float64)
    if counts.ndim != 1 or not len(counts):
        raise ValueError(f"class_counts must be [classes], got shape {counts.shape}")
    wrong = np.flatnonzero(~(np.isfinite(counts) & (counts > 0)))
    if len(wrong):
        raise ValueError(
            f"class_counts gives class {wrong[0]} {class_counts[wrong[0]]!r} photos, expected more "
            "than 0: a class without photos has no frequency"
        )
    return counts
