"""Any loss on logits, of standardised ones."""

import functools

import tensorflow as tf

from kdtf.losses.pairs import logit_pair

_LEAST_DEVIATION = 1e-3


def standardized(loss):
    """The same loss of z-scores, whatever the logits' scale (Sun et al., 2024, arXiv:2403.01427).

    Each row of logits, the teacher's and the student's, loses its mean and is divided by its
    standard deviation, before the loss divides by the temperature. So a small student need not
    reach the scale of its teacher's logits. The authors weigh the loss by 9 and take T = 2.

        kdtf.Distiller(student, teacher, losses.standardized(losses.soft_target_kl), temperature=2)

    Args:
      loss: (teacher_logits, student_logits, ...) -> float [batch, ...].

    Returns:
      A function with the arguments of `loss`. The deviation is the population's, as in the paper
      (its code divides by classes - 1), and at least 0.001, so that logits that are all alike, as
      those of a head that starts from zeros, get no boundless gradient. A class that the teacher
      rules out, -inf, stays so, and its mean and deviation are those of the others.
    """

    @functools.wraps(loss)
    def of_standardized(teacher_logits, student_logits, *args, **kwargs):
        teacher_logits, student_logits = logit_pair(teacher_logits, student_logits)
        known = tf.math.is_finite(teacher_logits)
        teacher = tf.where(known, teacher_logits, 0.0)
        teacher_scores = tf.where(known, _z_scores(teacher, known), teacher_logits)
        student_scores = _z_scores(student_logits, tf.ones_like(known))
        return loss(teacher_scores, student_scores, *args, **kwargs)

    return of_standardized


def _z_scores(logits, counted):
    counted = tf.cast(counted, tf.float32)
    count = tf.reduce_sum(counted, axis=-1, keepdims=True)
    mean = tf.math.divide_no_nan(tf.reduce_sum(logits * counted, -1, keepdims=True), count)
    squares = tf.reduce_sum(counted * (logits - mean) ** 2, axis=-1, keepdims=True)
    # The root's slope is infinite at 0: bounded before, not after.
    variance = tf.maximum(tf.math.divide_no_nan(squares, count), _LEAST_DEVIATION**2)
    return (logits - mean) / tf.sqrt(variance)
