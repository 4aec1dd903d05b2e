"""The graph that ships, from a quantization-aware model: what the phone computes, layer for layer.

Batch norms are folded into kernels and biases, pixels stay bytes, and every tensor that a phone
holds in int8 passes a fake quantisation with its range, from which the TFLite converter takes
scale and zero point. Hard-swish is u * clip(u + 3 / sqrt(6), 0, sqrt(6)) with u = x / sqrt(6), an
exact rewriting in which the 1/6 is already part of the kernel in front (XNNPACK has no int8
HARD_SWISH).
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf
import tf_keras

from kdtf import keras_private, layer_graph
from kdtf.quantize import fake_quant

_LINEAR = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D, tf_keras.layers.Dense)
_JOINING = (tf_keras.layers.Multiply, tf_keras.layers.Add, tf_keras.layers.Concatenate)
_ROOT6 = math.sqrt(6.0)


@dataclasses.dataclass
class _Value:
    """A tensor that stands for scale * tensor."""

    tensor: tf.Tensor
    scale: float = 1.0


@dataclasses.dataclass
class _Linear:
    """A convolution or matrix product not yet emitted, so that what follows can be folded in."""

    layer: object
    x: tf.Tensor
    kernel: np.ndarray
    bias: np.ndarray

    def scaled(self, factor):
        """The same times a number, or a number for each output channel."""
        factor = np.asarray(factor)
        per_channel = factor[:, None] if factor.ndim and _is_depthwise(self.layer) else factor
        kernel = self.kernel * per_channel
        return dataclasses.replace(self, kernel=kernel, bias=self.bias * factor)

    def emitted(self):
        kernel = tf.constant(self.kernel, tf.float32)
        if isinstance(self.layer, tf_keras.layers.Dense):
            y = tf.matmul(self.x, kernel)
        else:
            strides, padding = (1, *self.layer.strides, 1), self.layer.padding.upper()
            convolve = tf.nn.depthwise_conv2d if _is_depthwise(self.layer) else tf.nn.conv2d
            y = convolve(self.x, kernel, strides, padding)
        bias = np.float32(self.bias)
        if np.ptp(bias) == 0:
            # The converter (TensorFlow 2.21) gives all channels of a constant that holds a single
            # value the integer that is right for the first one's scale.
            bias[0] = np.nextafter(bias[0], np.float32(np.inf))
        return tf.nn.bias_add(y, tf.constant(bias))


def logits(model, inputs, quantized=True):
    """Logits of a quantization-aware model, computed as on the phone.

    Args:
      model: what `quantize.quantize_aware` gave, trained or not.
      inputs: {input name: tensor}; the image is raw minus 128 (what an int8 byte says), or, when
        not quantized, minus 127.5; float32 [1, height, width, channels].
      quantized: False leaves the rounding out: the float student, folded.

    Returns:
      float32 [1, classes].
    """
    walk = _Walk(model, inputs, quantized)
    return walk.values[model.output_names[0]].tensor


class _Walk:
    """Emits the layers of a model one after the other; `values` holds what each gave."""

    def __init__(self, model, inputs, quantized):
        self._quantized = quantized
        self.values = {}
        self._nodes = layer_graph.nodes(model)
        for name, node in self._nodes.items():
            with tf.name_scope(name):
                if name in inputs:
                    value = self._input(inputs[name])
                else:
                    value = self._apply(node, [self.values[source] for source in node.inputs])
            self.values[name] = value

    def _input(self, tensor):
        if tensor.dtype.is_floating:
            tensor = self._fake(tensor, (-128.0, 127.0))
        return _Value(tensor)

    def _apply(self, node, inputs):
        layer = node.inner
        if isinstance(layer, _LINEAR):
            value = _linear(node.layer, inputs[0], self._quantized)
        elif isinstance(layer, fake_quant.FreezableBatchNormalization):
            value = _normalised(inputs[0], layer)
        elif isinstance(layer, fake_quant.HardSigmoid):
            value = inputs[0].scaled(1 / 6)
            value.bias = value.bias + 0.5
        else:
            value = self._combined(node, inputs)
        limits = layer_graph.output_range(node.layer)
        if limits is None:
            return value
        if isinstance(value, _Linear):
            readers = {type(consumer.inner) for consumer in self._consumers(node)}
            gated = readers == {fake_quant.HardGate, fake_quant.GatedProduct}
            scale = _ROOT6 if gated else 1.0
            tensor = value.scaled(1 / scale).emitted()
            if isinstance(layer, fake_quant.HardSigmoid):
                tensor = self._clipped(tensor, 0.0, 1.0)
            value = _Value(tensor, scale)
        return _Value(self._fake(value.tensor, [end / value.scale for end in limits]), value.scale)

    def _combined(self, node, inputs):
        layer, x = node.inner, inputs[0]
        if isinstance(layer, tf_keras.layers.Rescaling):
            return _Value(x.tensor, layer.scale)
        if isinstance(layer, fake_quant.HardGate):
            gate = self._clipped(x.tensor + 3 / x.scale, 0.0, 6 / x.scale)
            return _Value(gate, x.scale)
        if isinstance(layer, fake_quant.GatedProduct):
            return _Value(x.tensor * inputs[1].tensor)  # sqrt(6) * sqrt(6) / 6
        if isinstance(layer, tf_keras.layers.ReLU):
            x = _Value(x.emitted()) if isinstance(x, _Linear) else x
            return _Value(tf.nn.relu(x.tensor), x.scale)
        if isinstance(layer, tf_keras.layers.Activation):  # a Concatenate of one
            return x
        if isinstance(layer, tf_keras.layers.Embedding):
            return _Value(self._embedded(node, x.tensor))
        if isinstance(layer, tf_keras.layers.GlobalAveragePooling2D):
            return _Value(tf.reduce_mean(x.tensor, (1, 2), keepdims=layer.keepdims), x.scale)
        if isinstance(layer, tf_keras.layers.Flatten):
            return _Value(layer(x.tensor, training=False), x.scale)
        if not isinstance(layer, _JOINING):
            raise ValueError(
                f"layer {layer.name!r} is a {type(layer).__name__}, which cannot be folded: give a "
                "model that quantize_aware made"
            )
        if {value.scale for value in inputs} != {1.0}:
            raise ValueError(
                f"layer {layer.name!r} joins pixels, but only the kernel of a convolution or a "
                "Dense layer can hold their scale"
            )
        if isinstance(layer, tf_keras.layers.Multiply):
            return _Value(x.tensor * inputs[1].tensor)
        if isinstance(layer, tf_keras.layers.Add):
            return _Value(x.tensor + inputs[1].tensor)
        return _Value(tf.concat([value.tensor for value in inputs], layer.axis))

    def _embedded(self, node, index):
        # Rows are stored in the range of what they are joined into: joining then costs nothing.
        (consumer,) = self._consumers(node)
        table = tf.constant(_numbers(node.inner.embeddings), tf.float32)
        return tf.gather(self._fake(table, layer_graph.output_range(consumer.layer)), index)

    def _consumers(self, node):
        return [self._nodes[name] for name in node.consumers]

    def _clipped(self, tensor, low, high):
        # int8 saturates at the ends of the range, which are no wider than these.
        return tensor if self._quantized else tf.clip_by_value(tensor, low, high)

    def _fake(self, tensor, limits):
        if not self._quantized:
            return tensor
        return tf.quantization.fake_quant_with_min_max_args(tensor, *limits)


def _linear(wrapper, x, quantized):
    layer = layer_graph.unwrapped(wrapper)
    ((variable, quantizer, variables),) = keras_private.quantized_weights(wrapper)
    with tf.init_scope():
        kernel = quantizer(variable, False, variables) if quantized else variable
    kernel = _numbers(kernel) * x.scale
    channels = kernel.shape[2] if _is_depthwise(layer) else kernel.shape[-1]
    bias = _numbers(layer.bias) if layer.use_bias else np.zeros(channels)
    linear = _Linear(layer, x.tensor, kernel, bias)
    if layer.activation.__name__ == "relu":
        return _Value(tf.nn.relu(linear.emitted()))
    return linear


def _normalised(linear, norm):
    factor = _numbers(norm.gamma) / np.sqrt(_numbers(norm.moving_variance) + norm.epsilon)
    value = linear.scaled(factor)
    value.bias = value.bias + _numbers(norm.beta) - _numbers(norm.moving_mean) * factor
    return value


def _numbers(variable):
    with tf.init_scope():  # the values now, not a part of the graph being traced
        return np.float64(variable.numpy())


def _is_depthwise(layer):
    return hasattr(layer, "depthwise_kernel")
