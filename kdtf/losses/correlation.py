"""Correlation instead of equality: the order of a teacher's probabilities, not their values."""

import tensorflow as tf

from kdtf.losses.pairs import checked_temperature, logit_pair

_EPSILON = 1e-8  # as in the authors' code


def dist_loss(teacher_logits, student_logits, temperature=4.0, *, between=1.0, within=1.0):
    """DIST: Pearson correlation of probabilities (Huang et al., 2022, arXiv:2205.10536).

    T**2 times

        between * (1 - correlation over the classes of a photo's probabilities at T)
      + within * the mean over classes of (1 - correlation over the photos of the batch)

    The second is of the whole batch, the same number for each of its photos: it needs batches of
    many photos, a batch of one tells nothing by it (correlation 0), and under `tf.distribute` each
    replica looks at its own part.

    Args:
      teacher_logits: float [batch, ..., classes]; receives no gradient. A class the teacher rules
        out may be -inf.
      student_logits: float, the same shape.
      temperature: T > 0, a number or a scalar tensor. The authors take 1 on ImageNet and 4 on
        CIFAR-100.
      between: weight of the relations between classes, beta in the paper.
      within: weight of those within a class, gamma. The authors take 1 and 1, on CIFAR-100 2 and 2.

    Returns:
      float32 [batch, ...], of which only the mean is the paper's loss.

    Raises:
      ValueError: temperature <= 0, class counts that differ, a single class.
    """
    temperature = checked_temperature(temperature)
    teacher_logits, student_logits = logit_pair(teacher_logits, student_logits)
    teacher_probs = tf.nn.softmax(teacher_logits / temperature)
    student_probs = tf.nn.softmax(student_logits / temperature)
    of_photo = 1 - _correlation(teacher_probs, student_probs, axis=-1)
    every_photo = [
        tf.reshape(probs, [-1, tf.shape(probs)[-1]]) for probs in (teacher_probs, student_probs)
    ]
    of_class = 1 - _correlation(*every_photo, axis=0)
    return temperature**2 * (between * of_photo + within * tf.reduce_mean(of_class))


def _correlation(one, other, axis):
    one -= tf.reduce_mean(one, axis, keepdims=True)
    other -= tf.reduce_mean(other, axis, keepdims=True)
    # A root has no slope at 0, where all values are alike.
    lengths = [
        tf.sqrt(tf.maximum(tf.reduce_sum(values**2, axis), 1e-30)) for values in (one, other)
    ]
    return tf.reduce_sum(one * other, axis) / (lengths[0] * lengths[1] + _EPSILON)
