"""TFLite out, and proof that the file computes what the model computes.

Files have float32 weights, builtin operators only, a batch of exactly one photo, and one signature
whose inputs are named like the model's `Input` layers and whose output is "logits". Where a Keras
input is called "meta_region", a batch of the pipeline may call it "meta/region".
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from kdtf import files

_CUSTOM = "CUSTOM:"
_VARIABLE_OPS = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}


def to_tflite(model, path):
    """Writes a Keras model as a float32 .tflite file for one photo at a time.

    Keras 3 and tf_keras functional models are taken. A Keras 3 model with a float16 or bfloat16
    policy is converted in float32; the model itself is unchanged afterwards. The batch is fixed at
    1 because XNNPACK refuses some files with a free one. What TensorFlow prints meanwhile, C++ code
    included, is kept from the terminal and quoted only when the conversion fails; as that is done
    to the whole process, output of other threads is held back too.

    Args:
      model: functional model; inputs float32 or int32 with every dimension but the batch fixed,
        one output, logits [batch, classes].
      path: where to write; the file appears only when complete.

    Returns:
      pathlib.Path of the file.

    Raises:
      ValueError: the model's inputs or output do not fit, or it needs operators that are not
        builtin (each is named).
      RuntimeError: TensorFlow could not convert it.
    """
    path = Path(path)
    inputs = _input_specs(model)
    module = tf.Module()
    # The converter freezes only variables that it can reach; the others would become variables of
    # the file, which nothing initialises: it then runs, and returns NaN.
    module.weights = [
        variable.value if isinstance(variable, keras.Variable) else variable
        for variable in model.variables]

    def logits(*tensors):
        named = {spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)}
        return {"logits": tf.identity(tf.cast(_call(model, named), tf.float32))}

    module.logits = tf.function(logits, input_signature=inputs, autograph=False)
    with _in_float32(model):
        try:
            with _quiet() as printed, tempfile.TemporaryDirectory() as folder:
                tf.saved_model.save(module, folder, signatures={"serving_default": module.logits})
                converter = tf.lite.TFLiteConverter.from_saved_model(folder)
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
                # Let through here, so that the check below can name each of them.
                converter.allow_custom_ops = True
                content = converter.convert()
        except Exception as error:
            raise RuntimeError(
                f"{model.name} could not be converted to {path.name}: {error}\n"
                f"Last lines that TensorFlow printed:\n{_tail(printed)}") from error
    refused = sorted({
        name for name in _operators(content)
        if name.startswith(_CUSTOM) or name in _VARIABLE_OPS})
    if refused:
        raise ValueError(
            f"{model.name} needs operators that a plain TFLite runtime lacks: "
            f"{', '.join(refused)}; replace the layers that use them")
    files.write_bytes(path, content)
    return path


def builtin_ops(path):
    """Names of the operators of a .tflite file, one for each node, in the file's order.

    Args:
      path: .tflite file.

    Returns:
      list of str such as "CONV_2D"; an operator that is not builtin reads "CUSTOM:<its name>".
    """
    return _operators(_read(path))


def predict(path, inputs, num_threads=1, progress=None):
    """Logits of a .tflite file, photo by photo.

    Args:
      path: file written by `to_tflite`.
      inputs: either N examples, as an array (one-input files) or a dict of arrays, or an iterable
        of such batches, of which only the logits are kept; from batches that are tuples (x, y, ...)
        only x is used. Keys that the file has no input for are ignored; "image" serves a file with
        one input whatever its name.
      num_threads: threads of the interpreter.
      progress: called with the number of examples just finished, as `tqdm.update` wants it.

    Returns:
      float32 [N, classes].

    Raises:
      FileNotFoundError: no such file.
      ValueError: no examples, or inputs that do not fit the file's.
    """
    runner = _Runner(path, num_threads)
    logits = []
    for batch in _batches(inputs):
        for row in runner.rows(batch):
            logits.append(runner(row))
            if progress is not None:
                progress(1)
    if not logits:
        raise ValueError(f"no examples to run through {path}: inputs is empty")
    return np.stack(logits)


def parity(model, path, batches, num_threads=1, progress=None):
    """Compares a .tflite file with the Keras model it came from, on real photos.

    The model runs in float32 and in inference mode, as it was exported.

    Args:
      model: the Keras model.
      path: file written by `to_tflite`.
      batches: as `inputs` of `predict`.
      num_threads: threads of the interpreter.
      progress: as in `predict`.

    Returns:
      dict of max_abs_error (float, logits), argmax_agreement (fraction of examples) and
      examples (int).

    Raises:
      ValueError: no examples, or logits that are not finite on either side.
    """
    runner = _Runner(path, num_threads)
    error, agreed, examples = 0.0, 0, 0
    with _in_float32(model):
        for batch in _batches(batches):
            rows = runner.rows(batch)
            if not rows:
                continue
            named = {name: tf.concat([row[name] for row in rows], 0) for name in rows[0]}
            expected = np.asarray(_call(model, named), dtype=np.float32)
            for row, want in zip(rows, expected, strict=True):
                got = runner(row)
                for side, values in (("the Keras model", want), (str(path), got)):
                    if not np.isfinite(values).all():
                        raise ValueError(
                            f"{side} returned logits that are not finite for example {examples}")
                error = max(error, float(np.abs(got - want).max()))
                agreed += int(got.argmax() == want.argmax())
                examples += 1
                if progress is not None:
                    progress(1)
    if not examples:
        raise ValueError(f"no examples to compare {path} on: batches is empty")
    return {
        "max_abs_error": error, "argmax_agreement": agreed / examples, "examples": examples}


class _Float32Compute(keras.DTypePolicy):
    """Computes in float32 whatever type the weights have; Keras casts them where the two differ."""

    def __init__(self, variable_dtype):
        super().__init__("float32")
        self._held = variable_dtype

    @property
    def variable_dtype(self):
        return self._held


class _Runner:
    """One opened .tflite file: splits batches into single examples and runs them."""

    def __init__(self, path, num_threads):
        content = _read(path)
        with _quiet():
            interpreter = Interpreter(model_content=content, num_threads=num_threads)
            interpreter.allocate_tensors()
            self._run = interpreter.get_signature_runner()
        self._inputs = self._run.get_input_details()
        self._path = path
        outputs = list(self._run.get_output_details())
        if outputs != ["logits"]:
            raise ValueError(f"{path} returns {outputs}, expected ['logits']: export it again")

    def __call__(self, row):
        return self._run(**row)["logits"][0]

    def rows(self, batch):
        """List of {input name: array [1, ...]}, one for each example of the batch."""
        if not isinstance(batch, Mapping):
            if len(self._inputs) != 1:
                raise ValueError(
                    f"{self._path} has inputs {sorted(self._inputs)}: pass a dict, not an array")
            batch = {next(iter(self._inputs)): batch}
        given = {key.replace("/", "_"): value for key, value in batch.items()}
        if len(self._inputs) == 1 and "image" in given:
            given.setdefault(next(iter(self._inputs)), given["image"])
        missing = sorted(set(self._inputs) - set(given))
        if missing:
            raise ValueError(
                f"{self._path} needs input {', '.join(missing)}; the batch holds {sorted(batch)}")
        arrays = {name: self._fit(name, given[name]) for name in self._inputs}
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"inputs differ in their number of examples: {lengths}")
        return [
            {name: array[i:i + 1] for name, array in arrays.items()}
            for i in range(next(iter(lengths.values())))]

    def _fit(self, name, values):
        array, wanted = np.asarray(values), self._inputs[name]
        shape = tuple(int(size) for size in wanted["shape"][1:])
        if array.shape[1:] != shape or not array.ndim:
            raise ValueError(
                f"input {name!r} of {self._path} is {('N', *shape)}, got {array.shape}")
        if not np.can_cast(array.dtype, wanted["dtype"], casting="same_kind"):
            raise ValueError(
                f"input {name!r} of {self._path} is {np.dtype(wanted['dtype']).name}, got "
                f"{array.dtype}")
        return array.astype(wanted["dtype"])


def _batches(inputs):
    if isinstance(inputs, Mapping) or hasattr(inputs, "shape"):
        yield inputs
        return
    for batch in inputs:
        yield batch[0] if isinstance(batch, tuple) else batch


def _input_specs(model):
    """One TensorSpec with a batch of 1 for each input of the model, in the model's order."""
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise ValueError(
            f"{model.name} returns {[tuple(output.shape) for output in model.outputs]}, expected "
            "one output of logits [batch, classes]")
    specs = []
    for tensor in model.inputs:
        shape, dtype = tuple(tensor.shape), tf.as_dtype(tensor.dtype)
        if None in shape[1:]:
            raise ValueError(
                f"input {tensor.name!r} of {model.name} has shape {shape}: build the model with a "
                "fixed size, only the batch may be None")
        if not dtype.is_floating and dtype != tf.int32:
            raise ValueError(
                f"input {tensor.name!r} of {model.name} is {dtype.name}, expected a float type or "
                "int32")
        specs.append(tf.TensorSpec(
            (1, *shape[1:]), tf.float32 if dtype.is_floating else dtype, name=tensor.name))
    return specs


