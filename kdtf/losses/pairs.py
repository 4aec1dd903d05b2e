"""What every loss between a teacher's and a student's tensors asks of them."""

import numbers

import tensorflow as tf


def float32_pair(teacher, student):
    """Both tensors in float32, the teacher's without a gradient."""
    teacher = tf.stop_gradient(tf.cast(teacher, tf.float32))
    return teacher, tf.cast(student, tf.float32)


def logit_pair(teacher_logits, student_logits, fewest=2):
    """Likewise logits [batch, ..., classes] of the same classes.

    Raises:
      ValueError: class counts that differ, or fewer than `fewest` (1, 2 or 3).
    """
    teacher_logits, student_logits = float32_pair(teacher_logits, student_logits)
    teacher_classes, student_classes = teacher_logits.shape[-1], student_logits.shape[-1]
    if None not in (teacher_classes, student_classes) and teacher_classes != student_classes:
        raise ValueError(
            f"teacher has {teacher_classes} classes, student has {student_classes}: rebuild the "
            "student to match, in the teacher's class order"
        )
    if student_classes == 1 and fewest > 1:
        raise ValueError(
            "logits have 1 class, over which every softmax is the constant 1: take "
            "kdtf.losses.sigmoid_kl, or give a binary model two logits, [batch, 2]"
        )
    if student_classes == 2 and fewest > 2:
        raise ValueError(
            "logits have 2 classes, so beside the right one there is a single other, and nothing "
            "to tell about it: take kdtf.losses.soft_target_kl, or kdtf.losses.sigmoid_kl for one "
            "logit"
        )
    return teacher_logits, student_logits


def checked_temperature(temperature):
    """The temperature as a float32 scalar tensor.

    Raises:
      ValueError: a number that is not > 0. Tensors are not checked.
    """
    if isinstance(temperature, numbers.Real) and not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature!r}")
    return tf.cast(temperature, tf.float32)


def class_numbers(labels, logits):
    """int32 labels in the shape of logits [batch, ..., classes] without their classes.

    Args:
      labels: int, of that shape or with an axis of size 1 behind it.
      logits: float [batch, ..., classes].
    """
    return tf.reshape(tf.cast(labels, tf.int32), tf.shape(logits)[:-1])
