"""The layers of a functional Keras 3 model: what each one reads and does."""

import keras


def activation_name(layer):
    """Name of a Keras 3 layer's activation function, None if it has none."""
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return "hard_swish" if name == "hard_silu" else name  # Keras 3 has two names for it


def sources(layer):
    """Names of the layers whose outputs a layer of a functional Keras 3 model takes."""
    tensors = [] if type(layer).__name__ == "InputLayer" else keras.tree.flatten(layer.input)
    return [tensor._keras_history.operation.name for tensor in tensors]
