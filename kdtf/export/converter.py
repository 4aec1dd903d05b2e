"""TFLite out, and proof that the file computes what the model computes.

Files hold builtin operators only, a batch of exactly one photo, and one signature whose inputs are
named like the model's `Input` layers and whose output is "logits" (or "probabilities"), float32.
Where a Keras input is called "meta_region", a batch of the pipeline may call it "meta/region".
"""

import contextlib
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kdtf import files, keras_private, layer_graph, quantize
from kdtf.export import flatbuffer, runtime, subprocess_check

_VARIABLE_OPS = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}
# Multipliers that XNNPACK's int8 kernels take: scale of input times kernel over output.
_SMALLEST_MULTIPLIER, _LARGEST_MULTIPLIER = 2.0**-32, 2.0**8
_FLOAT_WEIGHTS = (tf.float32, tf.float16, tf.int8)
_IMAGE_TYPES = (tf.int8, tf.uint8, tf.float32)


def to_tflite(model, path, *, weights=None, image=None, probabilities=False, logit_temperature=1.0):
    """Writes a model as a .tflite file for one photo at a time.

    Keras 3 and tf_keras functional models are taken. A Keras 3 model with a float16 or bfloat16
    policy is converted in float32; the model itself is unchanged afterwards. A model that
    `quantize.quantize_aware` gave becomes an int8 file: weights int8 per channel, activations
    int8, every operator one that XNNPACK runs. The batch is fixed at 1 because XNNPACK refuses some
    files with a free one. What TensorFlow prints meanwhile, C++ code included, is kept from the
    terminal and quoted only when the conversion fails; as that is done to the whole process, output
    of other threads is held back too.

    Args:
      model: functional model; inputs float32 or int32 with every dimension but the batch fixed,
        one output, logits [batch, classes].
      path: where to write; the file appears only when complete.
      weights: how a float model's weights are stored: tf.float32 (default), tf.float16 (half the
        file, computed in float32) or tf.int8 (dynamic range: a quarter of the file, activations
        quantised on the fly).
      image: what an int8 file takes as its image: tf.int8 (default), a camera's bytes minus 128;
        tf.uint8, the bytes themselves (one QUANTIZE operator more, which XNNPACK leaves to the
        CPU kernels); tf.float32, 0 to 255. Normalisation is part of the file in each case.
      probabilities: end in a softmax (float32) instead of logits.
      logit_temperature: the file's logits are the model's divided by this, the temperature that
        `calibration.fit_temperature` gives: its softmax is then calibrated.

    Returns:
      pathlib.Path of the file.

    Raises:
      ValueError: the model's inputs or output do not fit; it needs operators that are not builtin
        (each is named); an int8 layer has a scale that XNNPACK refuses (it is named), or the file
        ends the process that opens it; an argument does not belong to this kind of model; a
        temperature is not a number > 0, or the logits come from no Dense layer that could hold it.
      RuntimeError: TensorFlow could not convert it.
    """
    path = Path(path)
    quantized = layer_graph.is_quantized(model)
    weights = _choice("weights", weights, _FLOAT_WEIGHTS, model, allowed=not quantized)
    image = _choice("image", image, _IMAGE_TYPES, model, allowed=quantized)
    inputs = _input_specs(model)
    module = tf.Module()
    # The converter freezes only variables that it can reach; the others would become variables of
    # the file, which nothing initialises: it then runs, and returns NaN. A folded graph has none.
    module.weights = (
        []
        if quantized
        else [
            variable.value if isinstance(variable, keras.Variable) else variable
            for variable in model.variables
        ]
    )

    def answer(*tensors):
        named = {spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)}
        if quantized:
            if image == tf.float32:
                named["image"] = named["image"] - 128.0
            logits = quantize.folding.logits(model, named)
        else:
            logits = tf.cast(call(model, named), tf.float32)
        return {"logits": tf.identity(logits)}

    module.answer = tf.function(answer, input_signature=inputs, autograph=False)
    with in_float32(model):
        try:
            with runtime.quiet() as printed, tempfile.TemporaryDirectory() as folder:
                tf.saved_model.save(module, folder, signatures={"serving_default": module.answer})
                converter = tf.lite.TFLiteConverter.from_saved_model(folder)
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
                # Let through here, so that the check below can name each of them.
                converter.allow_custom_ops = True
                if quantized or weights != tf.float32:
                    converter.optimizations = [tf.lite.Optimize.DEFAULT]
                if weights == tf.float16:
                    converter.target_spec.supported_types = [tf.float16]
                if quantized:
                    converter.inference_input_type = image
                content = converter.convert()
                if quantized:
                    content = flatbuffer.with_lookups_first(content)
        except Exception as error:
            raise RuntimeError(
                f"{model.name} could not be converted to {path.name}: {error}\n"
                f"Last lines that TensorFlow printed:\n{_tail(printed)}"
            ) from error
    refused = sorted(
        {
            name
            for name in flatbuffer.operators_of(content)
            if name.startswith(flatbuffer.CUSTOM) or name in _VARIABLE_OPS
        }
    )
    if refused:
        raise ValueError(
            f"{model.name} needs operators that a plain TFLite runtime lacks: "
            f"{', '.join(refused)}; replace the layers that use them"
        )
    if logit_temperature != 1:
        content = flatbuffer.with_temperature(content, logit_temperature)
    if probabilities:
        content = flatbuffer.with_softmax(content)
    if quantized:
        _check_scales(model.name, content)
    with files.atomic_write(path) as partial:
        partial.write_bytes(content)
        if quantized:  # some scales end the process that opens the file: let that be a child
            subprocess_check.check_loads(partial)
    return path