def _call(model, named):
    # Keras reads a dict with keys that the model does not have in the wrong order, so the tensors
    # are laid out in the very structure that the model was built with.
    structure = tf.nest.map_structure(lambda tensor: named[tensor.name], model.input)
    return model(structure, training=False)


@contextlib.contextmanager
def _in_float32(model):
    """Lets the layers of a mixed-precision model compute in float32 meanwhile."""
    changed = []
    try:
        for layer in model._flatten_layers():
            if getattr(layer, "compute_dtype", None) not in ("float16", "bfloat16"):
                continue
            if not isinstance(layer, keras.layers.Layer):
                raise ValueError(
                    f"layer {layer.name!r} of {model.name} computes in {layer.compute_dtype}: "
                    "rebuild the model in float32 and copy its weights")
            changed.append((layer, layer.dtype_policy))
            layer.dtype_policy = _Float32Compute(layer.dtype_policy.variable_dtype)
        yield
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy


@contextlib.contextmanager
def _quiet():
    """Holds back what the process prints, C++ included; yields the list that receives it."""
    printed = []
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink, contextlib.ExitStack() as undo:
        for descriptor in (1, 2):
            saved = os.dup(descriptor)
            undo.callback(os.close, saved)
            undo.callback(os.dup2, saved, descriptor)
            os.dup2(sink.fileno(), descriptor)
        # In a notebook sys.stdout and sys.stderr are not the process's own.
        text = undo.enter_context(open(os.dup(sink.fileno()), "w", errors="replace"))
        undo.enter_context(contextlib.redirect_stdout(text))
        undo.enter_context(contextlib.redirect_stderr(text))
        try:
            yield printed
        finally:
            text.flush()
            sink.seek(0)
            printed.extend(sink.read().decode(errors="replace").splitlines())


def _tail(printed, lines=40):
    return "\n".join(printed[-lines:]) or "(nothing)"


def _operators(content):
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    builtin = {
        value: name for name, value in vars(schema.BuiltinOperator).items()
        if isinstance(value, int)}

    def name(code):
        # Files older than schema version 3a keep the number in the deprecated field.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number == schema.BuiltinOperator.CUSTOM:
            return _CUSTOM + (code.customCode or b"?").decode()
        return builtin[number]

    return [
        name(file.operatorCodes[node.opcodeIndex])
        for graph in file.subgraphs for node in graph.operators]


def _read(path):
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no TFLite file at {path}: write it with to_tflite first")
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError(f"{path} is not a TFLite file ({len(content)} bytes)")
    return content
