"""What a Distiller refuses, and what it says."""

import keras
import pytest
import tensorflow as tf
from small_models import (
    CLASSES,
    FEATURES,
    distil,
    mlp,
)

from kdtf import losses
from kdtf.distillation import validation
from kdtf.distillation.distiller import Distiller
from kdtf.distillation.features import FeatureLoss


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


def test_refuses_feature_losses_it_cannot_serve():
    hint = FeatureLoss("hidden", "hidden", losses.hint_mse)
    with pytest.raises(ValueError, match="feature_losses need a teacher"):
        Distiller(mlp(1), feature_losses=[hint])
    with pytest.raises(TypeError, match=r"must hold kdtf.distillation.FeatureLoss, got 'hidden'"):
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


def conv_net(size=8, channels=3, name="net"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, channels), name="image")
    x = keras.layers.Conv2D(4, 3, name="stem")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(name="relu")(x))
    return keras.Model(inputs, keras.layers.Dense(5, name="logits")(x), name=name)


# Probabilities


def _head(*layers):
    return keras.Sequential([keras.Input((3,)), *layers], name="m")


def _nested(inner):
    return keras.Sequential([keras.Input((3,)), inner, keras.layers.Identity()], name="m")


class Subclassed(keras.Model):
    def __init__(self, activation):
        super().__init__(name="m")
        self.head = keras.layers.Dense(2, activation=activation)

    def call(self, x):
        return self.head(x)


def _functional(function):
    inputs = keras.Input((3,))
    return keras.Model(inputs, function(keras.layers.Dense(2)(inputs)), name="m")


@pytest.mark.parametrize(
    "model",
    [
        lambda: _head(keras.layers.Dense(2, activation="softmax")),
        lambda: _head(keras.layers.Dense(2, activation="sigmoid")),
        lambda: _head(keras.layers.Dense(2), keras.layers.Softmax()),
        lambda: _head(keras.layers.Dense(2), keras.layers.Activation("softmax")),
        lambda: _head(
            keras.layers.Dense(2, activation="softmax"),
            keras.layers.Activation("linear", dtype="float32"),
        ),
        lambda: _nested(_head(keras.layers.Dense(2, activation="softmax"))),
        lambda: _functional(keras.ops.softmax),
        lambda: Subclassed("softmax"),
    ],
)
def test_probabilities_are_refused(model):
    with pytest.raises(ValueError, match="^teacher '.*' ends in a (softmax|sigmoid)"):
        validation.check_logits(model(), "teacher")


def test_probabilities_of_tf_keras_are_refused():
    tf_keras = pytest.importorskip("tf_keras")
    inputs = tf_keras.Input((3,))
    dense = tf_keras.layers.Dense(2, activation="softmax")(inputs)
    for outputs in (dense, tf.nn.softmax(tf_keras.layers.Dense(2)(inputs))):
        with pytest.raises(ValueError, match="ends in a softmax"):
            validation.check_logits(tf_keras.Model(inputs, outputs), "teacher")
    validation.check_logits(tf_keras.Model(inputs, tf_keras.layers.Dense(2)(inputs)), "teacher")


@pytest.mark.parametrize(
    "model",
    [
        lambda: _head(keras.layers.Dense(2)),
        lambda: _head(keras.layers.Dense(4, activation="softmax"), keras.layers.Dense(2)),
        lambda: _head(keras.layers.Dense(2, activation="relu")),
        lambda: _functional(lambda x: x * 2.0),
        lambda: Subclassed("sigmoid"),
        lambda: lambda x: x,
    ],
)
def test_logits_pass(model):
    validation.check_logits(model(), "teacher")
