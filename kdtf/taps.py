"""What goes into a model and what can be read out of it: declared inputs, logits, named layers."""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Callable

import keras
import tensorflow as tf

# What may stand between the layer that makes the logits and the model's output.
_PASS_THROUGH = {"Activation", "Cast", "Dropout", "Flatten", "Identity", "Reshape"}
_PROBABILITIES = {"softmax", "sigmoid"}


@dataclasses.dataclass(frozen=True, eq=False)
class Hint:
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
                f"Hint loss must be a function of (teacher_features, student_features), such as "
                f"kdtf.losses.hint_mse; got {self.loss!r}"
            )
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"Hint weight must be finite and >= 0, got {self.weight!r}")
        if self.adapter is not None and not isinstance(self.adapter, keras.layers.Layer):
            raise TypeError(f"Hint adapter must be a Keras layer, got {self.adapter!r}")


def tap(model, layer_names):
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
    inputs = _declared(model)
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
        return _tap_nested(model, layer_names, nested)
    features = {name: _single_output(_find(model, name)) for name in layer_names}
    try:
        return keras.Model(model.input, (model.output, features), name=model.name)
    except ValueError as error:
        raise ValueError(
            f"one of the layers {list(layer_names)} was first called outside the model "
            f"{model.name!r}, so its output there is unknown: give the model a layer of its own"
        ) from error


def _tap_nested(model, layer_names, nested):
    # The graph is built once more on the same layers, with each nested model replaced by its tap.
    taps = {outer: tap(_find(model, outer), inner) for outer, inner in nested.items()}
    features = {}

    def call(layer, *args, **kwargs):
        if layer.name in taps:
            output, inner = taps[layer.name](*args, **kwargs)
            features.update({f"{layer.name}/{name}": value for name, value in inner.items()})
        else:
            output = layer(*args, **kwargs)
        features[layer.name] = output
        return output

    twin = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    wanted = {name: features[name] for name in layer_names}
    return keras.Model(twin.input, (twin.output, wanted), name=model.name)


def reader(network, layer_names=()):
    """One function of (batch, training) that gives a network's logits and features.

    Args:
      network: a Keras model, or any callable on a batch. It returns logits, or, where layers are
        asked for, (logits, {layer name: features}) as a `tap` does.
      layer_names: the layers to read.

    Returns:
      read(batch, training) -> (logits, {layer name: features}). `batch` passes through `feed`;
      `training` reaches networks that take that argument.
    """
    takes_training = _takes_training(network)

    def read(batch, training):
        inputs = feed(network, batch)
        outputs = network(inputs, training=training) if takes_training else network(inputs)
        return _logits_and_features(outputs, layer_names)

    return read


def feed(model, batch):
    """The inputs that a model declares, taken from a batch and made to fit.

    A dict is reduced to the model's own columns: Keras flattens dicts in the order of their keys,
    so that one key too many shifts the others. A model with a single tensor input takes the column
    of that input's name, else "image". Images (channels last) whose height and width differ
    from the declared ones are resized, bilinear and antialiased when they shrink; then everything
    is cast to its declared dtype (rounded on the way to integers).

    Args:
      model: a Keras 3 or tf_keras model; anything without declared inputs gets `batch` as it is.
      batch: a tensor, a list of tensors, or a dict of columns.

    Returns:
      What to call the model with.

    Raises:
      ValueError: a column that the model declares and the batch lacks.
    """
    declared = _declared(model)
    if declared is None:
        return batch
    if isinstance(declared, dict):
        if not isinstance(batch, dict):
            return batch
        return {key: _fit(_column(model, batch, key), spec) for key, spec in declared.items()}
    if isinstance(batch, dict):
        if len(declared) == 1 and declared[0].name not in batch:
            batch = [_column(model, batch, "image")]
        else:
            batch = [_column(model, batch, spec.name) for spec in declared]
    elif not isinstance(batch, (list, tuple)):
        batch = [batch]
    fitted = [_fit(value, spec) for value, spec in zip(batch, declared, strict=True)]
    return fitted[0] if len(fitted) == 1 else fitted


