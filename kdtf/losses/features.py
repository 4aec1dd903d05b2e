"""Losses between features of a teacher and of a student, one value per example."""

import tensorflow as tf

from kdtf.losses.logits import float32_pair


def hint_mse(teacher_features, student_features):
    """Mean squared difference of two feature maps (FitNets; Romero et al., 2015, arXiv:1412.6550).

    Args:
      teacher_features: float [batch, ...]; receives no gradient.
      student_features: float, the same shape.

    Returns:
      float32 [batch]: the mean over all axes but the first.

    Raises:
      ValueError: shapes that differ.
    """
    teacher_features, student_features = float32_pair(teacher_features, student_features)
    if not teacher_features.shape.is_compatible_with(student_features.shape):
        raise ValueError(
            f"teacher features have shape {tuple(teacher_features.shape)}, student features "
            f"{tuple(student_features.shape)}: add an adapter that maps the student's to the "
            "teacher's, for example a 1x1 Conv2D or a Dense layer"
        )
    error = tf.math.squared_difference(teacher_features, student_features)
    return tf.reduce_mean(tf.reshape(error, [tf.shape(error)[0], -1]), axis=-1)
