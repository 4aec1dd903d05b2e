"""Where rounding hurts: how far each layer of an int8 student is from the float student's.

errors = layer_errors.compare_layers(student, "student_int8.tflite", photos)
print(layer_errors.table(errors[:10]))
layer_errors.plot(errors, "layer_errors.png")
"""

import dataclasses
import math
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from kdtf import files, layer_graph, model_inputs, plotting
from kdtf.export import flatbuffer, runtime

_MARKED = 5  # layers whose bars are told apart in the picture


@dataclasses.dataclass(frozen=True)
class LayerError:
    """What rounding did to one layer's output.

    Attributes:
      layer: name, the same in the float student.
      position: place among the student's layers, counted from 0, the input.
      snr_db: signal-to-noise ratio, decibels; 10 log10 of the float output's mean square over the
        error's. 20 dB is an error of a tenth; infinite where there is none.
      error_rms: root of the mean squared error, in the unit of the layer's output.
      low, high: smallest and largest value of the float output.
    """

    layer: str
    position: int
    snr_db: float
    error_rms: float
    low: float
    high: float


def compare_layers(student, quantized, batch):
    """Compares every rounded layer with the float student's, on one batch.

    Errors add up on the way through the network, so the worst layer is where they show; the first
    layer of a sudden fall is where they are made.

    A file runs photo by photo in the runtime's own kernels: XNNPACK's keep no tensors, and differ
    from them by single levels. Layers in front of a hard-swish are left out for files, which hold
    them in another unit (see `quantize.folding`): their error shows in the hard-swish itself.

    Args:
      student: the float Keras 3 student.
      quantized: the model that `quantize.quantize_aware` gave, or the path of its .tflite file.
      batch: tensor or dict of columns, as the student takes it; every layer's outputs are held in
        float32, 0.7 GB for 32 photos of 224 pixels and mobilenet_v3_small.

    Returns:
      list of `LayerError`, worst first.

    Raises:
      FileNotFoundError: no such file.
      ValueError: no rounded layer is one of the student's, by name and shape; one gave values that
        are not finite.
    """
    inputs = model_inputs.prepare_inputs(student, batch)
    outputs = {
        layer.name: layer.output
        for layer in student.layers
        if isinstance(layer.output, keras.KerasTensor)
    }
    if isinstance(quantized, (str, Path)):
        rounded = _of_file(quantized, inputs, outputs.keys() - _rescaled(student))
    else:
        rounded = _of_model(quantized, inputs, outputs.keys())
    names = [
        name
        for name in outputs
        if name in rounded and rounded[name].shape[1:] == tuple(outputs[name].shape[1:])
    ]
    if not names:
        raise ValueError(
            f"{getattr(quantized, 'name', quantized)} has no rounded layer in common with "
            f"{student.name}, found {sorted(rounded) or 'none'}: compare a student with the int8 "
            "model or file that was made from it"
        )
    reader = keras.Model(student.input, {name: outputs[name] for name in names})
    exact = reader(inputs, training=False)
    position = {layer.name: place for place, layer in enumerate(student.layers)}
    errors = [_error(name, position[name], exact[name], rounded[name]) for name in names]
    return sorted(errors, key=lambda error: error.snr_db)


def table(errors):
    """Markdown table of layers, worst first.

    Args:
      errors: list of `LayerError`, in any order.
    """
    rows = ["| layer | SNR, dB | error, rms | float output |", "|---|---:|---:|---:|"]
    for error in sorted(errors, key=lambda error: error.snr_db):
        rows.append(
            f"| {error.layer} | {_decibels(error)} | {error.error_rms:.3g} | "
            f"{error.low:.3g} to {error.high:.3g} |"
        )
    return "\n".join(rows) + "\n"


def plot(errors, path):
    """Picture of the layers' signal-to-noise ratios, the input on top; the worst are marked.

    Args:
      errors: list of `LayerError`, in any order.
      path: where to write, a .png file.

    Returns:
      pathlib.Path of the file.

    Raises:
      ValueError: no errors, or a path that does not end in .png.
    """
    path = Path(path)
    if not errors:
        raise ValueError("errors is empty: pass what compare_layers returned")
    if path.suffix != ".png":
        raise ValueError(f"path must end in .png, got {str(path)!r}")
    files.write_bytes(path, plotting.png(_draw, errors))
    return path


