"""One small distillation in either Keras, for what both Distillers must do alike."""

import keras
import numpy as np
import pytest
import tf_keras

from kdtf import quantize
from kdtf.distillation.distiller import Distiller

CLASSES, FEATURES, ROWS = 3, 4, 8
BOTH = pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras", "tf_keras"])


def other(k):
    return tf_keras if k is keras else keras


def examples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, FEATURES)).astype("float32"), np.arange(ROWS) % CLASSES


def student(k, seed=1, **last):
    k.utils.set_random_seed(seed)
    inputs = k.Input((FEATURES,), name="image")
    hidden = k.layers.Dense(5, activation="tanh", name="hidden")(inputs)
    return k.Model(inputs, k.layers.Dense(CLASSES, name="logits", **last)(hidden))


def hard(k, **kwargs):
    return k.losses.SparseCategoricalCrossentropy(from_logits=True, **kwargs)


def distiller(k, teacher="another", model=None, **kwargs):
    kind = Distiller if k is keras else quantize.QATDistiller
    teacher = student(k, seed=2) if isinstance(teacher, str) else teacher
    return kind(model or student(k), teacher, **kwargs)


def compiled(k, *args, loss="hard", rate=0.1, compiled=None, **kwargs):
    made = distiller(k, *args, **kwargs)
    loss = hard(k) if isinstance(loss, str) and loss == "hard" else loss
    # Eagerly, where a graph would tell nothing more: tracing takes seconds.
    made.compile(
        k.optimizers.SGD(rate), loss, **({"run_eagerly": True} if compiled is None else compiled)
    )
    return made


def step(made, x=None, y=None, *args, **kwargs):
    """Logs of one step, as floats by name."""
    examples_x, examples_y = examples()
    x = examples_x if x is None else x
    y = examples_y if y is None else y
    logs = made.train_on_batch(x, y, *args, return_dict=True, **kwargs)
    return {name: float(value) for name, value in logs.items()}
