"""Channels scaled alike before rounding: the same function in numbers that suit int8 better."""

import keras
import numpy as np

from kdtf import keras_private, layer_graph, model_inputs

# A channel that hardly ever fires is not scaled up without end.
_SMALLEST_FRACTION = 0.01
# Hard-swish is the identity from 3 on; what is a little above may be so with other photos too.
_IDENTITY_FROM = 3.2
_LINEAR = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
_PASSING = (keras.layers.GlobalAveragePooling2D, keras.layers.Dropout)


def equalize(student, calibration):
    """A student that computes the same, with activations whose channels have similar ranges.

    An activation has one int8 scale for all its channels, so that a channel a tenth as wide as the
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
      ValueError: the student is not a functional model, or calls a layer twice; no calibration
        batch.
    """
    if not model_inputs.is_functional(student):
        raise ValueError(
            f"student must be a functional Keras 3 model, got {type(student)}: its layers must be "
            "known to be scaled one by one"
        )
    equal = keras.models.clone_model(student)
    equal.set_weights(student.get_weights())
    nodes = layer_graph.nodes(equal)
    groups = _Groups(equal, nodes)
    rounded = [name for name in groups.free() if not groups.is_preactivation(name)]
    scales = _scales(groups, _extremes(equal, rounded, calibration))
    for name, node in nodes.items():
        if name in scales or any(source in scales for source in node.inputs):
            _rescale(node, scales)
    return equal


class _Groups:
    """Which layers' outputs must be scaled alike, channel by channel, and which cannot be.

    Attributes:
      gated: groups that pass a hard-swish.
    """

    def __init__(self, model, nodes):
        self._nodes = nodes
        self._parents, self._fixed = {}, set()
        self.gated = set()
        for node in nodes.values():
            self._add(node)
        for output in model.outputs:
            self._fix(keras_private.layer_of(output).name)

    def of(self, name):
        """The group of a layer's output, as the name of one of its layers."""
        while self._parents[name] != name:
            name = self._parents[name]
        return name

    def free(self):
        """Names of the layers whose outputs may be scaled."""
        return [name for name in self._nodes if self.of(name) not in self._fixed]

    def is_preactivation(self, name):
        """Whether an activation alone reads a layer, so that no one sees what it cuts off."""
        readers = {type(self._nodes[reader].layer) for reader in self._nodes[name].consumers}
        return readers == {keras.layers.Activation}

    def _add(self, node):
        name, sources = node.layer.name, node.inputs
        kind, activation = type(node.layer), node.activation
        self._parents[name] = name
        if kind in _LINEAR and activation in ("linear", "relu"):
            return
        if kind is keras.layers.BatchNormalization:
            self._fix(*sources)  # it is scaled itself, by its own scale and offset
        elif kind is keras.layers.Activation and activation == "hard_swish":
            self._join(name, *sources)
            self.gated.add(self.of(name))
        elif kind in _PASSING or activation == "relu":
            self._join(name, *sources)
        elif kind is keras.layers.Add:
            self._join(name, *sources)
            if any(self.of(source) in self.gated for source in sources):
                self._fix(name)
        elif kind is keras.layers.Multiply:
            self._join(name, sources[0])
            self._fix(*sources[1:])
        else:
            self._fix(name, *sources)

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
    read = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    extremes = {}
    for batch in calibration:
        inputs = model_inputs.prepare_inputs(model, batch[0] if isinstance(batch, tuple) else batch)
        for name, value in read(inputs, training=False).items():
            value = np.asarray(value, np.float64).reshape(-1, value.shape[-1])
            low, high = extremes.get(name, (np.inf, -np.inf))
            extremes[name] = np.minimum(low, value.min(0)), np.maximum(high, value.max(0))
    if not extremes:
        raise ValueError("calibration holds no batch: pass at least one batch of photos")
    return extremes


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
            scales[group] = width.max() / np.maximum(width, _SMALLEST_FRACTION * width.max())
    return {name: scales[groups.of(name)] for name in groups.free() if groups.of(name) in scales}


def _rescale(node, scales):
    """Multiplies a layer's output by its scales, and takes its input's off its kernel."""
    layer, kind, factor = node.layer, type(node.layer), scales.get(node.layer.name, 1.0)
    if kind is keras.layers.BatchNormalization:
        layer.gamma.assign(layer.gamma * factor)
        layer.beta.assign(layer.beta * factor)
    if kind not in _LINEAR:
        return
    (source,) = node.inputs
    divisor = np.asarray(scales.get(source, 1.0))
    kernel, *bias = layer.get_weights()
    if kind is keras.layers.DepthwiseConv2D:  # [height, width, channels, 1]
        kernel = kernel * np.reshape(factor / divisor, (-1, 1))
    else:
        kernel = kernel / divisor[..., np.newaxis] * factor
    layer.set_weights([kernel, *(values * factor for values in bias)])
