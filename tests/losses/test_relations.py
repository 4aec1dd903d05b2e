"""Losses on features and relations: oracles, by hand, invariants, gradients, XLA."""

import math

import method_oracles as oracles
import numpy as np
import pytest
import reference
import tensorflow as tf

from kdtf import losses
from kdtf.losses.features import area_means

MAPS = (6, 4, 3, 5)
# (loss, oracle, whether its value per example is the oracle's; else its mean is)
METHODS = {
    "hint_mse": (losses.hint_mse, reference.hint_mse, True),
    "attention_loss": (losses.attention_loss, oracles.attention, True),
    "similarity_loss": (losses.similarity_loss, oracles.similarity, False),
    "relational_distance_loss": (
        losses.relational_distance_loss,
        oracles.relational_distance,
        False,
    ),
    "relational_angle_loss": (losses.relational_angle_loss, oracles.relational_angle, False),
}
RELATIONS = ("similarity_loss", "relational_distance_loss", "relational_angle_loss")


def draw(seed=0, shape=MAPS):
    return np.random.default_rng(seed).normal(size=(2, *shape)).astype("float32")


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.mark.parametrize("how", [{}, {"jit_compile": True}], ids=["graph", "xla"])
def test_matches_numpy(method, how):
    loss, oracle, by_example = method
    teacher, student = draw()
    got = tf.function(loss, **how)(teacher, student)
    assert got.dtype == tf.float32 and got.shape == (6,)
    got = got if by_example else tf.reduce_mean(got)
    np.testing.assert_allclose(got, oracle(teacher, student), rtol=2e-6, atol=1e-6)


def test_gradient_matches_numerical_and_reaches_the_student_only(method):
    loss, oracle, _ = method
    teacher, student = (tf.Variable(each) for each in draw(1, (4, 2, 2, 3)))
    with tf.GradientTape() as tape:
        total = tf.reduce_mean(loss(teacher, student))
    teacher_gradient, gradient = tape.gradient(total, [teacher, student])
    assert teacher_gradient is None
    want = oracles.numerical_gradient(
        lambda student: oracle(teacher.numpy(), student).mean(), student.numpy()
    )
    np.testing.assert_allclose(gradient, want, rtol=1e-4, atol=2e-6)


def test_is_0_for_the_teachers_own_features_and_else_positive(method):
    loss, _, _ = method
    teacher, student = draw()
    np.testing.assert_allclose(loss(teacher, teacher), np.zeros(6), atol=1e-9)
    assert (np.asarray(loss(teacher, student)) > 0).all()


def test_is_finite_with_a_gradient_for_dead_and_equal_features(method):
    loss, _, _ = method
    teacher, _ = draw()
    same = np.repeat(teacher[:1], 6, axis=0)
    for student in (np.zeros(MAPS), np.ones(MAPS), same, 1e4 * teacher, teacher):
        for each in (teacher, np.zeros_like(teacher), same):
            student = tf.Variable(student, dtype=tf.float32)
            with tf.GradientTape() as tape:
                values = loss(each, student)
            assert np.isfinite(values).all()
            assert np.isfinite(tape.gradient(values, student)).all()


def test_computes_in_float32(method):
    loss, _, _ = method
    teacher, student = (tf.cast(300 * each, tf.float16) for each in draw())
    want = loss(tf.cast(teacher, tf.float32), tf.cast(student, tf.float32))
    np.testing.assert_array_equal(loss(teacher, student), want)


@pytest.mark.parametrize("name", RELATIONS)
def test_relations_ignore_scale_and_rotation_and_follow_the_order_of_photos(name):
    loss = METHODS[name][0]
    teacher, student = draw(shape=(6, 8))
    want = loss(teacher, student).numpy()
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0].astype("float32")
    np.testing.assert_allclose(loss(teacher * 7, student @ rotation), want, rtol=1e-4)
    if name != "similarity_loss":
        np.testing.assert_allclose(loss(teacher, student + 3.0), want, rtol=1e-4)
    order = [3, 1, 5, 0, 2, 4]
    np.testing.assert_allclose(loss(teacher[order], student[order]), want[order], rtol=1e-5)
    assert loss(teacher, student[:, :3]).shape == (6,)  # of any width


