"""Losses for a long tail, and the smoothed control: oracles, by hand, invariants, gradients."""

import functools
import math

import method_oracles as oracles
import numpy as np
import pytest
import tensorflow as tf

from kdtf import losses

LABELS = np.array([3, 0, 6, 2, 3])
COUNTS = np.array([900, 300, 100, 50, 20, 5, 1])
ON_LABELS = {
    "smoothed": (
        functools.partial(losses.smoothed_cross_entropy, smoothing=0.2),
        functools.partial(oracles.smoothed_cross_entropy, smoothing=0.2),
    ),
    "adjusted": (
        functools.partial(losses.adjusted_cross_entropy, class_counts=COUNTS, strength=0.7),
        functools.partial(oracles.adjusted_cross_entropy, counts=COUNTS, strength=0.7),
    ),
}


def draw(shape=(5, 7)):
    return (2 * np.random.default_rng(0).normal(size=shape)).astype("float32")


@pytest.mark.parametrize("how", [{}, {"jit_compile": True}], ids=["graph", "xla"])
@pytest.mark.parametrize("name", ON_LABELS)
def test_matches_numpy(name, how):
    loss, oracle = ON_LABELS[name]
    student = tf.Variable(draw())

    @tf.function(**how)
    def loss_and_gradient():
        with tf.GradientTape() as tape:
            values = loss(LABELS, student)
        return values, tape.gradient(values, student)

    values, gradient = loss_and_gradient()
    assert values.dtype == tf.float32
    np.testing.assert_allclose(values, oracle(LABELS, student.numpy()), rtol=2e-6)
    want = oracles.numerical_gradient(lambda logits: oracle(LABELS, logits).sum(), student.numpy())
    np.testing.assert_allclose(gradient, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ON_LABELS)
def test_photos_without_a_label_count_nothing_and_positions_are_examples(name):
    loss, _ = ON_LABELS[name]
    student = draw((2, 3, 7))
    labels = np.array([[3, -1, 6], [2, 3, -1]])
    got = loss(labels[..., None], tf.cast(student, tf.float16))
    assert got.shape == (2, 3) and got.dtype == tf.float32
    flat = loss(labels.reshape(-1), student.reshape(-1, 7))
    np.testing.assert_allclose(np.reshape(got, -1), flat, rtol=1e-2)
    np.testing.assert_array_equal(np.asarray(got) == 0, labels < 0)


def test_smoothed_cross_entropy_by_hand():
    # Probabilities (3/4, 1/4), target (0.9, 0.1).
    got = losses.smoothed_cross_entropy([0], [[math.log(3.0), 0.0]], smoothing=0.2)
    np.testing.assert_allclose(got, [0.9 * math.log(4 / 3) + 0.1 * math.log(4)], rtol=1e-6)
    plain = losses.smoothed_cross_entropy(LABELS, draw(), smoothing=0.0)
    np.testing.assert_allclose(plain, losses.label_cross_entropy(LABELS, draw()), rtol=1e-6)
    with pytest.raises(ValueError, match="smoothing must be from 0 to 1, got 1.5"):
        losses.smoothed_cross_entropy([0], [[0.0, 0.0]], smoothing=1.5)


def test_adjusted_cross_entropy_by_hand():
    # Equal logits, frequencies 3/4 and 1/4: the rare class must be pulled harder.
    got = losses.adjusted_cross_entropy([0, 1], [[0.0, 0.0]] * 2, [30, 10])
    np.testing.assert_allclose(got, [math.log(4 / 3), math.log(4)], rtol=1e-6)
    for counts, strength in ((COUNTS, 0.0), (np.full(7, 5), 1.0)):
        same = losses.adjusted_cross_entropy(LABELS, draw(), counts, strength)
        np.testing.assert_allclose(same, losses.label_cross_entropy(LABELS, draw()), rtol=1e-5)


def test_balanced_teacher_by_hand():
    seen = []
    loss = losses.balanced_teacher(
        lambda teacher, student, temperature: seen.append((teacher, temperature)), [30, 10]
    )
    # At T = 2 the teacher says 3/4 : 1/4, as frequent as the classes are: balanced 1/2 : 1/2.
    loss([[2 * math.log(3.0), 0.0]], [[0.0, 0.0]], 2.0)
    np.testing.assert_allclose(tf.nn.softmax(seen[0][0] / 2.0), [[0.5, 0.5]], rtol=1e-6)
    assert float(seen[0][1]) == 2.0


def test_class_balanced_weights_by_hand():
    # beta = 1/2: effective numbers 1, 3/2, 7/4; weights 1, 2/3, 4/7, of mean 47/63.
    got = losses.class_balanced_weights([1, 2, 3], beta=0.5)
    np.testing.assert_allclose(got, np.array([1, 2 / 3, 4 / 7]) * 63 / 47, rtol=1e-12)
    np.testing.assert_allclose(losses.class_balanced_weights([1, 9, 30], beta=0), np.ones(3))
    nearly = losses.class_balanced_weights([1, 2, 4], beta=1 - 1e-12)
    np.testing.assert_allclose(nearly, np.array([4, 2, 1]) * 3 / 7, rtol=1e-9)
    with pytest.raises(ValueError, match="beta must be from 0 to below 1, got 1"):
        losses.class_balanced_weights([1, 2], beta=1)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 0, 1, 1, 1, 1, 1], "class 1 0 photos"),
        ([1, 2], "2 entries, but there are 7 classes"),
        ([[1, 2]], "must be \\[classes\\]"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        losses.adjusted_cross_entropy(LABELS, draw(), counts)
    with pytest.raises(ValueError, match=message):
        losses.balanced_teacher(losses.soft_target_kl, counts)(draw(), draw(), 2.0)
