"""Losses between logits of a teacher and of a student, one value per example."""

import numbers

import tensorflow as tf


def soft_target_kl(teacher_logits, student_logits, temperature=4.0):
    """Softened KL(teacher || student), times T**2 (Hinton et al., 2015, arXiv:1503.02531).

    Computed in float32 whatever the dtype of the logits; exact to rounding at every temperature,
    also where the two nearly agree.

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
    # Its gradient is exact, but its value is a small sum of large terms, times T**2.
    divergence = tf.reduce_sum(divergence, axis=-1)
    value, fits = _small_divergence(teacher_logits, student_logits, temperature)
    gradient_only = divergence - tf.stop_gradient(divergence)
    return temperature**2 * tf.where(fits, tf.stop_gradient(value) + gradient_only, divergence)


def _small_divergence(teacher_logits, student_logits, temperature):
    """KL of tempered softmaxes as a sum of terms >= 0.

    With c the difference of the tempered logits less its mean under the teacher's probabilities p,
    KL = log sum p exp(-c) = log(1 + sum p (exp(-c) - 1 + c)).

    Returns:
      float32 [batch], and bool [batch]: where exp does not overflow and all logits are finite.
    """
    probs = tf.nn.softmax(teacher_logits / temperature)
    difference = (teacher_logits - student_logits) / temperature
    centred = difference - tf.reduce_sum(probs * difference, axis=-1, keepdims=True)
    # A difference that is not finite makes its whole row NaN, and NaN compares false (but may be
    # passed over by a maximum under XLA).
    fits = tf.reduce_all(tf.abs(centred) < 30.0, axis=-1)
    centred = tf.where(fits[..., tf.newaxis], centred, 0.0)
    series = centred**2 * (1 / 2 - centred * (1 / 6 - centred * (1 / 24 - centred / 120)))
    terms = tf.where(tf.abs(centred) < 0.1, series, tf.math.expm1(-centred) + centred)
    return tf.math.log1p(tf.reduce_sum(probs * terms, axis=-1)), fits


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
