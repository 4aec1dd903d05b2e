"""Soft targets in two parts: the right class against the others, and the others by themselves."""

import tensorflow as tf

from kdtf.losses.logits import soft_target_kl
from kdtf.losses.pairs import checked_temperature, class_numbers, logit_pair


def dkd_loss(
    teacher_logits, student_logits, temperature=4.0, labels=None, *, target=1.0, others=8.0
):
    """Decoupled distillation, DKD (Zhao et al., 2022, arXiv:2203.08679).

    With b = (p_label, 1 - p_label), and q the softmax over all classes but the label, all at T:

        T**2 * (target * KL(b teacher || b student) + others * KL(q teacher || q student))

    `soft_target_kl` is the same with target = 1 and others = 1 - the teacher's p_label, so that
    where the teacher is sure it says little of the other classes; here they count the same always.

    Args:
      teacher_logits: float [batch, ..., classes], at least 3 classes; receives no gradient. A class
        the teacher rules out may be -inf.
      student_logits: float, the same shape.
      temperature: T > 0, a number or a scalar tensor.
      labels: int [batch, ...] or [batch, ..., 1]. Where there is none (-1, or None for all), the
        teacher's first class stands for it.
      target: weight of the first part, alpha in the paper.
      others: weight of the second, beta; 1 to 10 in the paper, the larger the surer the teacher.

    Returns:
      float32 [batch, ...], nats times T**2.

    Raises:
      ValueError: temperature <= 0, class counts that differ, fewer than 3 classes.
    """
    temperature = checked_temperature(temperature)
    teacher_logits, student_logits = logit_pair(teacher_logits, student_logits, fewest=3)
    first = tf.argmax(teacher_logits, axis=-1, output_type=tf.int32)
    if labels is None:
        labels = first
    else:
        labels = class_numbers(labels, student_logits)
        labels = tf.where(labels < 0, first, labels)
    teacher_label, teacher_others = _split(teacher_logits / temperature, labels)
    student_label, student_others = _split(student_logits / temperature, labels)
    binary = soft_target_kl(
        _against_others(teacher_label, teacher_others),
        _against_others(student_label, student_others),
        temperature=1.0,
    )
    # A teacher that rules out all but the label tells nothing about the others.
    told = tf.reduce_any(tf.math.is_finite(teacher_others), axis=-1)
    teacher_others = tf.where(told[..., tf.newaxis], teacher_others, 0.0)
    among = soft_target_kl(teacher_others, student_others, temperature=1.0)
    return temperature**2 * (target * binary + others * tf.where(told, among, 0.0))


def _split(logits, labels):
    """(logits of the labels [...], those of the other classes [..., classes - 1])."""
    classes = tf.shape(logits)[-1]
    places = tf.range(classes - 1)
    places += tf.cast(places >= labels[..., tf.newaxis], tf.int32)
    of_label = tf.gather(logits, labels[..., tf.newaxis], axis=-1, batch_dims=labels.shape.rank)
    return of_label[..., 0], tf.gather(logits, places, axis=-1, batch_dims=labels.shape.rank)


def _against_others(of_label, others):
    """Two logits, of the label and of all other classes together."""
    return tf.stack([of_label, tf.reduce_logsumexp(others, axis=-1)], axis=-1)
