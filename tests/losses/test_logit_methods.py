"""Losses on logits: oracles, by hand, invariants, gradients, under tf.function and XLA."""

import functools
import math

import keras
import method_oracles as oracles
import numpy as np
import pytest
import reference
import tensorflow as tf

from kdtf import losses

LABELS = np.array([3, 0, 6, 2, 3])
COUNTS = np.array([900, 300, 100, 50, 20, 5, 1])


def draw(seed=0, shape=(5, 7), scale=2.0):
    return (scale * np.random.default_rng(seed).normal(size=(2, *shape))).astype("float32")


def dkd(teacher, student, temperature):
    return losses.dkd_loss(teacher, student, temperature, LABELS, target=0.7, others=3.0)


def dist(teacher, student, temperature):
    return losses.dist_loss(teacher, student, temperature, between=2.0, within=0.5)


# (loss of teacher's and student's logits and a temperature, its oracle)
METHODS = {
    "sigmoid_kl": (losses.sigmoid_kl, oracles.sigmoid_kl),
    "logit_mse": (
        lambda teacher, student, temperature: losses.logit_mse(teacher, student),
        lambda teacher, student, temperature: oracles.logit_mse(teacher, student),
    ),
    "dkd_loss": (
        dkd,
        functools.partial(oracles.dkd, labels=LABELS, target=0.7, others=3.0),
    ),
    "dist_loss": (dist, functools.partial(oracles.dist, between=2.0, within=0.5)),
    "standardized": (losses.standardized(losses.soft_target_kl), oracles.standardized_kl),
    "balanced_teacher": (
        losses.balanced_teacher(losses.soft_target_kl, COUNTS, 0.8),
        functools.partial(oracles.balanced_kl, counts=COUNTS, strength=0.8),
    ),
}


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.mark.parametrize("how", [{}, {"jit_compile": True}], ids=["graph", "xla"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_matches_numpy(method, temperature, how):
    loss, oracle = METHODS[method]
    teacher, student = draw()
    got = tf.function(loss, **how)(teacher, student, temperature)
    assert got.dtype == tf.float32 and got.shape == (5,)
    np.testing.assert_allclose(got, oracle(teacher, student, temperature), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_matches_numerical_and_reaches_the_student_only(method, temperature):
    loss, oracle = METHODS[method]
    teacher, student = (tf.Variable(each) for each in draw(1))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss(teacher, student, temperature))
    teacher_gradient, gradient = tape.gradient(total, [teacher, student])
    assert teacher_gradient is None
    want = oracles.numerical_gradient(
        lambda student: oracle(teacher.numpy(), student, temperature).sum(), student.numpy()
    )
    np.testing.assert_allclose(gradient, want, rtol=1e-4, atol=2e-5)


def test_is_0_where_the_student_is_the_teacher_and_never_less(method):
    loss, _ = METHODS[method]
    teacher, student = draw()
    if method != "balanced_teacher":
        # 1e-8 / (length * length) of DIST's denominator, times T**2.
        np.testing.assert_allclose(loss(teacher, teacher, 2.0), np.zeros(5), atol=1e-5)
    assert (np.asarray(loss(teacher, student, 2.0)) > 0).all()


def test_classes_may_be_in_any_order_and_logits_shifted(method):
    loss, _ = METHODS[method]
    teacher, student = draw()
    want = loss(teacher, student, 3.0)
    if method not in ("sigmoid_kl", "logit_mse"):
        shifted = loss(teacher + 5.0, student - 5.0, 3.0)
        np.testing.assert_allclose(shifted, want, rtol=1e-4, atol=1e-5)
    if method not in ("dkd_loss", "balanced_teacher"):  # which name classes
        order = np.random.default_rng(0).permutation(7)
        mixed = loss(teacher[:, order], student[:, order], 3.0)
        np.testing.assert_allclose(mixed, want, rtol=1e-5)


def test_every_position_of_dense_logits_is_an_example(method):
    loss, _ = METHODS[method]
    if method == "dkd_loss":
        labels = np.tile(LABELS[:, None, None], (1, 2, 3))
        loss = functools.partial(losses.dkd_loss, labels=labels[..., None])
    teacher, student = draw(shape=(5, 2, 3, 7))
    got = (
        tf.function(loss)(teacher, student, temperature=2.0)
        if method == "dkd_loss"
        else loss(teacher, student, 2.0)
    )
    assert got.shape == (5, 2, 3)
    if method == "dkd_loss":
        flat = losses.dkd_loss(
            teacher.reshape(-1, 7), student.reshape(-1, 7), 2.0, labels.reshape(-1)
        )
    else:
        flat = loss(teacher.reshape(-1, 7), student.reshape(-1, 7), 2.0)
    np.testing.assert_allclose(got, np.reshape(flat, (5, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_computes_in_float32(method, dtype):
    loss, oracle = METHODS[method]
    teacher, student = (tf.cast(each, dtype) for each in draw())
    exact = [tf.cast(each, tf.float32).numpy() for each in (teacher, student)]
    got = loss(teacher, student, 2.0)
    assert got.dtype == tf.float32
    np.testing.assert_allclose(got, oracle(*exact, 2.0), rtol=1e-5, atol=1e-6)


def test_extreme_and_equal_logits_give_finite_losses_and_gradients(method):
    loss, _ = METHODS[method]
    for student in (np.zeros((5, 7)), np.full((5, 7), 3.0), 1e4 * np.sign(draw()[0])):
        for teacher in (draw()[0], 1e4 * np.sign(draw()[1]), np.zeros((5, 7))):
            student = tf.Variable(student, dtype=tf.float32)
            with tf.GradientTape() as tape:
                values = loss(tf.constant(teacher, tf.float32), student, 2.0)
            assert np.isfinite(values).all()
            assert np.isfinite(tape.gradient(values, student)).all()


def test_a_class_that_the_teacher_rules_out_may_be_minus_infinity(method):
    loss, _ = METHODS[method]
    teacher, student = draw()
    teacher[:, 1] = -np.inf
    student = tf.Variable(student)
    with tf.GradientTape() as tape:
        values = loss(teacher, student, 2.0)
    assert np.isfinite(values).all() and np.isfinite(tape.gradient(values, student)).all()
    if method not in ("standardized", "logit_mse"):  # which compare with the others' scale or mean
        teacher[:, 1] = -1e4
        np.testing.assert_allclose(values, loss(teacher, student, 2.0), rtol=1e-5)


def test_refuses_other_classes(method):
    loss, _ = METHODS[method]
    with pytest.raises(ValueError, match="teacher has 7 classes, student has 6"):
        loss(np.zeros((5, 7), "float32"), np.zeros((5, 6), "float32"), 2.0)


# By hand


def test_sigmoid_kl_by_hand():
    # T = 2: teacher 3/4, student 1/4 -> KL 1/2 ln 3, times 4; the second logit agrees.
    teacher, student = [[2 * math.log(3.0), 1.0]], tf.Variable([[-2 * math.log(3.0), 1.0]])
    with tf.GradientTape() as tape:
        loss = losses.sigmoid_kl(teacher, student, 2.0)
    np.testing.assert_allclose(loss, [math.log(3.0)], rtol=1e-6)
    # T (q - p) / 2 labels = 2 (1/4 - 3/4) / 2
    np.testing.assert_allclose(tape.gradient(loss, student), [[-0.5, 0.0]], atol=1e-6)


def test_sigmoid_kl_of_one_logit_is_that_of_two():
    teacher, student = draw(shape=(5, 1))
    pairs = [np.concatenate([each, np.zeros_like(each)], -1) for each in (teacher, student)]
    got = losses.sigmoid_kl(teacher, student, 3.0)
    np.testing.assert_allclose(got, reference.soft_target_kl(*pairs, 3.0), rtol=1e-5)


def test_sigmoid_kl_of_a_certain_teacher_is_binary_cross_entropy():
    _, student = draw()
    labels = np.random.default_rng(0).integers(0, 2, (5, 7))
    got = losses.sigmoid_kl(1e4 * (2.0 * labels - 1), student, 1.0)
    want = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)(labels, student)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_logit_mse_by_hand():
    # (1 + 4 + 0) / 3; the class that is ruled out is left out: (1 + 4) / 2.
    teacher = [[1.0, 2.0, 5.0], [1.0, 2.0, -np.inf]]
    np.testing.assert_allclose(losses.logit_mse(teacher, [[0.0, 0.0, 5.0]] * 2), [5 / 3, 2.5])


def test_dkd_by_hand():
    # Teacher (1/2, 3/8, 1/8), student (1/2, 1/8, 3/8), label 0, T = 1. The right class against the
    # others is 1/2 : 1/2 for both: 0. Among the others 3/4 : 1/4 against 1/4 : 3/4: 1/2 ln 3.
    teacher, student = np.log([[4.0, 3.0, 1.0]]), np.log([[4.0, 1.0, 3.0]])
    got = losses.dkd_loss(teacher, student, 1.0, [0], target=5.0, others=2.0)
    np.testing.assert_allclose(got, [math.log(3.0)], rtol=1e-6)
    # Label 1: right 3/8 : 5/8 against 1/8 : 7/8; among the others 4/5 : 1/5 against 4/7 : 3/7.
    binary = 3 / 8 * math.log(3) + 5 / 8 * math.log(5 / 7)
    among = 4 / 5 * math.log(7 / 5) + 1 / 5 * math.log(7 / 15)
    got = losses.dkd_loss(teacher, student, 1.0, [1], target=5.0, others=2.0)
    np.testing.assert_allclose(got, [5 * binary + 2 * among], rtol=1e-6)


def test_dkd_with_the_teachers_own_doubt_is_soft_target_kl():
    teacher, student = draw()
    doubt = 1 - tf.nn.softmax(teacher / 4.0).numpy()[np.arange(5), LABELS]
    parts = [
        losses.dkd_loss(teacher, student, 4.0, LABELS, target=target, others=1.0 - target)
        for target in (1.0, 0.0)
    ]
    want = reference.soft_target_kl(teacher, student, 4.0)
    np.testing.assert_allclose(parts[0] + doubt * parts[1], want, rtol=1e-5)


def test_dkd_takes_the_teachers_class_where_there_is_no_label():
    teacher, student = draw()
    first = teacher.argmax(-1)
    want = losses.dkd_loss(teacher, student, 4.0, first)
    np.testing.assert_array_equal(losses.dkd_loss(teacher, student, 4.0), want)
    mixed = np.where([True, False, True, False, True], LABELS, -1)
    got = losses.dkd_loss(teacher, student, 4.0, mixed[:, None])
    with_labels = losses.dkd_loss(teacher, student, 4.0, LABELS)
    np.testing.assert_array_equal(got, np.where(mixed < 0, want, with_labels))


def test_dkd_of_a_teacher_that_rules_all_others_out_tells_nothing_of_them():
    teacher = np.float32([[0.0, -np.inf, -np.inf]])
    student = tf.Variable([[math.log(3.0), 0.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = losses.dkd_loss(teacher, student, 1.0, [0])
    np.testing.assert_allclose(loss, [math.log(5 / 3)], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, student), [[-0.4, 0.2, 0.2]], rtol=1e-5)


def test_dkd_refuses_two_classes():
    with pytest.raises(ValueError, match="2 classes.*soft_target_kl"):
        losses.dkd_loss(np.zeros((3, 2)), np.zeros((3, 2)))


def test_dist_by_hand():
    # Rows (1/2, 1/4, 1/4) and (1/4, 1/2, 1/4); the student has them exchanged. Along a row the
    # deviations from 1/3 are (2, -1, -1) / 12 and (-1, 2, -1) / 12: correlation -1/2, loss 3/2.
    # Down the columns classes 0 and 1 are reversed (-1, loss 2), class 2 is constant (0, loss 1).
    teacher = np.log([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0]])
    got = losses.dist_loss(teacher, teacher[::-1], 1.0, between=1.0, within=0.0)
    np.testing.assert_allclose(got, [1.5, 1.5], rtol=1e-6)
    got = losses.dist_loss(teacher, teacher[::-1], 1.0, between=0.0, within=1.0)
    np.testing.assert_allclose(got, [5 / 3, 5 / 3], rtol=1e-5)


def test_dist_of_a_batch_of_one_looks_along_its_row_only():
    teacher, student = draw(shape=(1, 7))
    got = losses.dist_loss(teacher, student, 1.0) - losses.dist_loss(
        teacher, student, 1.0, within=0.0
    )
    np.testing.assert_allclose(got, [1.0], rtol=1e-6)


def test_standardized_ignores_the_scale_of_each_photos_logits():
    loss = losses.standardized(losses.soft_target_kl)
    teacher, student = draw()
    scale = np.float32([[0.1], [1], [2], [5], [30]])
    want = loss(teacher, student, 2.0)
    np.testing.assert_allclose(loss(teacher * scale, student / scale, 2.0), want, rtol=1e-4)


def test_standardized_by_hand():
    # (0, 2, 4): mean 2, deviation sqrt(8/3).
    def first(teacher, student):
        return teacher[:, 2] + 10 * student[:, 0]

    score = 2 / math.sqrt(8 / 3)
    got = losses.standardized(first)([[0.0, 2.0, 4.0]], [[0.0, 2.0, 4.0]])
    np.testing.assert_allclose(got, [-9 * score], rtol=1e-6)
    # Of (0, 2, ruled out): mean 1, deviation 1.
    got = losses.standardized(lambda t, s: t[:, 1])([[0.0, 2.0, -np.inf]], [[0.0, 2.0, 4.0]])
    np.testing.assert_allclose(got, [1.0], rtol=1e-6)


def test_a_wrapped_loss_takes_what_the_loss_takes():
    teacher, student = draw()
    plain = losses.standardized(losses.dkd_loss)
    want = losses.dkd_loss(
        oracles.standardized(teacher), oracles.standardized(student), 2.0, LABELS
    )
    np.testing.assert_allclose(plain(teacher, student, 2.0, labels=LABELS), want, rtol=1e-5)
    got = losses.standardized(losses.logit_mse)(teacher, student)
    want = oracles.logit_mse(oracles.standardized(teacher), oracles.standardized(student))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_tempered_mean_by_weights():
    members = np.log(np.float32([[[3, 1], [1, 1]]]))
    got = losses.tempered_mean(members, 1.0, weights=[3, 1])
    # 3/4 (3/4, 1/4) + 1/4 (1/2, 1/2)
    np.testing.assert_allclose(np.exp(got), [[11 / 16, 5 / 16]], rtol=1e-6)
    alike = losses.tempered_mean(members, 2.0, weights=[2, 2])
    np.testing.assert_allclose(alike, losses.tempered_mean(members, 2.0), rtol=1e-6)
    alone = losses.tempered_mean(members, 2.0, weights=[0, 1])
    np.testing.assert_allclose(tf.nn.softmax(alone), [[0.5, 0.5]], rtol=1e-6)
    for weights in ([1, 2, 3], [1, -1], [0, 0], [1, np.nan]):
        with pytest.raises(ValueError, match="weights"):
            losses.tempered_mean(members, 1.0, weights=weights)
