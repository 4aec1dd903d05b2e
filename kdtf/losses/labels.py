"""Losses between labels and the logits of a student, one value per example."""

import tensorflow as tf

from kdtf.losses.pairs import class_numbers


def label_cross_entropy(labels, student_logits):
    """Cross-entropy with the labels, 0 where a photo has none.

    The compiled loss for batches of which some photos have a teacher but no label. Reduced over the
    whole batch, a label counts as much as it would if all photos had one. Keras's `ignore_class`
    divides by the photos with a label instead, so the fewer a batch happens to have, the louder
    each: with 6 of 64, that cost 4 points (docs/when_it_helps.md).

        distiller.compile("adam", losses.label_cross_entropy)

    Args:
      labels: int [batch, ...] or [batch, ..., 1], -1 where there is none.
      student_logits: float [batch, ..., classes].

    Returns:
      float32 [batch, ...], nats.
    """
    labels = class_numbers(labels, student_logits)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.maximum(labels, 0), tf.cast(student_logits, tf.float32)
    )
    return tf.where(labels < 0, 0.0, losses)


def smoothed_cross_entropy(labels, student_logits, smoothing=0.1):
    """`label_cross_entropy` with smoothed labels (Szegedy et al., 2016, arXiv:1512.00567).

    The control of every teacher: soft targets that know nothing. What a distilled student gains
    over this one comes from what its teacher knows (Yuan et al., 2020, arXiv:1909.11723, whose
    teacher-free distillation it is at temperature 1).

    Args:
      labels: int [batch, ...] or [batch, ..., 1], -1 where there is none.
      student_logits: float [batch, ..., classes].
      smoothing: share of the target that is spread evenly over all classes, 0 to 1.

    Returns:
      float32 [batch, ...], nats; 0 where there is no label.

    Raises:
      ValueError: smoothing out of range.
    """
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be from 0 to 1, got {smoothing!r}")
    labels = class_numbers(labels, student_logits)
    evenly = -tf.reduce_mean(tf.nn.log_softmax(tf.cast(student_logits, tf.float32)), axis=-1)
    right = label_cross_entropy(labels, student_logits)
    return tf.where(labels < 0, 0.0, (1 - smoothing) * right + smoothing * evenly)
