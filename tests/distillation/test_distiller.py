"""The Distiller's loss, teachers, schedules, logs, inputs and refusals."""

import functools

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


def test_hint_loss_matches_numpy_and_trains_its_adapter():
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


def test_a_hint_alone_leaves_the_labels_their_full_weight():
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


# Teachers


@functools.cache
def distilled_by_keras_model():
    student = mlp(2)
    distil(student, mlp(1))
    return student


def _callable_teacher(model, tmp_path):
    return lambda x: model(x["image"], training=False)


def _column_teacher(model, tmp_path):
    return None


def _restored_teacher(model, tmp_path):
    model.export(tmp_path / "teacher", verbose=False)
    restored = tf.saved_model.load(tmp_path / "teacher")
    return lambda x: restored.serve(x["image"])


def _layer_teacher(model, tmp_path):
    model.export(tmp_path / "teacher", verbose=False)
    layer = keras.layers.TFSMLayer(tmp_path / "teacher", call_endpoint="serving_default")
    return lambda x: layer(x["image"])


def _tf_keras_model(model):
    tf_keras = pytest.importorskip("tf_keras")
    inputs = tf_keras.Input((FEATURES,), name="image")
    x = tf_keras.layers.Dense(7, activation="tanh")(inputs)
    # In training mode this would change the logits.
    outputs = tf_keras.layers.Dropout(0.9)(tf_keras.layers.Dense(CLASSES)(x))
    twin = tf_keras.Model(inputs, outputs)
    twin.set_weights(model.get_weights())
    return twin


def _tf_keras_teacher(model, tmp_path):
    return _tf_keras_model(model)


def _tf_keras_restored_teacher(model, tmp_path):
    _tf_keras_model(model).save(tmp_path / "teacher", save_format="tf")
    restored = tf.saved_model.load(tmp_path / "teacher")
    return lambda x: restored(x["image"])


def _dropout_teacher(model, tmp_path):
    return keras.Sequential([model, keras.layers.Dropout(0.9)])


@pytest.mark.parametrize(
    "kind",
    [
        _dropout_teacher,
        _callable_teacher,
        _column_teacher,
        _restored_teacher,
        _layer_teacher,
        _tf_keras_teacher,
        _tf_keras_restored_teacher,
    ],
)
def test_every_kind_of_teacher_gives_the_same_training(kind, tmp_path):
    teacher = mlp(1)
    data = batches(columns=[("meta/region", np.arange(4 * BATCH, dtype="int32"))]).map(
        lambda x, y: (x | {"teacher_logits": teacher(x["image"])}, y)
    )
    student = mlp(2)
    distil(student, kind(teacher, tmp_path), data)
    assert_same_weights(student, distilled_by_keras_model(), atol=1e-6)


def test_cached_logits_may_be_float16():
    teacher = mlp(1)
    data = batches(columns=[("a", np.zeros(4 * BATCH))]).map(
        lambda x, y: (x | {"teacher_logits": tf.cast(teacher(x["image"]), tf.float16)}, y)
    )
    student = mlp(2)
    distil(student, data=data)
    assert_same_weights(student, distilled_by_keras_model(), atol=1e-3)


def test_a_callable_teacher_may_give_features():
    teacher = mlp(1)
    tapped = keras.Model(
        teacher.input, (teacher.output, {"hidden": teacher.get_layer("hidden").output})
    )
    hint = FeatureLoss("hidden", "hidden", losses.hint_mse)
    student, expected = mlp(2), mlp(2)
    distil(expected, teacher, feature_losses=[hint])
    distil(student, lambda x: tapped(x), feature_losses=[hint])
    assert_same_weights(student, expected, atol=1e-6)


def test_missing_teacher_is_told_at_fit():
    with pytest.raises(ValueError, match="no teacher and the batch no column 'teacher_logits'"):
        distil(mlp(1))
    with pytest.raises(ValueError, match=r"x is the columns \['image', 'region'\]"):
        distil(mlp(1), data=batches(columns=[("region", np.zeros(4 * BATCH))]))


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
    assert len(distiller.evaluate(batches(), verbose=0)) == 4


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


# Inputs


def test_models_take_their_own_columns():
    image, region = keras.Input((FEATURES,), name="image"), keras.Input((), name="meta_region")
    embedded = keras.layers.Dense(3)(keras.layers.Reshape((1,))(region))
    logits = keras.layers.Dense(CLASSES)(keras.layers.Concatenate()([image, embedded]))
    with_meta = keras.Model({"image": image, "meta/region": region}, logits)
    # "camera" sorts first and "teacher_logits" last: neither may shift the others.
    data = batches(
        columns=[
            ("camera", np.full(4 * BATCH, 1e6, "float32")),
            ("meta/region", np.arange(4 * BATCH, dtype="int32")),
            ("teacher_logits", np.zeros((4 * BATCH, CLASSES), "float32")),
        ]
    )
    distiller, logs = distil(mlp(1), with_meta, data, epochs=1)
    assert logs["distillation_loss"][0] < 1e3
    assert distiller.predict(data, verbose=0).shape == (4 * BATCH, CLASSES)
    assert distiller.evaluate(data, verbose=0)
    distil(with_meta, mlp(1), data, epochs=1)


