"""What a Distiller is compiled with: losses, metrics and an optimizer of its own Keras."""

import functools
import inspect

import keras
import tensorflow as tf

from kdtf import losses
from kdtf.distillation.validation import is_number

_BY_OUTPUT = ("loss", "loss_weights", "metrics", "weighted_metrics")
# Those of probabilities that have no argument from_logits, which would say so.
_ON_PROBABILITIES = {"KLDivergence", "Dice", "Tversky", "CategoricalGeneralizedCrossEntropy"}
_ON_PROBABILITIES |= {"kl_divergence", "dice", "tversky", "categorical_generalized_cross_entropy"}
_SIGMOIDS = {
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "sigmoid_cross_entropy_with_logits",
    "sigmoid_cross_entropy_with_logits_v2",
    "weighted_cross_entropy_with_logits",
    "weighted_cross_entropy_with_logits_v2",
}
_ROOTS = {"keras": "Keras 3", "tf_keras": "tf_keras"}


def bound(compile, student, keras, *args, **kwargs):
    """Arguments of `compile`, where those given by output are the single output's.

    Args:
      compile: bound `compile` of a model of either Keras.
      student: the model with one output that {output name: ...} and [...] speak of.
      keras: the module, keras or tf_keras, of `compile`.
      *args, **kwargs: what it is called with.

    Returns:
      inspect.BoundArguments.

    Raises:
      ValueError: several entries, one for another output, or something of the other Keras.
    """
    arguments = inspect.signature(compile).bind(*args, **kwargs)
    for name in _BY_OUTPUT:
        if name in arguments.arguments:
            arguments.arguments[name] = _of_output(name, arguments.arguments[name], student)
    for name in ("optimizer", *_BY_OUTPUT):
        for value in tf.nest.flatten(arguments.arguments.get(name)):
            _check_keras(name, value, keras)
    return arguments


def of_output(value):
    """Labels or weights, without the dict or list around those of the only output."""
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    if isinstance(value, (list, tuple)) and len(value) == 1:
        (value,) = value
    return value


def checked_reduction(loss, keras=keras, *, alpha=0, distillation_loss=None):
    """How a compiled loss is reduced.

    Args:
      loss: as given to `compile`, or None.
      keras: the module, keras or tf_keras.
      alpha: of the Distiller.
      distillation_loss: of the Distiller.

    Raises:
      ValueError: no loss while the labels have a weight; a loss that expects probabilities, takes
        each label by itself while the soft targets are a softmax over them, or is not reduced.
    """
    advice = f"{keras.__name__}.losses.SparseCategoricalCrossentropy(from_logits=True)"
    if loss is None:
        if not is_number(alpha, 1):
            raise ValueError(
                f"loss is None, but with alpha={alpha!r} the labels have a weight: pass a loss on "
                f"logits, for example {advice}, or alpha=1 to train on the teacher alone"
            )
        return "sum_over_batch_size"
    given, loss = loss, None if loss in ("crossentropy", "ce") else keras.losses.get(loss)
    if inspect.isclass(loss):
        loss = loss()
    names = _names(loss)
    by_label, soft = bool(names & _SIGMOIDS), not is_number(alpha, 0)
    if loss is None or names & _ON_PROBABILITIES or _from_logits(loss) is False:
        if by_label and not soft:
            advice = f"{keras.__name__}.losses.BinaryCrossentropy(from_logits=True)"
        raise ValueError(
            f"loss {given!r} expects probabilities, but the student gives logits: pass {advice}"
        )
    if by_label and soft and is_softmax(distillation_loss):
        raise ValueError(
            f"loss {given!r} takes each label by itself (a sigmoid), but soft_target_kl takes the "
            f"softmax over all classes, of which one is right: with alpha={alpha!r} the two would "
            f"pull apart. For one label a photo pass {advice}; for several, alpha=0, or a "
            "distillation_loss that takes each label by itself"
        )
    reduction = getattr(loss, "reduction", "sum_over_batch_size")
    if reduction in (None, "none"):
        raise ValueError(
            f"loss {given!r} has reduction={reduction!r}: the Distiller adds up scalars, use "
            "'sum_over_batch_size'"
        )
    return reduction


def is_softmax(distillation_loss):
    """Whether a distillation loss is known to compare softmaxes over the classes."""
    return _unwrapped(distillation_loss) is losses.soft_target_kl


def _of_output(name, value, student):
    if isinstance(value, dict) and "class_name" in value:  # a serialized loss
        return value
    if isinstance(value, dict):
        outputs = getattr(student, "output_names", None) or list(value)
        if len(value) != 1 or not value.keys() <= set(outputs):
            raise ValueError(
                f"{name} is given for the outputs {sorted(value)}, but the only output of student "
                f"{student.name!r} is {outputs[0]!r}"
            )
        (value,) = value.values()
        if name.endswith("metrics") and not isinstance(value, (list, tuple)):
            value = [value]
    if isinstance(value, (list, tuple)) and not name.endswith("metrics"):
        if len(value) != 1:
            raise ValueError(
                f"{name} has {len(value)} entries, but the student one output: {value!r}"
            )
        (value,) = value
    return value


def _check_keras(argument, value, keras):
    """Raises where a value was made by the Keras that does not train here."""
    kind = value if inspect.isclass(value) or inspect.isfunction(value) else type(value)
    kind = _unwrapped(value) if isinstance(value, functools.partial) else kind
    modules = [each.__module__ for each in getattr(kind, "__mro__", (kind,))]
    for module in modules:
        root = (module or "").partition(".")[0]
        if root in _ROOTS and root != keras.__name__:
            name = getattr(kind, "__name__", kind)
            raise ValueError(
                f"{argument} holds {name} of {_ROOTS[root]}, but this Distiller trains with "
                f"{_ROOTS[keras.__name__]}, which would lose its weights or means: pass "
                f"that of {keras.__name__}"
            )


def _names(loss):
    """Names of what a loss computes: of its classes, and of the function that it wraps."""
    function = _unwrapped(loss)
    names = {getattr(function, "__name__", None)}
    names |= {each.__name__ for each in type(loss).__mro__}
    wrapped = getattr(loss, "fn", None)
    return names | _names(wrapped) if callable(wrapped) else names


def _unwrapped(function):
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _from_logits(loss):
    """Whether a loss takes logits; None where it does not say."""
    config = getattr(loss, "get_config", dict)()
    if "from_logits" in config:
        return config["from_logits"]
    function = getattr(loss, "fn", loss)
    if not (inspect.isfunction(function) or isinstance(function, functools.partial)):
        return None
    parameter = inspect.signature(function).parameters.get("from_logits")
    return parameter.default if parameter is not None else None
