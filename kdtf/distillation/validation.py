"""What a Distiller refuses, and what it tells the user to do instead."""

import inspect
import numbers

import keras

from kdtf.distillation import features, probabilities

LOSS_ADVICE = "for example keras.losses.SparseCategoricalCrossentropy(from_logits=True)"


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
    probabilities.refuse_probabilities(student, "student")


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
    probabilities.refuse_probabilities(teacher, "teacher")
    shapes = _output_shape("teacher", teacher), _output_shape("student", student)
    if None not in shapes:
        check_classes(*(shape[-1] for shape in shapes))


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
    return tuple(outputs[0].shape)


def check_classes(teacher_classes, student_classes):
    """Raises where both numbers of classes are known and differ."""
    if None not in (teacher_classes, student_classes) and teacher_classes != student_classes:
        raise ValueError(
            f"teacher has {teacher_classes} classes, student has {student_classes}: rebuild the "
            "student to match, in the teacher's class order"
        )


def check_scalar(name, value, is_valid, range_text):
    """Raises unless the value is a callable, or a number that `is_valid`."""
    if callable(value):
        return
    if not isinstance(value, numbers.Real) or not is_valid(value):
        raise ValueError(
            f"{name} must be a number {range_text}, or a callable of the step; got {value!r}"
        )


def check_hints(hints, teacher):
    """Tuple of `taps.Hint`; raises on anything else, and on hints without a teacher."""
    hints = tuple(hints) if isinstance(hints, (list, tuple)) else (hints,)
    for hint in hints:
        if not isinstance(hint, features.FeatureLoss):
            raise TypeError(f"feature_losses must hold kdtf.taps.Hint, got {hint!r}")
    if hints and teacher is None:
        raise ValueError("feature_losses need a teacher: cached logits have no features")
    return hints


def checked_reduction(loss, keras=keras):
    """How a compiled loss is reduced; refuses one that is not, or that expects probabilities."""
    if loss in ("crossentropy", "ce"):
        expects_probabilities = True
    else:
        loss = keras.losses.get(loss)
        expects_probabilities = _from_logits(loss, keras) is False
    if expects_probabilities:
        raise ValueError(
            f"loss {loss!r} expects probabilities, but the student gives logits: pass {LOSS_ADVICE}"
        )
    reduction = getattr(loss, "reduction", "sum_over_batch_size")
    if reduction in (None, "none"):
        raise ValueError(
            f"loss {loss!r} has reduction={reduction!r}: the Distiller adds up scalars, use "
            "'sum_over_batch_size'"
        )
    return reduction


def _from_logits(loss, keras):
    if isinstance(loss, keras.losses.KLDivergence) or loss is keras.losses.kl_divergence:
        return False
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits")
    parameter = inspect.signature(loss).parameters.get("from_logits")
    return parameter.default if parameter is not None else None
