"""Losses between logits of a teacher and of a student, one value per example."""

import numbers

import tensorflow as tf


def soft_target_kl(teacher_logits, student_logits, temperature=4.0):
    """Softened KL(teacher || student), times T**2 (Hinton et al., 2015, arXiv:1503.02531).

    Computed in float32 through log-softmax whatever the dtype of the logits.

    Args:
      teacher_logits: float [batch, classes]; receives no gradient. A class the teacher rules out
        may be -inf.
      student_logits: float [batch, classes].
      temperature: T > 0, a number or a scalar tensor (which is not checked). T**2 is included:
        the gradient's scale barely depends on T.

    Returns:
      float32 [batch], nats times T**2.

    Raises:
      ValueError: temperature <= 0, class counts that differ, or a single class.
    """
    if isinstance(temperature, numbers.Real) and not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature!r}")
    teacher_logits, student_logits = float32_pair(teacher_logits, student_logits)
    teacher_classes, student_classes = teacher_logits.shape[-1], student_logits.shape[-1]
    if None not in (teacher_classes, student_classes) and teacher_classes != student_classes:
        raise ValueError(
            f"teacher has {teacher_classes} classes, student has {student_classes}: rebuild the "
            "student to match, in the teacher's class order"
        )
    if student_classes == 1:
        raise ValueError(
            "logits have 1 class, over which every softmax is the constant 1: give a binary model "
            "two logits, [batch, 2]"
        )
    temperature = tf.cast(temperature, tf.float32)
    teacher_log_probs = tf.nn.log_softmax(teacher_logits / temperature)
    student_log_probs = tf.nn.log_softmax(student_logits / temperature)
    # Not a plain product: where the teacher's probability is 0 its logarithm is -inf.
    divergence = tf.math.multiply_no_nan(
        teacher_log_probs - student_log_probs, tf.exp(teacher_log_probs)
    )
    return temperature**2 * tf.reduce_sum(divergence, axis=-1)


def tempered_mean(member_logits, temperature):
    """Logits that at one temperature are the mean of an ensemble's tempered probabilities.

    softmax(result / T) = mean over members of softmax(member / T), exactly, at this T; so any loss
    on teacher logits takes an ensemble (the arithmetic mean of Hinton et al., 2015,
    arXiv:1503.02531; the mean of logits is the geometric one).

    Args:
      member_logits: float [batch, members, classes].
      temperature: T > 0, a number or a scalar tensor.

    Returns:
      float32 [batch, classes].
    """
    temperature = tf.cast(temperature, tf.float32)
    log_probs = tf.nn.log_softmax(tf.cast(member_logits, tf.float32) / temperature)
    members = tf.cast(tf.shape(log_probs)[1], tf.float32)
    return temperature * (tf.reduce_logsumexp(log_probs, axis=1) - tf.math.log(members))


def float32_pair(teacher, student):
    """Both tensors in float32, the teacher's without a gradient."""
    teacher = tf.stop_gradient(tf.cast(teacher, tf.float32))
    return teacher, tf.cast(student, tf.float32)
