"""Channels scaled alike before rounding: the same function in numbers that suit 8 bits better."""

import keras
import numpy as np

from kdtf import model_inputs
from kdtf.quantize import layer_graph

# A channel that hardly ever fires is not scaled up without end.
_SMALLEST_SHARE = 0.01
# Hard-swish is the identity from 3 on; what is a little above may be so with other photos too.
_IDENTITY_FROM = 3.2
_LINEAR = ("Conv2D", "DepthwiseConv2D", "Dense")


def equalize(student, calibration):
    """A student that computes the same, with activations whose channels have similar ranges.

    An activation has one 8-bit scale for all its channels, so that a channel a tenth as wide as the
    widest one has a tenth of the levels. Between two linear layers a channel may be multiplied by
    any s > 0 and divided again where it is read: through ReLU, sums, pooling and squeeze-and-excite
    (cross-layer equalization; Nagel et al., 2019, arXiv:1906.04721). Here s brings each channel to
    the largest one's range. Behind a hard-swish only channels whose input stays above 3 can be
    scaled, since it is the identity there; they are made smaller, down to the widest of the others.
    In MobileNetV3's first layer those are what would decide the range.

    Args:
      student: functional Keras 3 model as `quantize.quantize_aware` takes it. It is not changed.
      calibration: batches, as for `quantize.quantize_aware`.

    Returns:
      a Keras 3 model of the same layers. Its logits equal the student's, up to float32 rounding and
      photos that leave the ranges seen.

    Raises:
      ValueError: the student is not a functional model; no calibration batch.
    """
    if not model_inputs.is_functional(student):
        raise ValueError(
            f"student must be a functional Keras 3 model, got {type(student)}: its layers must be "
            "known to be scaled one by one"
        )
    equal = keras.models.clone_model(student)
    equal.set_weights(student.get_weights())
    groups = _Groups(equal)
    rounded = [name for name in groups.free() if not groups.is_preactivation(name)]
    scales = _scales(groups, _extremes(equal, rounded, calibration))
    for layer in equal.layers:
        if layer.name in scales or any(name in scales for name in layer_graph.sources(layer)):
            _rescale(layer, scales)
    return equal


class _Groups:
    """Which layers' outputs must be scaled alike, channel by channel, and which cannot be.

    Attributes:
      gated: groups that pass a hard-swish.
    """

    def __init__(self, model):
        self._parents, self._fixed = {}, set()
        self.gated = set()
        self._readers = {layer.name: set() for layer in model.layers}
        for layer in model.layers:
            self._add(layer, layer_graph.sources(layer))
        for output in model.outputs:
            self._fix(output._keras_history.operation.name)

    def of(self, name):
        """The group of a layer's output, as the name of one of its layers."""
        while self._parents[name] != name:
            name = self._parents[name]
        return name

    def free(self):
        """Names of the layers whose outputs may be scaled."""
        return [name for name in self._readers if self.of(name) not in self._fixed]

    def is_preactivation(self, name):
        """Whether an activation alone reads a layer, so that no one sees what it cuts off."""
        return self._readers[name] == {"Activation"}

    def _add(self, layer, sources):
        kind, activation = type(layer).__name__, layer_graph.activation_name(layer)
        self._parents[layer.name] = layer.name
        for name in sources:
            self._readers[name].add(kind)
        if kind in _LINEAR and activation in ("linear", "relu"):
            return
        if kind == "BatchNormalization":
            self._fix(*sources)  # it is scaled itself, by its own scale and offset
        elif kind == "Activation" and activation == "hard_swish":
            self._join(layer.name, *sources)
            self.gated.add(self.of(layer.name))
        elif kind in ("GlobalAveragePooling2D", "Dropout") or activation == "relu":
            self._join(layer.name, *sources)
        elif kind == "Add":
            self._join(layer.name, *sources)
            if any(self.of(name) in self.gated for name in sources):
                self._fix(layer.name)
        elif kind == "Multiply":
            self._join(layer.name, sources[0])
            self._fix(*sources[1:])
        else:
            self._fix(layer.name, *sources)

    def _join(self, *names):
        first, *others = [self.of(name) for name in names]
        for other in others:
            self._parents[first] = other
            for marked in (self._fixed, self.gated):
                if first in marked:
                    marked.add(other)
            first = other

    def _fix(self, *names):
        self._fixed.update(self.of(name) for name in names)


def _extremes(model, names, calibration):
    """{layer: (lowest, highest) of each channel, float [channels]} over all batches."""
    if not names:
        return {}
    probe = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    found = {}
    for batch in calibration:
        inputs = model_inputs.prepare_inputs(model, batch[0] if isinstance(batch, tuple) else batch)
        for name, value in probe(inputs, training=False).items():
            value = np.asarray(value, np.float64).reshape(-1, value.shape[-1])
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = np.minimum(low, value.min(0)), np.maximum(high, value.max(0))
    if not found:
        raise ValueError("calibration holds no batch: pass at least one batch of photos")
    return found


def _scales(groups, extremes):
    """{layer: float [channels]} by which to multiply its output."""
    widths, lowest = {}, {}
    for name, (low, high) in extremes.items():
        group = groups.of(name)
        widths[group] = np.maximum(widths.get(group, 0.0), np.maximum(np.abs(low), np.abs(high)))
        lowest[group] = np.minimum(lowest.get(group, np.inf), low)
    scales = {}
    for group, width in widths.items():
        if group in groups.gated:
            least = np.minimum(_IDENTITY_FROM / np.maximum(lowest[group], 1e-9), 1.0)
            others = np.max(width[least == 1.0], initial=_IDENTITY_FROM)
            scales[group] = np.clip(others / np.maximum(width, 1e-9), least, 1.0)
        elif width.max() > 0:
            scales[group] = width.max() / np.maximum(width, _SMALLEST_SHARE * width.max())
    return {name: scales[groups.of(name)] for name in groups.free() if groups.of(name) in scales}


def _rescale(layer, scales):
    """Multiplies a layer's output by its scales, and takes its input's off its kernel."""
    kind, factor = type(layer).__name__, scales.get(layer.name, 1.0)
    if kind == "BatchNormalization":
        layer.gamma.assign(layer.gamma * factor)
        layer.beta.assign(layer.beta * factor)
    if kind not in _LINEAR:
        return
    (source,) = layer_graph.sources(layer)
    divisor = np.asarray(scales.get(source, 1.0))
    kernel, *bias = layer.get_weights()
    if kind == "DepthwiseConv2D":  # [height, width, channels, 1]
        kernel = kernel * np.reshape(factor / divisor, (-1, 1))
    else:
        kernel = kernel / divisor[..., np.newaxis] * factor
    layer.set_weights([kernel, *(values * factor for values in bias)])