# By hand


def test_attention_by_hand():
    # Two positions, sums of squares (3**2, 4**2 + 0) and (0, 1): unit (9, 16) / sqrt(337), (0, 1).
    got = losses.attention_loss([[[3.0, 0.0], [0.0, -4.0]]], [[[0.0], [1.0]]])
    one = np.array([9, 16]) / math.sqrt(337)
    np.testing.assert_allclose(got, [(one[0] ** 2 + (one[1] - 1) ** 2) / 2], rtol=1e-6)


def test_similarity_by_hand():
    # Teacher's photos alike: rows (1, 1) / sqrt 2. Student's unlike: rows (1, 0), (0, 1).
    got = losses.similarity_loss([[1.0], [1.0]], [[2.0, 0.0], [0.0, 2.0]])
    each = ((1 - 1 / math.sqrt(2)) ** 2 + 1 / 2) / 2
    np.testing.assert_allclose(got, [each, each], rtol=1e-6)


def test_relational_distance_by_hand():
    # On a line: 0, 1, 3 (distances 1, 2, 3 of mean 2) and 0, 1, 2 (1, 1, 2 of mean 4/3).
    teacher, student = [[0.0], [1.0], [3.0]], [[0.0], [1.0], [2.0]]
    d01, d12, d02 = (1 / 2 - 3 / 4, 2 / 2 - 3 / 4, 3 / 2 - 6 / 4)
    want = [(d01**2 + d02**2) / 6, (d01**2 + d12**2) / 6, (d02**2 + d12**2) / 6]
    got = losses.relational_distance_loss(teacher, student)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


def test_relational_angle_by_hand():
    # Teacher: right angle at photo 0, 45 degrees at the others. Student on a line: 0 degrees at
    # photos 1 and 2's far ends, straight (cosine -1) at photo 0 in the middle.
    teacher = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    student = [[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]
    at_0, at_ends = 1 - 0.5, 0.5 * (1 - 1 / math.sqrt(2)) ** 2
    got = losses.relational_angle_loss(teacher, student)
    # Two of nine pairs at each vertex differ: (j, k) and (k, j).
    np.testing.assert_allclose(got, [2 * at_0 / 9, 2 * at_ends / 9, 2 * at_ends / 9], rtol=1e-5)


# Sizes


def test_area_means_by_hand():
    np.testing.assert_allclose(area_means(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(area_means(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-12)
    np.testing.assert_allclose(area_means(7, 3).sum(1), np.ones(3))


@pytest.mark.parametrize("loss", [losses.hint_mse, losses.attention_loss])
def test_maps_of_two_sizes_are_compared_at_the_smaller(loss):
    teacher = draw(shape=(2, 4, 6, 5))[0]
    student = draw(1, shape=(2, 2, 6, 5))[0]
    halved = teacher.reshape(2, 2, 2, 6, 5).mean(2)
    for how in ({}, {"jit_compile": True}):
        got = tf.function(loss, **how)(teacher, student)
        np.testing.assert_allclose(got, loss(halved, student), rtol=1e-5)
        np.testing.assert_allclose(
            tf.function(loss, **how)(student, teacher), loss(student, halved), rtol=1e-5
        )
    wide = np.repeat(np.repeat(student, 3, axis=1), 2, axis=2)  # larger on both axes
    np.testing.assert_allclose(loss(wide, student), np.zeros(2), atol=1e-10)


def test_attention_refuses_what_has_no_positions():
    with pytest.raises(ValueError, match=r"\(2, 5\).*before the pooling"):
        losses.attention_loss(tf.zeros([2, 5]), tf.zeros([2, 5]))
    with pytest.raises(ValueError, match="before the pooling"):
        losses.attention_loss(tf.zeros([2, 4, 4, 5]), tf.zeros([2, 4, 5]))