def _draw(figure, colours, errors):
    # In network order: a fall from one bar to the next is where an error is made.
    errors = sorted(errors, key=lambda error: error.position)
    worst = sorted(errors, key=lambda error: error.snr_db)[:_MARKED]
    figure.set_size_inches(9, 1.2 + 0.17 * len(errors))
    axes = figure.subplots()
    finite = [error.snr_db for error in errors if math.isfinite(error.snr_db)]
    low, high = min([0.0, *finite]), max([1.0, *finite])
    lengths = [min(max(error.snr_db, low), high) for error in errors]
    colour = [colours["baseline" if error in worst else "distilled"] for error in errors]
    bars = axes.barh(range(len(errors)), lengths, 0.72, color=colour)
    for label in axes.bar_label(bars, map(_decibels, errors), padding=3, fontsize=7):
        label.set_in_layout(False)  # slow with a hundred; the axis has room for it
    axes.set_yticks(range(len(errors)), [error.layer for error in errors], fontsize=7)
    for tick, error in zip(axes.get_yticklabels(), errors, strict=True):
        tick.set_fontweight("bold" if error in worst else "normal")
    axes.set_ylim(len(errors) - 0.4, -0.6)
    room = 0.08 * (high - low)
    axes.set_xlim(low - room if low < 0 else 0, high + room)
    axes.grid(axis="x", color=colours["grid"], linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", left=False)
    axes.set_xlabel("signal over rounding noise, dB (longer is better, 20 is an error of a tenth)")
    axes.set_title(f"Layers from input to output, the worst {len(worst)} marked", fontsize=11)


def _decibels(error):
    return "exact" if error.snr_db == math.inf else f"{error.snr_db:.1f}"


def _of_model(model, inputs, names):
    """{layer: float32 [batch, ...]} of the rounded layers of a quantization-aware model."""
    outputs = {
        layer.name: layer.output
        for layer in getattr(model, "layers", ())
        if layer.name in names and layer_graph.output_range(layer) is not None
    }
    if not outputs:
        return {}
    # The model's own class: it belongs to a Keras that this module does not import.
    reader = type(model)(model.input, outputs)
    return {name: np.asarray(value) for name, value in reader(inputs, training=False).items()}


def _of_file(path, inputs, names):
    """{layer: float32 [batch, ...]} of the int8 tensors of a .tflite file."""
    content = runtime.read(path)
    tensors = _int8_results(content, names)
    runner = runtime.Runner(path, num_threads=1)
    with runtime.quiet():
        interpreter = Interpreter(
            model_content=content,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        run = interpreter.get_signature_runner()
    values = {name: [] for name in tensors}
    for row in runner.rows(inputs):
        run(**{name: runner.encoded(name, value) for name, value in row.items()})
        for name, (index, scale, zero_point) in tensors.items():
            levels = interpreter.get_tensor(index).astype(np.float32)
            values[name].append((levels - zero_point) * scale)
    return {name: np.concatenate(rows) for name, rows in values.items()}


def _int8_results(content, names):
    """{layer: (tensor index, scale, zero point)} of the int8 results of a file's operators."""
    graph = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]
    results = {}
    for kind, node in zip(flatbuffer.operators_of(content), graph.operators, strict=False):
        (index, *_) = node.outputs
        tensor = graph.tensors[index]
        # A tensor has the names of all it was fused from, the last in front.
        name = tensor.name.decode().partition("/")[0]
        if kind == "RESHAPE" or tensor.type != schema.TensorType.INT8 or name not in names:
            continue
        results[name] = index, tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
    return results


def _rescaled(student):
    """Names of the layers that a file may hold in another unit: those that feed a hard-swish."""
    return {
        name
        for node in layer_graph.nodes(student).values()
        if node.activation == "hard_swish"
        for name in node.inputs
    }


def _error(name, position, exact, rounded):
    exact, rounded = np.float64(exact), np.float64(rounded)
    if not (np.isfinite(exact).all() and np.isfinite(rounded).all()):
        raise ValueError(f"layer {name!r} gave values that are not finite: look at the batch first")
    noise, signal = np.mean((rounded - exact) ** 2), np.mean(exact**2)
    with np.errstate(divide="ignore"):
        snr = math.inf if noise == 0 else 10 * np.log10(signal / noise)
    return LayerError(
        name, position, float(snr), float(np.sqrt(noise)), float(exact.min()), float(exact.max())
    )
