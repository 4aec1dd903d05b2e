"""What one step computes and logs: losses, weights, schedules, metrics."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import (
    BATCH,
    CLASSES,
    FEATURES,
    HARD,
    assert_same_weights,
    batches,
    busy_mlp,
    distil,
    mlp,
)

from kdtf import losses
from kdtf.distillation.distiller import Distiller
from kdtf.distillation.features import FeatureLoss

# The loss and its gradient


@pytest.mark.parametrize("weighted", [False, True])
def test_one_sgd_step_matches_numpy(weighted):
    alpha, temperature, rate, l2 = 0.6, 3.0, 0.5, 0.01
    teacher = mlp(1, hidden=12)
    keras.utils.set_random_seed(2)
    student = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(l2)),
        ]
    )
    kernel, bias = student.get_weights()
    data = batches(1, weights=weighted)
    x, y, *rest = (part.numpy() for part in next(iter(data)))
    weight = rest[0] if rest else np.ones(BATCH)

    t, s = teacher(x).numpy(), x @ kernel + bias
    soft = reference.weighted_mean(reference.soft_target_kl(t, s, temperature), weight)
    hard = reference.weighted_mean(reference.cross_entropy(y, s), weight)
    by_logits = (
        weight[:, None]
        / BATCH
        * (
            alpha * reference.soft_target_kl_gradient(t, s, temperature)
            + (1 - alpha) * reference.cross_entropy_gradient(y, s)
        )
    )

    _, logs = distil(
        student,
        teacher,
        data,
        epochs=1,
        alpha=alpha,
        temperature=temperature,
        compiled={"optimizer": keras.optimizers.SGD(rate)},
    )
    np.testing.assert_allclose(logs["distillation_loss"], soft, rtol=1e-4)
    np.testing.assert_allclose(logs["label_loss"], hard, rtol=1e-4)
    total = alpha * soft + (1 - alpha) * hard + l2 * (kernel**2).sum()
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-4)
    new_kernel, new_bias = student.get_weights()
    np.testing.assert_allclose(
        new_kernel, kernel - rate * (x.T @ by_logits + 2 * l2 * kernel), atol=1e-5
    )
    np.testing.assert_allclose(new_bias, bias - rate * by_logits.sum(0), atol=1e-5)


def test_a_feature_loss_matches_numpy_and_trains_its_adapter():
    teacher, student = mlp(1, hidden=12), mlp(2)
    adapter = keras.layers.Dense(12, use_bias=False)
    hint = FeatureLoss("hidden", "hidden", losses.hint_mse, weight=2.5, adapter=adapter)
    data = batches(1)
    x = next(iter(data))[0].numpy()
    distiller = Distiller(student, teacher, alpha=0.5, feature_losses=(hint,))
    kernel = adapter.get_weights()[0]
    features = [keras.Model(m.input, m.get_layer("hidden").output)(x) for m in (teacher, student)]
    want = 2.5 * reference.hint_mse(features[0], features[1].numpy() @ kernel).mean()

    distiller.compile("sgd", HARD)
    logs = distiller.fit(data, verbose=0).history
    np.testing.assert_allclose(logs["feature_loss"], want, rtol=1e-4)
    parts = 0.5 * logs["distillation_loss"][0] + 0.5 * logs["label_loss"][0] + want
    np.testing.assert_allclose(logs["loss"], parts, rtol=1e-4)
    assert np.abs(adapter.get_weights()[0] - kernel).max() > 1e-4
    assert any(v is adapter.kernel for v in distiller.trainable_variables)


def test_a_feature_loss_alone_leaves_the_labels_their_full_weight():
    teacher, student = mlp(1), mlp(2)
    hint = FeatureLoss("hidden", "hidden", losses.hint_mse)
    _, logs = distil(student, teacher, batches(1), epochs=1, alpha=0, feature_losses=[hint])
    assert "distillation_loss" not in logs
    np.testing.assert_allclose(
        logs["loss"][0], logs["label_loss"][0] + logs["feature_loss"][0], rtol=1e-6
    )


def test_distillation_loss_is_given_the_teacher_first_and_the_temperature():
    def absolute(teacher_logits, student_logits, temperature):
        return temperature * tf.reduce_sum(
            tf.cast(teacher_logits > student_logits, tf.float32) + 0 * student_logits, axis=-1
        )

    student = mlp(1)
    _, logs = distil(
        student, lambda x: student(x) + 1.0, epochs=1, distillation_loss=absolute, temperature=3.0
    )
    np.testing.assert_allclose(logs["distillation_loss"], 3.0 * CLASSES)


def test_distillation_brings_the_student_to_the_teacher():
    teacher, student = mlp(1, hidden=4), mlp(2, hidden=16)
    _, logs = distil(
        student,
        teacher,
        batches(16),
        epochs=60,
        alpha=1,
        log_agreement=True,
        compiled={"optimizer": keras.optimizers.Adam(0.03)},
    )
    assert logs["distillation_loss"][-1] < 0.02 * logs["distillation_loss"][0]
    assert logs["teacher_agreement"][-1] > 0.9


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_distillation_loss_is_reduced_like_the_compiled_loss(reduction):
    # With a teacher that is certain, KL is the cross-entropy.
    def one_hot(x):
        return tf.one_hot(tf.cast(x["label"], tf.int32), CLASSES) * 1e4

    labels = np.arange(4 * BATCH) % CLASSES
    data = batches(4, columns=[("label", labels)]).map(
        lambda x, y: (x, x["label"], tf.cast(x["label"] + 1, tf.float32))
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    _, logs = distil(mlp(1), one_hot, data, temperature=1.0, compiled={"loss": loss})
    np.testing.assert_allclose(logs["distillation_loss"], logs["label_loss"], rtol=1e-5)


# Schedules


def test_alpha_and_temperature_follow_the_step():
    teacher, student = mlp(1), mlp(2)
    data = batches(1)
    x, y = next(iter(data))
    alphas, temperatures = [0.0, 0.25, 0.5], [1.0, 2.0, 4.0]
    distiller = Distiller(
        student,
        teacher,
        alpha=lambda step: tf.cast(step, tf.float32) / 4,
        temperature=lambda step: 2**step,
    )
    distiller.compile(keras.optimizers.SGD(0.1), HARD)
    for alpha, temperature in zip(alphas, temperatures, strict=True):
        logits = student(x).numpy()
        soft = reference.soft_target_kl(teacher(x), logits, temperature).mean()
        hard = reference.cross_entropy(y.numpy(), logits).mean()
        logs = distiller.train_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(
            [logs[n] for n in ("alpha", "temperature", "distillation_loss", "loss")],
            [alpha, temperature, soft, alpha * soft + (1 - alpha) * hard],
            rtol=1e-4,
        )


def test_a_constant_schedule_equals_the_number():
    teacher, student, expected = mlp(1), mlp(2), mlp(2)
    distil(expected, teacher, alpha=0.25, temperature=2.0)
    seen = []

    def temperature(step):
        seen.append((step.dtype, step.shape))
        return tf.constant(2.0)

    _, logs = distil(student, teacher, alpha=lambda step: 0.25, temperature=temperature)
    assert_same_weights(student, expected, atol=1e-6)
    assert logs["alpha"] == [0.25, 0.25] and logs["temperature"] == [2.0, 2.0]
    assert set(seen) == {(tf.int64, tf.TensorShape([]))}


def test_a_schedule_counts_updates_under_gradient_accumulation():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    _, logs = distil(
        mlp(1),
        mlp(2),
        batches(4),
        epochs=1,
        alpha=lambda step: tf.cast(step, tf.float32) / 10,
        compiled={"optimizer": optimizer},
    )
    np.testing.assert_allclose(logs["alpha"], [np.mean([0, 0, 0.1, 0.1])], rtol=1e-6)


def test_keras_schedules_serve():
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 4, end_learning_rate=0.0)
    _, logs = distil(mlp(1), mlp(2), batches(4), epochs=2, alpha=schedule)
    np.testing.assert_allclose(logs["alpha"], [np.mean([1, 0.75, 0.5, 0.25]), 0.0], atol=1e-6)


# Logs


def test_logs():
    hint = FeatureLoss("hidden", "hidden", losses.hint_mse)
    distiller, logs = distil(
        mlp(1),
        mlp(2),
        feature_losses=[hint],
        log_agreement=True,
        compiled={"metrics": ["accuracy"]},
    )
    losses_logged = {"loss", "label_loss", "distillation_loss", "feature_loss"}
    assert set(logs) == losses_logged | {"accuracy", "teacher_agreement"}
    result = distiller.evaluate(batches(), verbose=0, return_dict=True)
    assert set(result) == {"loss", "label_loss", "accuracy", "teacher_agreement"}
    assert distiller.evaluate(batches(), verbose=0) == [result["loss"], result["accuracy"]]


def test_teacher_agreement():
    student = mlp(1)
    distiller = Distiller(student, student, log_agreement=True)
    distiller.compile("sgd", HARD)
    x, y = next(iter(batches(1)))
    assert distiller.test_on_batch(x, y, return_dict=True)["teacher_agreement"] == 1.0
    half = Distiller(student, lambda x: tf.one_hot([0, 0], CLASSES), log_agreement=True)
    half.compile("sgd", HARD)
    predicted = student(x).numpy().argmax(-1)
    pair = np.stack([x[np.argmax(predicted == predicted[0])], x[np.argmax(predicted != 0)]])
    want = float(predicted[0] == 0) / 2
    assert half.test_on_batch(pair, y[:2], return_dict=True)["teacher_agreement"] == want


def test_evaluate_is_plain_keras():
    student, plain = busy_mlp(1), busy_mlp(1)
    distiller = Distiller(student, mlp(2))
    data = batches(3, weights=True, batch=7)
    for model in (distiller, plain):
        model.compile("sgd", HARD, metrics=["accuracy"])
    want = plain.evaluate(data, verbose=0, return_dict=True)
    got = distiller.evaluate(data, verbose=0, return_dict=True)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-6)
    assert got["label_loss"] < got["loss"]  # the regularisers


def test_without_labels():
    unlabelled = batches().map(lambda x, y: (x,))
    student, expected = mlp(2), mlp(2)
    distil(expected, mlp(1), alpha=1)
    _, logs = distil(student, mlp(1), unlabelled, alpha=1, compiled={"loss": None})
    assert_same_weights(student, expected, atol=1e-6)
    assert set(logs) == {"loss", "distillation_loss"}
    distiller = Distiller(student, mlp(1), alpha=1)
    distiller.compile("sgd", metrics=["sparse_categorical_accuracy"])
    result = distiller.evaluate(batches(), verbose=0, return_dict=True)
    assert set(result) == {"sparse_categorical_accuracy"}
