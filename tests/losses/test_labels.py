"""Losses on labels: by hand and against Keras."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf import losses

DTYPES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-1}


def _logits(seed=0, batch=5, classes=7, scale=3.0):
    return (scale * np.random.default_rng(seed).normal(size=(2, batch, classes))).astype("float32")


def test_label_cross_entropy_by_hand():
    # Probabilities (3/4, 1/4): -ln 3/4 for class 0, -ln 1/4 for class 1. The gradient of a photo
    # with a label is q - y, of one without it is 0.
    student = tf.Variable([[math.log(3.0), 0.0]] * 3)
    with tf.GradientTape() as tape:
        loss = losses.label_cross_entropy(tf.constant([0, -1, 1]), student)
    np.testing.assert_allclose(loss, [math.log(4 / 3), 0, math.log(4)], rtol=1e-6)
    np.testing.assert_allclose(
        tape.gradient(loss, student), [[-0.25, 0.25], [0, 0], [0.75, -0.75]], rtol=1e-6
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_label_cross_entropy_is_that_of_keras_where_all_photos_have_a_label(dtype):
    _, student = _logits(scale=10.0)
    student = tf.cast(student, dtype)
    labels = np.arange(5) % student.shape[1]
    want = keras.losses.sparse_categorical_crossentropy(
        labels, tf.cast(student, tf.float32), from_logits=True
    )
    got = losses.label_cross_entropy(labels[:, np.newaxis], student)
    assert got.dtype == tf.float32
    np.testing.assert_allclose(got, want, rtol=1e-6)
