"""Losses between features of a teacher and of a student, one value per example.

Maps [batch, ..., channels] of two sizes are compared at the smaller one, axis by axis: of the
larger the mean of the area that falls into each cell is taken.
"""

import numpy as np
import tensorflow as tf

from kdtf.losses.pairs import float32_pair

_SHORTEST = 1e-12  # of vectors that are divided by their length


def hint_mse(teacher_features, student_features):
    """Mean squared difference of two feature maps (FitNets; Romero et al., 2015, arXiv:1412.6550).

    Args:
      teacher_features: float [batch, ..., channels]; receives no gradient.
      student_features: float, as many axes and channels; their sizes between may differ.

    Returns:
      float32 [batch]: the mean over all axes but the first.

    Raises:
      ValueError: numbers of axes or channels that differ.
    """
    teacher_features, student_features = float32_pair(teacher_features, student_features)
    teacher, student = teacher_features.shape, student_features.shape
    if teacher.rank != student.rank or not teacher[-1:].is_compatible_with(student[-1:]):
        raise ValueError(
            f"teacher features have shape {tuple(teacher)}, student features {tuple(student)}: add "
            "an adapter that maps the student's channels to the teacher's "
            "(kdtf.distillation.hint makes it)"
        )
    teacher_features, student_features = _at_one_size(teacher_features, student_features)
    return _mean(tf.math.squared_difference(teacher_features, student_features))


def attention_loss(teacher_features, student_features):
    """Where two feature maps are strong (Zagoruyko and Komodakis, 2017, arXiv:1612.03928).

    The attention of a map is the sum of squares over its channels, as a vector of length 1 over its
    positions; the loss is the mean squared difference of the two. Channels may differ in number.

    Args:
      teacher_features: float [batch, ..., channels] with at least one axis between; receives no
        gradient.
      student_features: float, as many axes; sizes and channels may differ.

    Returns:
      float32 [batch]. Small numbers: the authors' weight of 1000 is usual.

    Raises:
      ValueError: no axis between batch and channels, or numbers of axes that differ.
    """
    teacher_features, student_features = float32_pair(teacher_features, student_features)
    teacher, student = teacher_features.shape, student_features.shape
    if teacher.rank != student.rank or teacher.rank < 3:
        raise ValueError(
            f"teacher features have shape {tuple(teacher)}, student features {tuple(student)}: "
            "attention is where a map [batch, height, width, channels] is strong, name layers "
            "before the pooling"
        )
    maps = _at_one_size(teacher_features, student_features)
    attention = [_unit(_rows(tf.reduce_sum(each**2, axis=-1))) for each in maps]
    return _mean(tf.math.squared_difference(*attention))


def _at_one_size(teacher, student):
    """Maps [batch, ..., channels] as they are, or the larger shrunk, axis by axis."""
    sizes = list(zip(teacher.shape[1:-1], student.shape[1:-1], strict=True))
    for axis, (of_teacher, of_student) in enumerate(sizes, 1):
        if of_teacher == of_student:
            continue
        if None in (of_teacher, of_student):
            raise ValueError(
                f"teacher features have shape {tuple(teacher.shape)}, student features "
                f"{tuple(student.shape)}: to compare them at one size both must be known; give the "
                "models inputs of a fixed size"
            )
        smaller = min(of_teacher, of_student)
        teacher, student = _shrunk(teacher, axis, smaller), _shrunk(student, axis, smaller)
    return teacher, student


def _shrunk(features, axis, cells):
    size = features.shape[axis]
    if size == cells:
        return features
    mean = tf.tensordot(features, tf.constant(area_means(size, cells).T, tf.float32), [[axis], [0]])
    order = list(range(features.shape.rank - 1))
    return tf.transpose(mean, [*order[:axis], features.shape.rank - 1, *order[axis:]])


def area_means(size, cells):
    """float64 [cells, size]: weights of a line's pixels in the mean over each of fewer cells."""
    edges = np.arange(cells + 1) * size / cells
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(overlap, 0) * cells / size


def _rows(values):
    return tf.reshape(values, [tf.shape(values)[0], -1])


def _mean(values):
    return tf.reduce_mean(_rows(values), axis=-1)


def _unit(rows):
    squares = tf.reduce_sum(rows**2, axis=-1, keepdims=True)
    return rows / tf.sqrt(tf.maximum(squares, _SHORTEST**2))
