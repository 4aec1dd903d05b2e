"""The networks of a Distiller as functions of a batch, and the adapters between them."""

import tensorflow as tf

from kdtf import model_inputs
from kdtf.distillation.features import feature_extractor, forward_function


def layer_forward(model, layer_names):
    """`forward_function` of a network that reads its layers if it is a functional model."""
    layer_names = list(dict.fromkeys(layer_names))
    if layer_names and model_inputs.is_functional(model):
        model = feature_extractor(model, layer_names)
    return forward_function(model, layer_names)


def callable_teacher(teacher):
    """The teacher; of a restored SavedModel that cannot be called, its serving signature.

    Raises:
      TypeError: it has none.
    """
    signatures = getattr(teacher, "signatures", None)
    if callable(teacher) or signatures is None:
        return teacher
    if "serving_default" not in signatures:
        raise TypeError(
            f"teacher {teacher!r} is a SavedModel that cannot be called and has no signature "
            f"'serving_default': pass one of its signatures, {sorted(signatures)}"
        )
    return signatures["serving_default"]


def variables_of(teacher):
    """List of the variables of a restored function or signature, else empty.

    Raises:
      AssertionError: they are gone, because the SavedModel is.
    """
    if hasattr(teacher, "structured_input_signature"):
        return list(teacher.variables)
    functions = getattr(teacher, "concrete_functions", None) or ()
    return [variable for function in functions for variable in function.variables]


def teacher_forward(teacher, layer_names):
    """Likewise of a teacher, which without one is the column "teacher_logits" of the batch."""
    if teacher is not None:
        network = callable_teacher(teacher)
        forward = layer_forward(network, layer_names)
        # Restored functions do not hold their variables; whoever holds the closure does.
        kept = teacher, variables_of(network)
        return lambda batch, training: (kept, forward(batch, training))[1]

    def read_column(batch, training):
        if not isinstance(batch, dict) or "teacher_logits" not in batch:
            x = f"the columns {sorted(batch)}" if isinstance(batch, dict) else "a tensor"
            raise ValueError(
                "the Distiller has no teacher and the batch no column 'teacher_logits' (x is "
                f"{x}): pass teacher=..., or batches with cached logits, or alpha=0 without "
                "log_agreement"
            )
        return tf.convert_to_tensor(batch["teacher_logits"]), {}

    return read_column


def built_adapters(student, feature_losses):
    """List of the adapters of `FeatureLoss`es, each once, with all their variables made."""
    adapted = [term for term in feature_losses if term.adapter is not None]
    if not adapted:
        return []
    _, features = feature_extractor(student, [term.student_layer for term in adapted]).output
    for term in adapted:
        # Called rather than built: of a layer without `build` only a call makes the variables.
        term.adapter(features[term.student_layer])
    return list({id(term.adapter): term.adapter for term in adapted}.values())
