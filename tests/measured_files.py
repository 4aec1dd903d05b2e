"""Files for the benchmark to measure or to refuse."""

import keras
import numpy as np

from kdtf import export


def embedding_model():
    """A model whose second input must stay below 3: the tool's own random numbers would not."""
    image = keras.Input((8, 8, 3), name="image")
    region = keras.Input((), dtype="int32", name="meta_region")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    joined = keras.layers.Concatenate()([pooled, keras.layers.Embedding(3, 2)(region)])
    return keras.Model([image, region], keras.layers.Dense(5)(joined))


def spoiled(tmp_path, value):
    model = embedding_model()
    weights = model.get_weights()
    weights[-2] = np.zeros_like(weights[-2])  # Dense kernel: the image plays no part
    weights[-1] = np.full_like(weights[-1], value)
    model.set_weights(weights)
    return export.to_tflite(model, tmp_path / "spoiled.tflite")
