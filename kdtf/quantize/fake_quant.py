"""How each layer of a student is quantised in training: tfmot's quantizers, configs and scheme.

Weights: int8, symmetric, one scale per output channel. Activations: int8, asymmetric, one scale per
tensor (Jacob et al., 2017, arXiv:1712.05877; Krishnamoorthi, 2018, arXiv:1806.08342). Gradients
pass straight through inside the range.
"""

import contextlib
import os

import tensorflow as tf
import tf_keras

from kdtf.quantize import observer


def _import_tfmot():
    # tfmot sets this variable for the process and its children: tensorflow.keras, and keras-cv
    # after it, would be tf_keras from then on. So settle what tensorflow.keras is, then undo it.
    name = "TF_USE_LEGACY_KERAS"
    before = os.environ.get(name)
    tf.keras.version()
    import tensorflow_model_optimization

    if before is None:
        del os.environ[name]
    else:
        os.environ[name] = before
    return tensorflow_model_optimization


tfmot = _import_tfmot()
_tfmot = tfmot.quantization.keras
_register = tf_keras.utils.register_keras_serializable("kdtf")
_modes = ["on"]


@contextlib.contextmanager
def quantization_mode(name):
    """What quantizers do in calls made meanwhile: "on", "off", or "observe" (off, remembering).

    It is read when a function is traced: call the model itself, not its `predict`.
    """
    _modes.append(name)
    try:
        yield
    finally:
        _modes.pop()


class Kernel(_tfmot.quantizers.Quantizer):
    """Symmetric, -127 to 127, one scale per channel on `axis`, from the kernel as it is now."""

    def __init__(self, axis):
        self.axis = axis

    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        if _modes[-1] != "on":
            return inputs
        inputs = tf.convert_to_tensor(inputs)
        last = [axis for axis in range(inputs.shape.rank) if axis != self.axis] + [self.axis]
        # The op knows channels on the last axis only; a depthwise kernel has them before it.
        kernel = tf.transpose(inputs, last)
        limit = tf.reduce_max(tf.abs(kernel), range(inputs.shape.rank - 1))
        # Of a channel that is all 0 any scale will do, but 0 / 0 would be NaN.
        limit = tf.stop_gradient(tf.maximum(limit, 1e-12))
        kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -limit, limit, narrow_range=True
        )
        back = [last.index(axis) for axis in range(inputs.shape.rank)]
        return tf.transpose(kernel, back)

    def get_config(self):
        return {"axis": self.axis}


class Activation(_tfmot.quantizers.Quantizer):
    """Asymmetric, one range per tensor, which `quantize_aware` sets from calibration photos.

    Args:
      low_limit, high_limit: of the range.
    """

    def __init__(self, low_limit=-1e30, high_limit=1e30):
        self.low_limit, self.high_limit = low_limit, high_limit
        self.observer = observer.RangeObserver()

    def build(self, tensor_shape, name, layer):
        return {
            end: layer.add_weight(
                f"{name}_{end}",
                shape=(),
                trainable=False,
                initializer=tf_keras.initializers.Constant(value),
            )
            for end, value in (("low", -1.0), ("high", 1.0))
        }

    def __call__(self, inputs, training, weights, **kwargs):
        if _modes[-1] == "observe":
            self.observer.update(inputs)
        if _modes[-1] != "on":
            return inputs
        return tf.quantization.fake_quant_with_min_max_vars(inputs, weights["low"], weights["high"])

    def get_config(self):
        return {"low_limit": self.low_limit, "high_limit": self.high_limit}


class Pixels(_tfmot.quantizers.Quantizer):
    """Raw 0..255 scaled to -1..1, as the bytes of a camera: byte b stands for (b - 128) / 127.5.

    Zero points are whole numbers, the true one would be 127.5: the picture gets half a grey level
    darker, in training as on the phone.
    """

    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        if _modes[-1] != "on":
            return inputs
        return (tf.round(inputs * 127.5 + 127.5) - 128.0) / 127.5

    def get_config(self):
        return {}


class LayerConfig(_tfmot.QuantizeConfig):
    """Which quantizers a layer has: one for its kernel, one for its output, or one of the two."""

    def __init__(self, kernel=None, output=None):
        self.kernel, self.output = kernel, output

    def get_weights_and_quantizers(self, layer):
        return [] if self.kernel is None else [(getattr(layer, _kernel_name(layer)), self.kernel)]

    def set_quantize_weights(self, layer, quantize_weights):
        for weight in quantize_weights:
            setattr(layer, _kernel_name(layer), weight)

    def get_activations_and_quantizers(self, layer):
        return []

    def set_quantize_activations(self, layer, quantize_activations):
        pass

    def get_output_quantizers(self, layer):
        return [] if self.output is None else [self.output]

    def get_config(self):
        parts = {"kernel": self.kernel, "output": self.output}
        return {
            name: None if part is None else [type(part).__name__, part.get_config()]
            for name, part in parts.items()
        }

    @classmethod
    def from_config(cls, config):
        classes = {quantizer.__name__: quantizer for quantizer in (Kernel, Activation, Pixels)}
        return cls(
            **{
                name: None if part is None else classes[part[0]](**part[1])
                for name, part in config.items()
            }
        )


class AsAnnotated(_tfmot.QuantizeScheme, _tfmot.QuantizeRegistry):
    """tfmot's scheme that quantises what is annotated, as it is annotated, and rewrites nothing."""

    def get_layout_transformer(self):
        return self

    def apply(self, model, layer_quantize_map):
        return model, layer_quantize_map

    def get_quantize_registry(self):
        return self

    def supports(self, layer):
        return False

    def get_quantize_config(self, layer):
        raise NotImplementedError(f"layer {layer.name!r} is not annotated")


@_register
class HardGate(tf_keras.layers.Layer):
    """relu6(x + 3), the gate of hard-swish, as a layer of its own with its own range."""

    def call(self, inputs):
        return tf.nn.relu6(inputs + 3.0)


@_register
class GatedProduct(tf_keras.layers.Layer):
    """x * gate / 6: hard-swish (Howard et al., 2019, arXiv:1905.02244) from x and its gate."""

    def call(self, inputs):
        x, gate = inputs
        return x * gate / 6.0


@_register
class HardSigmoid(tf_keras.layers.Layer):
    """relu6(x + 3) / 6, the gate of squeeze-and-excite."""

    def call(self, inputs):
        return tf.nn.relu6(inputs + 3.0) / 6.0


@_register
class FreezableBatchNormalization(tf_keras.layers.BatchNormalization):
    """Batch normalisation that, once `frozen`, trains scale and offset on fixed statistics."""

    frozen = False

    def call(self, inputs, training=None):
        return super().call(inputs, training=False if self.frozen else training)


def custom_objects():
    """What tfmot must know to rebuild annotated layers."""
    return {
        kind.__name__: kind
        for kind in (LayerConfig, HardGate, GatedProduct, HardSigmoid, FreezableBatchNormalization)
    }


def _kernel_name(layer):
    return "depthwise_kernel" if hasattr(layer, "depthwise_kernel") else "kernel"
