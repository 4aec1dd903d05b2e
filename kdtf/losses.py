"""Distillation losses: pure, per example, teacher first; the Distiller weights and reduces them."""

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
    teacher_logits, student_logits = _float32_pair(teacher_logits, student_logits)
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


def label_cross_entropy(labels, student_logits):
    """Cross-entropy with the labels, 0 where a photo has none.

    The compiled loss for batches of which some photos have a teacher but no label. Reduced over the
    whole batch, a label counts as much as it would if all photos had one. Keras's `ignore_class`
    divides by the photos with a label instead, so the fewer a batch happens to have, the louder
    each: with 6 of 64, that cost 4 points (docs/when_it_helps.md).

        distiller.compile("adam", losses.label_cross_entropy)

    Args:
      labels: int [batch] or [batch, 1], -1 where there is none.
      student_logits: float [batch, classes].

    Returns:
      float32 [batch], nats.
    """
    labels = tf.cast(tf.reshape(labels, [-1]), tf.int32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.maximum(labels, 0), tf.cast(student_logits, tf.float32)
    )
    return tf.where(labels < 0, 0.0, losses)


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
    teacher_features, student_features = _float32_pair(teacher_features, student_features)
    if not teacher_features.shape.is_compatible_with(student_features.shape):
        raise ValueError(
            f"teacher features have shape {tuple(teacher_features.shape)}, student features "
            f"{tuple(student_features.shape)}: add an adapter that maps the student's to the "
            "teacher's, for example a 1x1 Conv2D or a Dense layer"
        )
    error = tf.math.squared_difference(teacher_features, student_features)
    return tf.reduce_mean(tf.reshape(error, [tf.shape(error)[0], -1]), axis=-1)


def _float32_pair(teacher, student):
    teacher = tf.stop_gradient(tf.cast(teacher, tf.float32))
    return teacher, tf.cast(student, tf.float32)
