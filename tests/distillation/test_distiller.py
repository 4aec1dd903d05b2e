"""The Distiller's loss, teachers, schedules, logs, inputs and refusals."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    BATCH,
    CLASSES,
    FEATURES,
    assert_same_weights,
    batches,
    distil,
    mlp,
)

from kdtf import losses
from kdtf.distillation.features import FeatureLoss

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
