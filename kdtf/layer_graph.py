"""The layers of a functional model of either Keras: what each reads, who reads it, what it does."""

import dataclasses

import numpy as np
import tensorflow as tf

from kdtf import keras_private


@dataclasses.dataclass(frozen=True)
class Node:
    """A layer in the graph of a model.

    Attributes:
      layer: the layer; in a quantization-aware model tfmot's wrapper around it.
      inputs: tuple of the names of the layers that it reads, one for each tensor; empty for an
        input layer.
      consumers: tuple of the names of the layers that read it, in the model's order; one that
        reads it twice is named twice.
    """

    layer: object
    inputs: tuple[str, ...]
    consumers: tuple[str, ...]

    @property
    def inner(self):
        """The layer without tfmot's wrapper."""
        return unwrapped(self.layer)

    @property
    def activation(self):
        """Name of the layer's activation function, None if it has none."""
        return activation_name(self.layer)


def nodes(model, *, shared=False):
    """The graph of a model.

    Args:
      model: a functional or built Sequential model of either Keras. Nested models are one layer.
      shared: whether a layer may be called twice, of which the first call counts, and keras.ops may
        stand between layers. Where False, a layer has one input, one output and a name.

    Returns:
      {layer name: `Node`} in the order of the model's layers, each after those that it reads. The
      input of a Sequential model, which it does not list, comes first.

    Raises:
      ValueError: not `shared`, and a layer is called twice or something is not a layer (both are
        named).
    """
    layers, inputs = {}, {}
    for layer, tensors in keras_private.calls_of(model):
        if layer.name in inputs and not shared:
            raise ValueError(
                f"layer {layer.name!r} of {model.name!r} is called more than once: what each call "
                "gives cannot be told apart by the layer's name. Give every call a layer of its own"
            )
        layers.setdefault(layer.name, layer)
        inputs.setdefault(layer.name, tuple(keras_private.layer_of(x).name for x in tensors))
    listed = [layer.name for layer in model.layers]
    unlisted = [name for name in layers if name not in set(listed)]
    operations = [name for name in unlisted if inputs[name]]
    if operations and not shared:
        raise ValueError(
            f"{operations[0]!r} of {model.name!r} is no layer but an operation on tensors, a "
            f"{type(layers[operations[0]]).__name__}: use a layer for it"
        )
    order = [*(name for name in unlisted if not inputs[name]), *listed, *operations]
    consumers = {name: [] for name in order}
    for name in order:
        for source in inputs[name]:
            consumers[source].append(name)
    return {name: Node(layers[name], inputs[name], tuple(consumers[name])) for name in order}


def output_layer(model, passes_on=lambda layer: False):
    """The layer that makes a model's only output.

    Args:
      model: a functional or Sequential model of either Keras.
      passes_on: function of a layer; where it is true, the layer in front is looked at instead.
        Nested models are looked into.
    """
    layer = keras_private.layer_of(model.outputs[0])
    while getattr(layer, "outputs", None) or passes_on(layer):
        layer = keras_private.layer_of(
            layer.outputs[0] if getattr(layer, "outputs", None) else layer.input
        )
    return layer


def activation_name(layer):
    """Name of a layer's activation function, None if it has none."""
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return "hard_swish" if name == "hard_silu" else name  # Keras 3 has two names for it


def unwrapped(layer):
    """The layer inside a wrapper of tfmot, or the layer itself."""
    return getattr(layer, "layer", layer)


def output_range(layer):
    """(low, high) to which a wrapper of tfmot rounds a layer's output, None where it does not."""
    variables = keras_private.output_quantizer_variables(layer)
    if not variables:
        return None
    with tf.init_scope():  # the values now, not a part of the graph being traced
        return tuple(float(np.float64(variables[end].numpy())) for end in ("low", "high"))


def is_quantized(model):
    """Whether a model came from `quantize.quantize_aware`."""
    return any(output_range(layer) for layer in getattr(model, "layers", ()))
