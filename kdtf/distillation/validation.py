"""What a Distiller refuses, and what it tells the user to do instead."""

import numbers

import keras

from kdtf import layer_graph
from kdtf.distillation import features, networks

_PROBABILITIES = {"softmax", "sigmoid"}
# What may stand between the layer that makes the logits and the model's output; by name, as
# tf_keras has classes of its own for them and Keras 3 operations.
_PASS_THROUGH = {"Activation", "Cast", "Dropout", "Flatten", "Identity", "Reshape"}


def check_student(student):
    """Raises unless the student is a built keras.Model with one output of logits."""
    if not isinstance(student, keras.Model):
        raise TypeError(f"student must be a keras.Model (Keras 3), got {type(student)}")
    if not student.built:
        raise ValueError(
            f"student {student.name!r} is not built: call it once on a batch, or give it an Input"
        )
    shape = _output_shape("student", student)
    if shape is not None and len(shape) != 2:
        raise ValueError(f"student must return logits [batch, classes], got shape {shape}")
    check_logits(student, "student")


def check_teacher(teacher, student):
    """Raises unless the teacher is callable and, as far as can be seen, gives matching logits."""
    if teacher is None:
        return
    if not callable(teacher):
        raise TypeError(f"teacher must be callable on a batch and return logits, got {teacher!r}")
    if hasattr(teacher, "layers") and not getattr(teacher, "built", True):
        raise ValueError(
            f"teacher {teacher.name!r} is not built, so its weights cannot be trained ones: load "
            "them, or call it once on a batch"
        )
    try:
        networks.variables_of(teacher)
    except AssertionError as error:
        raise ValueError(
            f"teacher {teacher!r} has lost its variables, because the SavedModel that it comes "
            "from is gone: keep it, restored = tf.saved_model.load(path), or pass it whole"
        ) from error
    check_logits(teacher, "teacher")
    shapes = _output_shape("teacher", teacher), _output_shape("student", student)
    if None not in shapes:
        check_classes(*(shape[-1] for shape in shapes))


def check_logits(model, role):
    """Raises a ValueError if a Keras model ends in a softmax or sigmoid.

    Looks at the last layer of a functional or Sequential model (Keras 3 or tf_keras), through
    nested models and layers that only pass values on; of a subclassed model, at the layer it
    created last. Any other callable cannot be looked into.

    Args:
      model: student or teacher.
      role: "student" or "teacher", for the message.
    """
    last = _last_layer(model)
    kind = type(last).__name__
    if kind == "TFOpLambda":
        kind = last.symbol.rpartition(".")[-1]
    probabilities = _PROBABILITIES & {layer_graph.activation_name(last), kind.lower()}
    if probabilities:
        raise ValueError(
            f"{role} {model.name!r} ends in a {probabilities.pop()} (layer {last.name!r}), but "
            "logits are needed: the loss would take the softmax of a softmax. Build the last layer "
            "with activation=None; the weights can stay"
        )


def _last_layer(model):
    if not hasattr(model, "layers"):  # such as a SavedModel's signature
        return None
    if getattr(model, "outputs", None):
        return layer_graph.output_layer(model, _passes_on)
    # Without a graph the order of creation is all there is; gates are often sigmoids.
    last = (getattr(model, "layers", None) or [None])[-1]
    return last if layer_graph.activation_name(last) != "sigmoid" else None


def _passes_on(layer):
    kind, activation = type(layer).__name__, layer_graph.activation_name(layer)
    return kind in _PASS_THROUGH and activation in (None, "linear")


def _output_shape(role, model):
    """Shape of the only output of a Keras model that declares it, or None."""
    outputs = getattr(model, "outputs", None)
    if not isinstance(outputs, (list, tuple)) or not outputs:
        return None
    if len(outputs) != 1:
        raise ValueError(
            f"{role} {model.name!r} has {len(outputs)} outputs, expected one, the logits: wrap the "
            "logits in a model of their own, keras.Model(model.inputs, logits)"
        )
    shape = outputs[0].shape
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def check_classes(teacher_classes, student_classes):
    """Raises where both numbers of classes are known and differ."""
    if None not in (teacher_classes, student_classes) and teacher_classes != student_classes:
        raise ValueError(
            f"teacher has {teacher_classes} classes, student has {student_classes}: rebuild the "
            "student to match, in the teacher's class order"
        )


def check_teacher_logits(teacher_shape, student_shape):
    """Raises where two tf.TensorShapes, as far as known, are not those of logits that match."""
    if teacher_shape.rank not in (None, 2, 3):
        raise ValueError(
            "a teacher must return logits [batch, classes], or of an ensemble [batch, members, "
            f"classes]; got shape {tuple(teacher_shape)}"
        )
    if teacher_shape.rank is not None:
        check_classes(teacher_shape[-1], student_shape[-1])


def check_scalar(name, value, is_valid, range_text):
    """Raises unless the value is a callable, or a number that `is_valid`."""
    if callable(value):
        return
    if not isinstance(value, numbers.Real) or not is_valid(value):
        raise ValueError(
            f"{name} must be a number {range_text}, or a callable of the step; got {value!r}"
        )


def check_feature_losses(feature_losses, teacher):
    """Tuple of `FeatureLoss`; raises on anything else, and where there is no teacher to read."""
    if not isinstance(feature_losses, (list, tuple)):
        feature_losses = (feature_losses,)
    for term in feature_losses:
        if not isinstance(term, features.FeatureLoss):
            raise TypeError(f"feature_losses must hold kdtf.distillation.FeatureLoss, got {term!r}")
    if feature_losses and teacher is None:
        raise ValueError("feature_losses need a teacher: cached logits have no features")
    return tuple(feature_losses)


def is_number(value, number):
    """Whether a value, which may be a callable, is this number."""
    return isinstance(value, numbers.Real) and value == number
