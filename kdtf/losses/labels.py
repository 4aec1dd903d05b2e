"""Losses between labels and the logits of a student, one value per example."""

import tensorflow as tf


def label_cross_entropy(labels, student_logits):
    """Cross-entropy with the labels, 0 where a photo has none.

    The compiled loss for batches of which some photos have a teacher but no label. Reduced over the
    whole batch, a label counts as much as it would if all photos had one. Keras's `ignore_class`
    divides by the photos with a label instead, so the fewer a batch happens to have, the louder
    each: with 6 of 64, that cost 4 points (docs/when_it_helps.md).

        distiller.compile("adam", losses.label_cross_entropy)

    Args:
      labels: int [batch] or [batch, 1], -1 where there is none.
      student_logits: float [batch, classes].

    Returns:
      float32 [batch], nats.
    """
    labels = tf.cast(tf.reshape(labels, [-1]), tf.int32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.maximum(labels, 0), tf.cast(student_logits, tf.float32)
    )
    return tf.where(labels < 0, 0.0, losses)
