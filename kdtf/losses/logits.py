"""Losses between logits of a teacher and of a student, one value per example."""

import numpy as np
import tensorflow as tf

from kdtf.losses.pairs import checked_temperature, logit_pair


def soft_target_kl(teacher_logits, student_logits, temperature=4.0):
    """Softened KL(teacher || student), times T**2 (Hinton et al., 2015, arXiv:1503.02531).

    Computed in float32 whatever the dtype of the logits; exact to rounding at every temperature,
    also where the two nearly agree.

    Args:
      teacher_logits: float [batch, ..., classes]; receives no gradient. A class the teacher rules
        out may be -inf.
      student_logits: float, the same shape.
      temperature: T > 0, a number or a scalar tensor (which is not checked). T**2 is included:
        the gradient's scale barely depends on T.

    Returns:
      float32 [batch, ...], nats times T**2.

    Raises:
      ValueError: temperature <= 0, class counts that differ, or a single class.
    """
    temperature = checked_temperature(temperature)
    teacher_logits, student_logits = logit_pair(teacher_logits, student_logits)
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
      float32 [batch, ...], and bool of that shape: where exp does not overflow and all logits are
      finite.
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


def sigmoid_kl(teacher_logits, student_logits, temperature=4.0):
    """Soft targets of labels that stand by themselves: several a photo, or one yes or no.

    The mean over the logits of KL(sigmoid(teacher / T) || sigmoid(student / T)), times T**2: the
    form that goes with `BinaryCrossentropy(from_logits=True)`, which it is, up to a constant,
    where the teacher is certain and T = 1. Of one logit z it is `soft_target_kl` of the two logits
    [z, 0] (the binary form of Hinton et al., 2015, arXiv:1503.02531).

    Args:
      teacher_logits: float [batch, ..., labels]; receives no gradient. One the teacher rules out
        may be -inf.
      student_logits: float, the same shape; one logit, [batch, 1], will do.
      temperature: T > 0, a number or a scalar tensor.

    Returns:
      float32 [batch, ...], nats times T**2, the mean over the labels.

    Raises:
      ValueError: temperature <= 0, numbers of labels that differ.
    """
    teacher_logits, student_logits = logit_pair(teacher_logits, student_logits, fewest=1)
    pairs = [
        tf.stack([logits, tf.zeros_like(logits)], axis=-1)
        for logits in (teacher_logits, student_logits)
    ]
    return tf.reduce_mean(soft_target_kl(*pairs, temperature), axis=-1)


def logit_mse(teacher_logits, student_logits):
    """Mean squared difference of logits (Ba and Caruana, 2014, arXiv:1312.6184; Kim et al., 2021,
    arXiv:2105.08919).

    There is no temperature: up to a factor this is where `soft_target_kl` tends to as T grows, for
    logits whose means agree.

    Args:
      teacher_logits: float [batch, ..., classes]; receives no gradient. Classes that it rules out,
        -inf, are left out of the mean.
      student_logits: float, the same shape.

    Returns:
      float32 [batch, ...]: the mean over the classes.

    Raises:
      ValueError: class counts that differ.
    """
    teacher_logits, student_logits = logit_pair(teacher_logits, student_logits, fewest=1)
    known = tf.math.is_finite(teacher_logits)
    difference = tf.where(known, student_logits - tf.where(known, teacher_logits, 0.0), 0.0)
    count = tf.reduce_sum(tf.cast(known, tf.float32), axis=-1)
    return tf.math.divide_no_nan(tf.reduce_sum(difference**2, axis=-1), count)


def tempered_mean(member_logits, temperature, weights=None):
    """Logits that at one temperature are the mean of an ensemble's tempered probabilities.

    softmax(result / T) = mean over members of softmax(member / T), exactly, at this T; so any loss
    on teacher logits takes an ensemble (the arithmetic mean of Hinton et al., 2015,
    arXiv:1503.02531; the mean of logits is the geometric one).

    Args:
      member_logits: float [batch, members, ..., classes].
      temperature: T > 0, a number or a scalar tensor.
      weights: floats [members] >= 0, of which only the proportions count; None: all alike.

    Returns:
      float32 [batch, ..., classes].

    Raises:
      ValueError: weights of another number, negative, not finite, or all 0.
    """
    temperature = tf.cast(temperature, tf.float32)
    log_probs = tf.nn.log_softmax(tf.cast(member_logits, tf.float32) / temperature)
    if weights is None:
        members = tf.cast(tf.shape(log_probs)[1], tf.float32)
        return temperature * (tf.reduce_logsumexp(log_probs, axis=1) - tf.math.log(members))
    weights = np.asarray(weights, np.float64)
    members = log_probs.shape[1]
    if weights.ndim != 1 or members not in (None, len(weights)):
        raise ValueError(f"the ensemble has {members} members, but weights {weights.tolist()}")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(
            f"weights of an ensemble must be finite, >= 0 and not all 0, got {weights.tolist()}"
        )
    with np.errstate(divide="ignore"):
        shares = np.log(weights / weights.sum()).astype(np.float32)
    shares = tf.reshape(shares, [-1] + [1] * (log_probs.shape.rank - 2))
    return temperature * tf.reduce_logsumexp(log_probs + shares, axis=1)