# Refusals


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"alpha": 1.5}, "alpha must be a number from 0 to 1.*got 1.5"),
        ({"alpha": -0.1}, "alpha must be"),
        ({"alpha": float("nan")}, "alpha must be"),
        ({"alpha": "half"}, "alpha must be.*'half'"),
        ({"temperature": 0}, "temperature must be a number > 0.*got 0"),
        ({"temperature": float("inf")}, "temperature must be"),
    ],
)
def test_refuses_numbers_out_of_range(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Distiller(mlp(1), mlp(2), **kwargs)


def test_refuses_a_schedule_that_is_no_scalar():
    with pytest.raises(ValueError, match=r"alpha schedule must return a scalar, got shape \(2,\)"):
        distil(mlp(1), mlp(2), alpha=lambda step: tf.constant([0.1, 0.2]))


def test_refuses_class_counts_that_differ():
    with pytest.raises(ValueError, match="teacher has 4 classes, student has 5"):
        Distiller(mlp(1), mlp(2, classes=4))
    teacher = mlp(2, classes=4)
    with pytest.raises(ValueError, match="teacher has 4 classes, student has 5"):
        distil(mlp(1), lambda x: teacher(x))


def test_refuses_unfit_students():
    with pytest.raises(ValueError, match="'late' is not built"):
        Distiller(keras.Sequential([keras.layers.Dense(2)], name="late"), mlp(1))
    inputs = keras.Input((3,))
    two = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)])
    with pytest.raises(ValueError, match="has 2 outputs, expected one, the logits"):
        Distiller(two, mlp(1))
    spatial = keras.Sequential([keras.Input((4, 3)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"logits \[batch, classes\], got shape \(None, 4, 2\)"):
        Distiller(spatial, mlp(1))
    with pytest.raises(TypeError, match="student must be a keras.Model"):
        Distiller(lambda x: x, mlp(1))


def test_refuses_unfit_teachers():
    with pytest.raises(TypeError, match="teacher must be callable"):
        Distiller(mlp(1), "resnet50")
    with pytest.raises(ValueError, match="teacher 'late' is not built"):
        Distiller(mlp(1), keras.Sequential([keras.layers.Dense(CLASSES)], name="late"))
    inputs = keras.Input((FEATURES,))
    two = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)])
    with pytest.raises(ValueError, match="teacher .* has 2 outputs"):
        Distiller(mlp(1), two)
    with pytest.raises(ValueError, match="must return one tensor of logits, got 2 outputs"):
        distil(mlp(1), lambda x: two(x))


def test_refuses_hints_it_cannot_serve():
    hint = FeatureLoss("hidden", "hidden", losses.hint_mse)
    with pytest.raises(ValueError, match="feature_losses need a teacher"):
        Distiller(mlp(1), feature_losses=[hint])
    with pytest.raises(TypeError, match=r"must hold kdtf.taps.Hint, got 'hidden'"):
        Distiller(mlp(1), mlp(2), feature_losses="hidden")
    with pytest.raises(ValueError, match="no layer 'hiden'; near names: .'hidden'"):
        Distiller(mlp(1), mlp(2), feature_losses=[FeatureLoss("hidden", "hiden", losses.hint_mse)])
    with pytest.raises(ValueError, match=r"features of \['hidden'\] are asked for"):
        distil(mlp(1), lambda x: mlp(2)(x), feature_losses=[hint])
    with pytest.raises(ValueError, match="add an adapter"):
        distil(mlp(1), mlp(2, hidden=12), feature_losses=[hint])


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "crossentropy",
        "CategoricalCrossentropy",
        "kl_divergence",
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.CategoricalFocalCrossentropy(),
        keras.losses.KLDivergence(),
        keras.losses.categorical_crossentropy,
        [keras.losses.BinaryCrossentropy()],
    ],
)
def test_refuses_losses_on_probabilities(loss):
    with pytest.raises(ValueError, match=r"expects probabilities.*from_logits=True\)"):
        Distiller(mlp(1), mlp(2)).compile("sgd", loss)


@pytest.mark.parametrize(
    "loss",
    [
        "mse",
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        lambda y, logits: tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits),
    ],
)
def test_takes_losses_on_logits(loss):
    Distiller(mlp(1), mlp(2)).compile("sgd", loss)


def test_refuses_losses_it_cannot_add():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    with pytest.raises(ValueError, match="has reduction=None"):
        Distiller(mlp(1), mlp(2)).compile("sgd", loss)
    with pytest.raises(ValueError, match="loss is None, but with alpha=0.7"):
        Distiller(mlp(1), mlp(2)).compile("sgd")
    with pytest.raises(ValueError, match=r"one loss per example, float \[batch\]; got shape \(\)"):
        distil(mlp(1), mlp(2), distillation_loss=lambda t, s, _: tf.reduce_mean(t - s))
