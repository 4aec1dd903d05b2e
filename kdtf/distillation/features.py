"""What can be read out of a model by name: its logits and the outputs of its layers."""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Callable

import keras
import tensorflow as tf

from kdtf.model_inputs import declared_inputs, is_functional, is_signature, prepare_inputs


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureLoss:
    """A term that pulls a layer of the student towards a layer of the teacher (arXiv:1412.6550).

    Attributes:
      teacher_layer: layer name in the teacher; "outer/inner" reaches into a nested model.
      student_layer: layer name in the student, likewise.
      loss: loss(teacher_features, student_features) -> float [batch], such as `losses.hint_mse`.
      weight: >= 0; what the term counts in the total.
      adapter: a Keras layer applied to the student's features before the loss, such as a 1x1
        convolution to the teacher's channels. It trains with the student and is not saved with it.

    Raises:
      ValueError: a weight that is negative or not finite.
      TypeError: a loss that is not callable, an adapter that is not a Keras layer.
    """

    teacher_layer: str
    student_layer: str
    loss: Callable
    weight: float = 1.0
    adapter: keras.layers.Layer | None = None

    def __post_init__(self):
        if not callable(self.loss):
            raise TypeError(
                "FeatureLoss.loss must be a function of (teacher_features, student_features), such "
                f"as kdtf.losses.hint_mse; got {self.loss!r}"
            )
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"FeatureLoss.weight must be finite and >= 0, got {self.weight!r}")
        if self.adapter is not None and not isinstance(self.adapter, keras.layers.Layer):
            raise TypeError(f"FeatureLoss.adapter must be a Keras layer, got {self.adapter!r}")


def feature_extractor(model, layer_names):
    """A model of the same layers that also gives the outputs of some of them.

    Args:
      model: a functional or Sequential keras.Model with one output; it is not changed.
      layer_names: names of its layers; "outer/inner" names a layer of a nested model.

    Returns:
      A keras.Model that shares the layers: inputs -> (output, {layer name: its output}).

    Raises:
      ValueError: a layer that isn't there (near names are listed), that gives several tensors, or
        that isn't part of the model's graph; a model without a graph.
    """
    if not is_functional(model):
        raise ValueError(
            f"layers of {getattr(model, 'name', model)!r} cannot be read by name: it is not a "
            "functional or Sequential Keras model. Rebuild it as one, or pass a callable that "
            "returns (logits, {layer name: features}) itself"
        )
    # Its own plain twin: no compile state, and Sequential models gain a graph to walk.
    inputs = declared_inputs(model)
    if isinstance(inputs, list) and len(inputs) == 1:
        inputs = inputs[0]
    model = keras.Model(inputs, model.outputs[0], name=model.name)
    nested = {}
    for name in layer_names:
        outer, _, inner = name.partition("/")
        layer = _find(model, outer)
        if inner and not is_functional(layer):
            raise ValueError(f"layer {outer!r} of {model.name!r} has no layers inside: {name!r}")
        if inner:
            nested.setdefault(outer, []).append(inner)
    if nested:
        return _extractor_of_nested(model, layer_names, nested)
    features = {name: _single_output(_find(model, name)) for name in layer_names}
    try:
        return keras.Model(model.input, (model.output, features), name=model.name)
    except ValueError as error:
        raise ValueError(
            f"one of the layers {list(layer_names)} was first called outside the model "
            f"{model.name!r}, so its output there is unknown: give the model a layer of its own"
        ) from error


def _extractor_of_nested(model, layer_names, nested):
    # The graph is built once more on the same layers, nested models replaced by their extractors.
    extractors = {
        outer: feature_extractor(_find(model, outer), inner) for outer, inner in nested.items()
    }
    features = {}

    def call(layer, *args, **kwargs):
        if layer.name in extractors:
            output, inner = extractors[layer.name](*args, **kwargs)
            features.update({f"{layer.name}/{name}": value for name, value in inner.items()})
        else:
            output = layer(*args, **kwargs)
        features[layer.name] = output
        return output

    twin = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    wanted = {name: features[name] for name in layer_names}
    return keras.Model(twin.input, (twin.output, wanted), name=model.name)


def forward_function(network, layer_names=()):
    """One function of (batch, training) that gives a network's logits and features.

    Args:
      network: a Keras model, a SavedModel's signature, or any callable on a batch. It returns
        logits, or, where layers are asked for, (logits, {layer name: features}) as a
        `feature_extractor` does.
      layer_names: the layers to read.

    Returns:
      forward(batch, training) -> (logits, {layer name: features}). `batch` passes through
      `prepare_inputs`; `training` reaches networks that take that argument.
    """
    takes_training = _takes_training(network)

    def forward(batch, training):
        inputs = prepare_inputs(network, batch)
        if is_signature(network):
            outputs = network(**inputs)
        else:
            outputs = network(inputs, training=training) if takes_training else network(inputs)
        return _logits_and_features(outputs, layer_names)

    return forward


def _logits_and_features(outputs, layer_names):
    features = {}
    if isinstance(outputs, (list, tuple)) and len(outputs) == 2 and isinstance(outputs[1], dict):
        outputs, features = outputs
    if isinstance(outputs, dict) and len(outputs) == 1:  # a SavedModel's serving signature
        (outputs,) = outputs.values()
    if isinstance(outputs, (dict, list, tuple)):
        raise ValueError(
            f"a model must return one tensor of logits, got {len(outputs)} outputs: wrap it in a "
            "function that returns the logits"
        )
    missing = set(layer_names) - set(features)
    if missing:
        raise ValueError(
            f"features of {sorted(missing)} are asked for, but the model returned "
            f"{sorted(features) or 'logits only'}: pass a functional Keras model, or a callable "
            "that returns (logits, {layer name: features})"
        )
    return tf.convert_to_tensor(outputs), {name: features[name] for name in layer_names}


def _takes_training(model):
    function = model.call if isinstance(model, keras.layers.Layer) else model
    # tf_keras wraps `call` and restored models hide it: only what is declared counts.
    function = getattr(function, "call", function)
    try:
        return "training" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _find(model, name):
    names = [layer.name for layer in model.layers]
    if name not in names:
        inside = [
            f"{layer.name}/{inner.name}"
            for layer in model.layers
            if is_functional(layer)
            for inner in layer.layers
        ]
        near = [path for path in inside if path.endswith(f"/{name}")]
        near += difflib.get_close_matches(name, names + inside, n=5, cutoff=0.4)
        raise ValueError(
            f"model {model.name!r} has no layer {name!r}; "
            + (f"near names: {near}" if near else f"its layers: {names}")
        )
    return model.get_layer(name)


def _single_output(layer):
    if not isinstance(layer.output, keras.KerasTensor):
        raise ValueError(f"layer {layer.name!r} gives several tensors: name one that gives one")
    return layer.output
