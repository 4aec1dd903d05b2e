import math

import numpy as np
import pytest
import reference
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdtf import losses

DTYPES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-1}


def _logits(seed=0, batch=5, classes=7, scale=3.0):
    return (scale * np.random.default_rng(seed).normal(size=(2, batch, classes))).astype("float32")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("shift", [0.0, -50.0])
def test_soft_target_kl_matches_numpy(temperature, shift):
    teacher, student = _logits()
    want = reference.soft_target_kl(teacher, student, temperature)
    # The softmax ignores a shift of the logits.
    got = tf.function(losses.soft_target_kl)(teacher + shift, student - shift, temperature)
    assert got.dtype == tf.float32 and got.shape == (5,)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)


def test_soft_target_kl_by_hand():
    # T = 2: softened teacher (3/4, 1/4), student (1/4, 3/4). KL = 1/2 ln 3, times T**2 = 2 ln 3;
    # gradient T (q - p) = (-1, 1).
    teacher = tf.constant([[2 * math.log(3.0), 0.0]])
    student = tf.Variable([[0.0, 2 * math.log(3.0)]])
    with tf.GradientTape() as tape:
        loss = losses.soft_target_kl(teacher, student, temperature=2.0)
    np.testing.assert_allclose(loss, [2 * math.log(3.0)], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, student), [[-1.0, 1.0]], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_soft_target_kl_computes_in_float32(dtype, temperature):
    teacher, student = (tf.cast(a, dtype) for a in _logits(scale=10.0))
    student = tf.Variable(student)

    @tf.function
    def loss_and_gradient():
        with tf.GradientTape() as tape:
            loss = losses.soft_target_kl(teacher, student, temperature)
        return loss, tape.gradient(loss, student)

    loss, gradient = loss_and_gradient()
    exact = [tf.cast(a, tf.float32).numpy() for a in (teacher, student)]
    assert loss.dtype == tf.float32 and gradient.dtype == tf.as_dtype(dtype)
    np.testing.assert_allclose(loss, reference.soft_target_kl(*exact, temperature), rtol=1e-4)
    np.testing.assert_allclose(
        tf.cast(gradient, tf.float32),
        reference.soft_target_kl_gradient(*exact, temperature),
        rtol=DTYPES[dtype],
        atol=1e-2 if dtype != "float32" else 1e-5,
    )


def test_soft_target_kl_gradient_reaches_the_student_only():
    teacher, student = (tf.Variable(a) for a in _logits())
    with tf.GradientTape() as tape:
        loss = losses.soft_target_kl(teacher, student, 3.0)
    teacher_gradient, gradient = tape.gradient(loss, [teacher, student])
    assert teacher_gradient is None
    want = reference.soft_target_kl_gradient(teacher.numpy(), student.numpy(), 3.0)
    np.testing.assert_allclose(gradient, want, atol=1e-5)


def test_soft_target_kl_tends_to_the_logit_regression_of_large_temperatures():
    # Hinton et al., section 2.1: T**2 KL -> sum((s - t)**2) / 2N for logits of mean zero.
    teacher, student = (a - a.mean(axis=-1, keepdims=True) for a in _logits())
    got = losses.soft_target_kl(teacher, student, 100.0)
    np.testing.assert_allclose(got, ((teacher - student) ** 2).sum(-1) / 14, rtol=0.1)


@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays("float32", (2, 3, 4), elements=st.floats(-1e4, 1e4, width=32)),
    st.floats(0.1, 50.0),
)
def test_soft_target_kl_is_finite_and_not_negative(logits, temperature):
    teacher, student = logits
    loss = losses.soft_target_kl(teacher, student, temperature).numpy()
    same = losses.soft_target_kl(teacher, teacher, temperature).numpy()
    assert np.isfinite(loss).all()
    # Where logits lie too far apart for the exact form, rounding may dip below zero.
    assert (loss >= -1e-5 * temperature**2).all()
    np.testing.assert_array_equal(same, np.zeros(3))


def test_soft_target_kl_lets_the_teacher_rule_classes_out():
    student = tf.Variable([[1.0, 2.0, 3.0]])
    with tf.GradientTape() as tape:
        loss = losses.soft_target_kl(np.float32([[0.0, 1.0, -np.inf]]), student, 1.0)
    np.testing.assert_allclose(
        loss, reference.soft_target_kl([[0.0, 1.0, -np.inf]], [[1.0, 2.0, 3.0]], 1.0), rtol=1e-5
    )
    assert np.isfinite(tape.gradient(loss, student)).all()


@pytest.mark.parametrize("how", [{}, {"jit_compile": True}], ids=["graph", "xla"])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 100.0, 1000.0])
@pytest.mark.parametrize("scale", [0.05, 1.0, 10.0])
def test_soft_target_kl_is_exact_at_every_temperature(scale, temperature, how):
    teacher, student = _logits(classes=50, scale=scale)
    want = reference.soft_target_kl(teacher, student, temperature)
    loss = tf.function(losses.soft_target_kl, **how)
    np.testing.assert_allclose(loss(teacher, student, temperature), want, rtol=2e-4)


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays("float32", (2, 3, 4), elements=st.floats(-50, 50, width=32)),
    st.sampled_from([1.0, 4.0, 100.0]),
)
def test_soft_target_kl_keeps_the_gradient_of_the_plain_form_bit_for_bit(logits, temperature):
    teacher, student = logits[0], tf.Variable(logits[1])
    scale = tf.constant(temperature)
    with tf.GradientTape(persistent=True) as tape:
        loss = losses.soft_target_kl(teacher, student, temperature)
        log_probs = [tf.nn.log_softmax(values / scale) for values in (teacher, student)]
        plain = tf.reduce_sum((log_probs[0] - log_probs[1]) * tf.exp(log_probs[0]), axis=-1)
        plain *= scale**2
    np.testing.assert_array_equal(tape.gradient(loss, student), tape.gradient(plain, student))
    # The plain form rounds logarithms of up to 100 and multiplies by T**2.
    np.testing.assert_allclose(loss, plain, rtol=1e-4, atol=2e-5 * temperature**2)


def test_soft_target_kl_stays_infinite_where_the_student_rules_out_what_the_teacher_does_not():
    loss = losses.soft_target_kl([[0.0, 1.0]], [[0.0, -np.inf]], 2.0)
    np.testing.assert_array_equal(loss, [np.inf])


def test_soft_target_kl_takes_a_tensor_for_the_temperature():
    teacher, student = _logits()
    step = tf.function(lambda t: losses.soft_target_kl(teacher, student, t))
    for temperature in (2, 5):
        want = reference.soft_target_kl(teacher, student, temperature)
        np.testing.assert_allclose(step(tf.constant(temperature)), want, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), np.float32(0)])
def test_soft_target_kl_refuses_temperature(temperature):
    with pytest.raises(ValueError, match="temperature must be > 0, got"):
        losses.soft_target_kl(*_logits(), temperature)


def test_soft_target_kl_refuses_class_counts():
    with pytest.raises(ValueError, match="teacher has 4 classes, student has 3"):
        losses.soft_target_kl(tf.zeros([2, 4]), tf.zeros([2, 3]))
    with pytest.raises(ValueError, match="1 class"):
        losses.soft_target_kl(tf.zeros([2, 1]), tf.zeros([2, 1]))
