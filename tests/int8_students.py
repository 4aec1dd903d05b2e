"""Students made quantization-aware, and photos for them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import training_photos as examples

from kdtf import model_inputs, quantize, students
from kdtf.quantize import folding
from kdtf.students import networks


def photos(student, count=32, seed=0):
    """Columns with blobs of light, so that means differ from photo to photo."""
    rng = np.random.default_rng(seed)
    columns = {}
    for tensor in student.inputs:
        if tensor.name == "image":
            coarse = rng.uniform(0, 255, (count, 4, 4, tensor.shape[-1])).astype("float32")
            columns["image"] = tf.image.resize(coarse, tensor.shape[1:3]).numpy().round()
        else:
            columns[tensor.name.replace("meta_", "meta/")] = np.arange(count, dtype="int32") % 4
    return columns


def realistic(student, seed=0):
    """The student with weights of the kind that training leaves: every term matters."""
    rng = np.random.default_rng(seed)
    for layer in student.layers:
        weights = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            weights[0] = rng.uniform(0.5, 1.5, weights[0].shape)
            weights[1] = rng.normal(0, 0.5, weights[1].shape)
            layer.momentum = 0.0
        elif "logits" in layer.name:
            weights = [
                rng.normal(0, w.shape[-2] ** -0.5 if w.ndim > 1 else 0.5, w.shape) for w in weights
            ]
        layer.set_weights(weights)
    student(model_inputs.prepare_inputs(student, photos(student)), training=True)  # the statistics
    return student


def quantized(student):
    return quantize.quantize_aware(student, [photos(student), (photos(student, seed=1), None)])


def call(model, batch):
    return np.asarray(model(model_inputs.prepare_inputs(model, batch), training=False))


def folded_float(model, batch):
    rows = []
    for i in range(len(batch["image"])):
        row = {name.replace("/", "_"): tf.constant(x[i : i + 1]) for name, x in batch.items()}
        rows.append(
            folding.logits(model, row | {"image": row["image"] - 127.5}, quantized=False)[0]
        )
    return np.stack(rows)


def small(body, size=8, seed=0):
    """A student of a few layers: body(rescaled image) -> logits."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(image)
    return keras.Model(image, body(x), name="small")


def head(x, classes=4):
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.layers.Dense(classes, name="logits")(x)


def mobilenet(**options):
    """Each kind of block once: 4 of 11, because converting takes as long as there are layers."""
    with pytest.MonkeyPatch.context() as patch:
        blocks = networks._SMALL_BLOCKS
        patch.setattr(networks, "_SMALL_BLOCKS", (blocks[0], *blocks[2:5]))
        return students.mobilenet_v3_small(5, 32, width=0.35, **options)


STUDENTS = {
    "tiny_cnn": lambda: students.tiny_cnn(10),
    "cifar_cnn": students.cifar_cnn,
    "mobilenet": mobilenet,
    "metadata": lambda: mobilenet(metadata={"region": 3, "cam": 4}),
    "one column": lambda: mobilenet(metadata={"region": 3}),
}


def swish(x):
    """One convolution, batch norm and hard-swish: converts in a moment."""
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    return head(keras.layers.Activation("hard_swish", name="act")(x))


def student(seed=0):
    """A student of small_models.training_photos, with one of each of the usual layers."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(image)
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="bn")(x)
    x = keras.layers.Activation("relu", name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(3, name="logits")(x), name="small")


def aware(seed=0):
    return quantize.quantize_aware(student(seed), [examples()[0]])
