"""Losses between features: NumPy oracle, by hand, gradients."""

import numpy as np
import pytest
import reference
import tensorflow as tf

from kdtf import losses


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2, 5)])
def test_hint_mse_matches_numpy(shape):
    teacher, student = np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")
    got = tf.function(losses.hint_mse)(teacher, student)
    assert got.dtype == tf.float32
    np.testing.assert_allclose(got, reference.hint_mse(teacher, student), rtol=1e-5)


def test_hint_mse_by_hand():
    # (1 + 4) / 2 and (0 + 9) / 2.
    got = losses.hint_mse([[1.0, 2.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(got, [2.5, 4.5])


def test_hint_mse_squares_in_float32():
    # 300**2 overflows float16.
    got = losses.hint_mse(tf.constant([[300.0]], tf.float16), tf.constant([[0.0]], tf.float16))
    np.testing.assert_array_equal(got, [90000.0])


def test_hint_mse_gradient_reaches_the_student_only():
    teacher, student = tf.Variable([[1.0, 3.0]]), tf.Variable([[0.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = losses.hint_mse(teacher, student)
    teacher_gradient, gradient = tape.gradient(loss, [teacher, student])
    assert teacher_gradient is None
    np.testing.assert_array_equal(gradient, [[-1.0, -3.0]])


def test_hint_mse_refuses_to_broadcast():
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 8\).*\(2, 4, 4, 1\).*adapter"):
        losses.hint_mse(tf.zeros([2, 4, 4, 8]), tf.zeros([2, 4, 4, 1]))