def is_functional(model):
    """Whether a model is a keras.Model whose graph is known: functional or built Sequential."""
    return isinstance(model, keras.Model) and bool(getattr(model, "outputs", None))


def refuse_probabilities(model, role):
    """Raises a ValueError if a Keras model ends in a softmax or sigmoid.

    Looks at the last layer of a functional or Sequential model (Keras 3 or tf_keras), through
    nested models and layers that only pass values on; of a subclassed model, at the layer it
    created last. Any other callable cannot be looked into.
    """
    last = _last_layer(model)
    name = getattr(getattr(last, "activation", None), "__name__", "")
    kind = type(last).__name__
    if kind == "TFOpLambda":
        kind = last.symbol.rpartition(".")[-1]
    found = _PROBABILITIES & {name, kind.lower()}
    if found:
        raise ValueError(
            f"{role} {model.name!r} ends in a {found.pop()} (layer {last.name!r}), but logits are "
            "needed: the loss would take the softmax of a softmax. Build the last layer with "
            "activation=None; the weights can stay"
        )


def _last_layer(model):
    if not getattr(model, "outputs", None):
        layers = getattr(model, "layers", None) or [None]
        # Without a graph the order of creation is all there is; gates are often sigmoids.
        activation = getattr(getattr(layers[-1], "activation", None), "__name__", "")
        return layers[-1] if activation != "sigmoid" else None
    layer = _maker(model.outputs[0])
    while getattr(layer, "outputs", None) or _passes_on(layer):
        layer = _maker(layer.outputs[0] if getattr(layer, "outputs", None) else layer.input)
    return layer


def _maker(tensor):
    history = tensor._keras_history
    return getattr(history, "operation", None) or history.layer


def _passes_on(layer):
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    return type(layer).__name__ in _PASS_THROUGH and activation == "linear"


def _declared(model):
    """Dict or list of symbolic tensors, or None."""
    try:
        inputs = model.inputs
        struct = getattr(model, "input", None)
    except AttributeError:
        return None
    if isinstance(struct, dict):
        return dict(struct)
    if not isinstance(inputs, (list, tuple)) or not all(hasattr(i, "dtype") for i in inputs):
        return None
    return list(inputs) or None


def _column(model, batch, key):
    if key not in batch:
        raise ValueError(
            f"model {model.name!r} takes the input {key!r}, which the batch lacks; its columns are "
            f"{sorted(batch)}"
        )
    return batch[key]


def _fit(value, spec):
    value = tf.convert_to_tensor(value)
    dtype = tf.as_dtype(spec.dtype)
    size = tuple(spec.shape)[1:3]
    is_image = value.shape.rank == len(spec.shape) == 4 and value.shape[-1] == spec.shape[-1]
    if is_image and None not in size and tuple(value.shape[1:3]) != size:
        value = _resize(value, size)
    if value.dtype.is_floating and dtype.is_integer:
        return tf.saturate_cast(tf.round(value), dtype)
    return tf.cast(value, dtype) if value.dtype != dtype else value


def _resize(images, size):
    if None in tuple(images.shape[1:3]):
        return tf.image.resize(images, size, antialias=True)
    # The antialiasing op does not compile under XLA. It is linear and separable, so two small
    # matrices, made by the op itself, do the same.
    with tf.init_scope():
        rows, columns = (
            tf.image.resize(tf.eye(old)[:, None, :], (new, 1), antialias=True)[:, 0].numpy()
            for old, new in zip(images.shape[1:3], size, strict=True)
        )
    return tf.einsum("yh,bhwc,xw->byxc", rows, tf.cast(images, tf.float32), columns)


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


def activation_name(layer):
    """Name of a Keras 3 layer's activation function, None if it has none."""
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return "hard_swish" if name == "hard_silu" else name  # Keras 3 has two names for it


def sources(layer):
    """Names of the layers whose outputs a layer of a functional Keras 3 model takes."""
    tensors = [] if type(layer).__name__ == "InputLayer" else keras.tree.flatten(layer.input)
    return [tensor._keras_history.operation.name for tensor in tensors]
