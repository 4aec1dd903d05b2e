"""Losses between what two networks say of the photos of a batch to each other.

Features of any shape [batch, ...] may be compared with features of any other: no adapter is needed.
The numbers of a batch depend on all its photos; under `tf.distribute` each replica compares its
own.
"""

import tensorflow as tf

from kdtf.losses.pairs import float32_pair

# Of squared distances, beside the batch's mean square: nearer photos are one and the same.
_SAME = 1e-6


def similarity_loss(teacher_features, student_features):
    """Similarity-preserving distillation (Tung and Mori, 2019, arXiv:1907.09682).

    The similarity of two photos is the product of their features, and a photo's similarities to all
    of the batch are a row of length 1: photos that are alike to the teacher shall be so to the
    student. The mean over the batch of what is returned is the paper's loss, the squared difference
    of both matrices divided by batch**2.

    Args:
      teacher_features: float [batch, ...]; receives no gradient.
      student_features: float [batch, ...], of any shape.

    Returns:
      float32 [batch]. Small numbers: the authors weigh them by 3000.
    """
    similarities = []
    for features in float32_pair(teacher_features, student_features):
        products = _products(_rows(features))
        squares = tf.reduce_sum(products**2, axis=-1, keepdims=True)
        similarities.append(products / tf.sqrt(tf.maximum(squares, 1e-24)))
    return tf.reduce_mean(tf.math.squared_difference(*similarities), axis=-1)


def relational_distance_loss(teacher_features, student_features):
    """Distances between photos (RKD-D; Park et al., 2019, arXiv:1904.05068).

    Distances are divided by their mean over the batch, for the teacher and the student each, and
    compared by Huber's loss.

    Args:
      teacher_features: float [batch, ...]; receives no gradient.
      student_features: float [batch, ...], of any shape.

    Returns:
      float32 [batch]: for each photo the mean over its pairs, the one with itself (0) included. The
      authors weigh it by 25.
    """
    pairs = []
    for features in float32_pair(teacher_features, student_features):
        squares, apart, _ = _squared_distances(features)
        distances = tf.where(apart, tf.sqrt(squares), 0.0)
        count = tf.reduce_sum(tf.cast(apart, tf.float32))
        mean = tf.math.divide_no_nan(tf.reduce_sum(distances), count)
        pairs.append(tf.math.divide_no_nan(distances, mean))
    return tf.reduce_mean(_huber(pairs[1] - pairs[0]), axis=-1)


def relational_angle_loss(teacher_features, student_features):
    """Angles between three photos (RKD-A; Park et al., 2019, arXiv:1904.05068).

    Cosines of the angles that any two photos make at a third are compared by Huber's loss. Memory
    and time grow with the batch's third power: 8 MB for 128 photos, 64 MB for 256.

    Args:
      teacher_features: float [batch, ...]; receives no gradient.
      student_features: float [batch, ...], of any shape.

    Returns:
      float32 [batch]: for each photo as the vertex, the mean over all pairs of others, itself
      included (cosine 0). The authors weigh it by 50.
    """
    cosines = []
    for features in float32_pair(teacher_features, student_features):
        squares, apart, products = _squared_distances(features)
        own = tf.linalg.diag_part(products)
        # (a_j - a_i)(a_k - a_i) at the vertex i.
        around = products[None] - products[:, :, None] - products[:, None, :] + own[:, None, None]
        inverse = tf.where(apart, tf.math.rsqrt(squares), 0.0)
        cosines.append(around * inverse[:, :, None] * inverse[:, None, :])
    return tf.reduce_mean(_huber(cosines[1] - cosines[0]), axis=[1, 2])


def _squared_distances(features):
    """Squared distances of rows, 1 where two are the same; where they are apart; their products.

    The products are those of rows less their mean, which leaves distances as they are and rounding
    small.
    """
    rows = _rows(features)
    products = _products(rows - tf.reduce_mean(rows, axis=0))
    own = tf.linalg.diag_part(products)
    squares = own[:, None] + own[None] - 2 * products
    apart = squares > _SAME * tf.reduce_mean(own)
    apart &= ~tf.cast(tf.eye(tf.shape(own)[0]), tf.bool)
    return tf.where(apart, squares, 1.0), apart, products


def _products(rows):
    return tf.linalg.matmul(rows, rows, transpose_b=True)


def _rows(values):
    return tf.reshape(values, [tf.shape(values)[0], -1])


def _huber(difference):
    size = tf.abs(difference)
    return tf.where(size < 1, 0.5 * difference**2, size - 0.5)
