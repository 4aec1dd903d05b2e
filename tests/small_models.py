"""Small models and data for the tests of the Distiller."""

import contextlib
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import tensorflow as tf

from kdtf.distillation.distiller import Distiller

CLASSES, FEATURES, BATCH = 5, 6, 8
HARD = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mlp(seed, hidden=7, classes=CLASSES, **last):
    """A small dense network whose weights follow from the seed."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((FEATURES,), name="image")
    hidden = keras.layers.Dense(hidden, activation="tanh", name="hidden")(inputs)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits", **last)(hidden))


def busy_mlp(seed, dropout=0.3, activity_losses=True):
    """Batch norm, dropout, regularisers and activity losses: all that `fit` has to handle."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((FEATURES,), name="image")
    x = keras.layers.Dense(9, kernel_regularizer="l2", name="first")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.Dropout(dropout, seed=seed)(keras.layers.ReLU()(x))
    x = keras.layers.Dense(8, kernel_regularizer="l1")(x)
    if activity_losses:
        x = keras.layers.ActivityRegularization(l1=0.01)(x)
        x = keras.layers.Dense(8, activity_regularizer="l2")(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, bias_regularizer="l2")(x))


def batches(count=4, seed=0, batch=BATCH, weights=False, columns=()):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count * batch, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, count * batch)
    x = {"image": x, **{name: values for name, values in columns}} if columns else x
    parts = (x, y, rng.uniform(0, 3, count * batch).astype("float32")) if weights else (x, y)
    return tf.data.Dataset.from_tensor_slices(parts).batch(batch)


def distil(student, teacher=None, data=None, epochs=2, compiled=None, **kwargs):
    distiller = Distiller(student, teacher, **kwargs)
    defaults = {"optimizer": keras.optimizers.Adam(0.01), "loss": HARD}
    distiller.compile(**(defaults | (compiled or {})))
    history = distiller.fit(data or batches(), epochs=epochs, verbose=0)
    return distiller, history.history


@contextlib.contextmanager
def dtype_policy(name):
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def in_new_process(code):
    """Runs Python code that needs to set TensorFlow up before it starts."""
    here = os.path.dirname(__file__)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([here, os.path.dirname(here), *sys.path]),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def assert_same_weights(one, other, **tolerance):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **({"rtol": 0} | tolerance))


def training_photos(count=12, side=8, classes=3):
    """Photos [count, side, side, 3], 0..255, whose class is their brightest colour."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % classes
    x = rng.uniform(0, 200, (count, side, side, 3)) + 55 * np.eye(3)[y][:, None, None]
    return x.round().astype("float32"), y
