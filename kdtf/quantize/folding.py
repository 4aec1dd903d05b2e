"""The graph that ships, from a quantization-aware model: what the phone computes, layer for layer.

Batch norms are folded into kernels and biases, pixels stay bytes, and every tensor that a phone
holds in 8 bits passes a fake quantisation with its range, from which the TFLite converter takes
scale and zero point. Hard-swish is u * clip(u + 3 / sqrt(6), 0, sqrt(6)) with u = x / sqrt(6), an
exact rewriting in which the 1/6 is already part of the kernel in front (XNNPACK has no 8-bit
HARD_SWISH).
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

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
        if type(self.layer).__name__ == "Dense":
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
        self._consumers = {layer.name: [] for layer in model.layers}
        for layer in model.layers:
            for name in sources(layer):
                self._consumers[name].append(layer)
        for layer in model.layers:
            with tf.name_scope(layer.name):
                if layer.name in inputs:
                    value = self._input(inputs[layer.name])
                else:
                    value = self._apply(layer, [self.values[name] for name in sources(layer)])
            self.values[layer.name] = value

    def _input(self, tensor):
        if tensor.dtype.is_floating:
            tensor = self._fake(tensor, (-128.0, 127.0))
        return _Value(tensor)

    def _apply(self, wrapper, inputs):
        layer = unwrapped(wrapper)
        kind = type(layer).__name__
        if kind in ("Conv2D", "DepthwiseConv2D", "Dense"):
            value = _linear(wrapper, inputs[0], self._quantized)
        elif kind == "FreezableBatchNormalization":
            value = _normalised(inputs[0], layer)
        elif kind == "HardSigmoid":
            value = inputs[0].scaled(1 / 6)
            value.bias = value.bias + 0.5
        else:
            value = self._combined(kind, layer, inputs)
        limits = output_range(wrapper)
        if limits is None:
            return value
        if isinstance(value, _Linear):
            gated = {type(unwrapped(each)).__name__ for each in self._consumers[wrapper.name]}
            scale = _ROOT6 if gated == {"HardGate", "GatedProduct"} else 1.0
            tensor = value.scaled(1 / scale).emitted()
            if kind == "HardSigmoid":
                tensor = self._clipped(tensor, 0.0, 1.0)
            value = _Value(tensor, scale)
        return _Value(self._fake(value.tensor, [end / value.scale for end in limits]), value.scale)

    def _combined(self, kind, layer, inputs):
        x = inputs[0]
        if kind == "Rescaling":
            return _Value(x.tensor, layer.scale)
        if kind == "HardGate":
            gate = self._clipped(x.tensor + 3 / x.scale, 0.0, 6 / x.scale)
            return _Value(gate, x.scale)
        if kind == "GatedProduct":
            return _Value(x.tensor * inputs[1].tensor)  # sqrt(6) * sqrt(6) / 6
        if kind == "ReLU":
            x = _Value(x.emitted()) if isinstance(x, _Linear) else x
            return _Value(tf.nn.relu(x.tensor), x.scale)
        if kind == "Embedding":
            return _Value(self._embedded(layer, x.tensor))
        if kind == "GlobalAveragePooling2D":
            return _Value(tf.reduce_mean(x.tensor, (1, 2), keepdims=layer.keepdims), x.scale)
        if kind in ("Multiply", "Add", "Concatenate") and {v.scale for v in inputs} != {1.0}:
            raise ValueError(
                f"layer {layer.name!r} joins pixels, but only the kernel of a convolution or a "
                "Dense layer can hold their scale"
            )
        if kind == "Multiply":
            return _Value(x.tensor * inputs[1].tensor)
        if kind == "Add":
            return _Value(x.tensor + inputs[1].tensor)
        if kind == "Concatenate":
            return _Value(tf.concat([value.tensor for value in inputs], layer.axis))
        return _Value(layer(x.tensor, training=False), x.scale)  # Flatten

    def _embedded(self, layer, index):
        # Rows are stored in the range of what they are joined into: joining then costs nothing.
        (consumer,) = self._consumers[layer.name]
        table = tf.constant(_numbers(layer.embeddings), tf.float32)
        return tf.gather(self._fake(table, output_range(consumer)), index)

    def _clipped(self, tensor, low, high):
        # 8 bits saturate at the ends of the range, which are no wider than these.
        return tensor if self._quantized else tf.clip_by_value(tensor, low, high)

    def _fake(self, tensor, limits):
        if not self._quantized:
            return tensor
        return tf.quantization.fake_quant_with_min_max_args(tensor, *limits)


def is_quantized(model):
    """Whether a model came from `quantize.quantize_aware`."""
    return any(output_range(layer) for layer in getattr(model, "layers", ()))


def unwrapped(layer):
    """The layer inside a wrapper of tfmot, or the layer itself."""
    return getattr(layer, "layer", layer)


def output_range(layer):
    """(low, high) of a layer of a quantization-aware model, None if its output is not rounded."""
    variables = getattr(layer, "_output_quantizer_vars", None)
    if not variables:
        return None
    return tuple(float(_numbers(variables[end])) for end in ("low", "high"))


def _linear(wrapper, x, quantized):
    layer = unwrapped(wrapper)
    ((variable, quantizer, variables),) = wrapper._weight_vars
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


def sources(layer):
    """Names of the layers whose outputs a layer of a functional model takes."""
    if type(layer).__name__ == "InputLayer":
        return []
    return [tensor._keras_history.layer.name for tensor in tf.nest.flatten(layer.input)]