def _choice(name, value, known, model, allowed):
    """The given tf.DType or the default, the first; ValueError where it has no meaning."""
    if value is None:
        return known[0]
    value = tf.as_dtype(value)
    if not allowed:
        kind = "float" if name == "image" else "quantization-aware"
        raise ValueError(f"{name}={value.name} has no meaning for {model.name}, a {kind} model")
    if value not in known:
        names = ", ".join(dtype.name for dtype in known)
        raise ValueError(f"{name} must be one of {names}, got {value.name}")
    return value


def _check_scales(model_name, content):
    """Raises where XNNPACK would refuse a layer's scales, or a bias does not fit into 32 bits."""
    for layer, multipliers, bias in flatbuffer.linear_scales(content):
        low, high = float(multipliers.min()), float(multipliers.max())
        if not (_SMALLEST_MULTIPLIER <= low and high < _LARGEST_MULTIPLIER):
            raise ValueError(
                f"layer {layer!r} of {model_name} would rescale by {low:.3g} to {high:.3g}, "
                f"XNNPACK takes {_SMALLEST_MULTIPLIER:.3g} to {_LARGEST_MULTIPLIER:g}: one of its "
                "channels is dead or its range has collapsed; calibrate with more photos, or train "
                "the float student with more weight decay"
            )
        if np.abs(bias.astype(np.int64)).max(initial=0) >= 2**31 - 1:
            raise ValueError(
                f"layer {layer!r} of {model_name} has a bias that does not fit into 32 bits at the "
                "scale of its kernel: one of its channels is dead; train the float student with "
                "more weight decay"
            )


class _Float32Compute(keras.DTypePolicy):
    """Computes in float32 whatever type the weights have; Keras casts them where the two differ."""

    def __init__(self, variable_dtype):
        super().__init__("float32")
        self._held = variable_dtype

    @property
    def variable_dtype(self):
        return self._held


def _input_specs(model):
    """One TensorSpec with a batch of 1 for each input of the model, in the model's order."""
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise ValueError(
            f"{model.name} returns {[tuple(output.shape) for output in model.outputs]}, expected "
            "one output of logits [batch, classes]"
        )
    specs = []
    for tensor in model.inputs:
        shape, dtype = tuple(tensor.shape), tf.as_dtype(tensor.dtype)
        if None in shape[1:]:
            raise ValueError(
                f"input {tensor.name!r} of {model.name} has shape {shape}: build the model with a "
                "fixed size, only the batch may be None"
            )
        if not dtype.is_floating and dtype != tf.int32:
            raise ValueError(
                f"input {tensor.name!r} of {model.name} is {dtype.name}, expected a float type or "
                "int32"
            )
        specs.append(
            tf.TensorSpec(
                (1, *shape[1:]), tf.float32 if dtype.is_floating else dtype, name=tensor.name
            )
        )
    return specs


def call(model, named):
    """A model's outputs, in inference mode, for {input name: tensor}."""
    # Keras reads a dict with keys that the model does not have in the wrong order, so the tensors
    # are laid out in the very structure that the model was built with.
    structure = tf.nest.map_structure(lambda tensor: named[tensor.name], model.input)
    return model(structure, training=False)


@contextlib.contextmanager
def in_float32(model):
    """Context in which the layers of a mixed-precision model compute in float32.

    Raises:
      ValueError: a layer of tf_keras computes in another type.
    """
    changed = []
    try:
        for layer in keras_private.all_layers(model):
            if getattr(layer, "compute_dtype", None) not in ("float16", "bfloat16"):
                continue
            if not isinstance(layer, keras.layers.Layer):
                raise ValueError(
                    f"layer {layer.name!r} of {model.name} computes in {layer.compute_dtype}: "
                    "rebuild the model in float32 and copy its weights"
                )
            changed.append((layer, layer.dtype_policy))
            layer.dtype_policy = _Float32Compute(layer.dtype_policy.variable_dtype)
        yield
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy


def _tail(printed, lines=40):
    return "\n".join(printed[-lines:]) or "(nothing)"
