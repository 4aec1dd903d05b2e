"""Quantization-aware training of students: 8-bit weights and activations, emulated by tfmot.

    student = quantize.equalize(student, calibration=batches)
    qat = quantize.quantize_aware(student, calibration=batches)
    quantize.correct_biases(qat, batch)
    distiller = quantize.QATDistiller(qat, teacher, temperature=4.0)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(tf_keras.optimizers.Adam(1e-5), loss, metrics=["accuracy"])
    distiller.fit(batches, epochs=2, callbacks=[quantize.BatchNormFreeze(epoch=0)])
    export.to_tflite(qat, "student_int8.tflite")

tensorflow-model-optimization takes tf_keras models only, and cannot quantise hard-swish. So the
student is rebuilt in tf_keras, layer by layer under the same names, with hard-swish as a gate
relu6(x + 3) and a product, each with its own range: operators that phones run in 8 bits.
"""

from pathlib import Path

import keras
import numpy as np
import tf_keras

from kdtf import files, model_inputs
from kdtf.quantize import fake_quant, folding, layer_graph, observer

_ACTIVATIONS = ("linear", "relu", "hard_swish", "hard_sigmoid")
_LINEAR = ("Conv2D", "DepthwiseConv2D", "Dense")
# Layers whose result no one reads but the next layer, with which they become one operator.
_FUSED = ("BatchNormalization", "relu", "hard_sigmoid")


def quantize_aware(student, calibration):
    """A tf_keras model that computes the student in emulated 8 bits, for training and export.

    Args:
      student: functional Keras 3 model of the layers that kdtf's students are made of: Rescaling
        of raw images, Conv2D, DepthwiseConv2D, Dense, BatchNormalization, Activation (relu,
        hard_swish, hard_sigmoid), GlobalAveragePooling2D, Multiply, Add, Concatenate, Embedding,
        Flatten and Dropout (which is left out). It is not changed.
      calibration: iterable of batches as the student takes them (tuples count by their first
        element), from training photos in the views of evaluation; 8 batches of 32 will do. They
        decide the ranges of activations, see `ranges.Observer.range`.

    Returns:
      tf_keras.Model with the student's inputs, layer names and weights, to float32 logits
      [batch, classes]. Under `fake_quant.mode("off")` it equals the student.

    Raises:
      ValueError: a layer that has no 8-bit form here; no calibration batch, or one that makes the
        student return what is not finite.
    """
    model = _annotated_and_applied(student)
    _calibrate(model, calibration)
    return model


def save_weights(model, path):
    """Writes weights and ranges of a quantization-aware model, as `.npz`; see `load_weights`."""
    with files.atomic_write(Path(path)) as partial, open(partial, "wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in _variables(model).items()})


def load_weights(student, path):
    """The quantization-aware model of a student, with what `save_weights` wrote.

    Args:
      student: the float student, as given to `quantize_aware`.
      path: `.npz` file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file was written from another student.
    """
    model = _annotated_and_applied(student)
    variables = _variables(model)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
    found = {name: array.shape for name, array in arrays.items()}
    if wanted != found:
        differing = sorted(set(wanted.items()) ^ set(found.items()))[:3]
        raise ValueError(
            f"{path} holds {len(found)} arrays, {student.name} needs {len(wanted)}; they differ in "
            f"{differing}: give the student that was made quantization-aware"
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return model


def _annotated_and_applied(student):
    annotated = _Lowering(student).model
    with fake_quant.tfmot.quantization.keras.quantize_scope(fake_quant.custom_objects()):
        return fake_quant.tfmot.quantization.keras.quantize_apply(
            annotated, scheme=fake_quant.AsAnnotated(), quantized_layer_name_prefix=""
        )


def _variables(model):
    # By layer, since tfmot's wrappers list a kernel differently before and after the first call.
    found = {}
    for layer in model.layers:
        for variable in layer.weights:
            found[f"{layer.name}/{variable.name.split('/')[-1].split(':')[0]}"] = variable
    return found


def _calibrate(model, batches):
    with fake_quant.quantization_mode("observe"):
        for batch in batches:
            model(
                model_inputs.prepare_inputs(model, batch[0] if isinstance(batch, tuple) else batch),
                training=False,
            )
    for layer in model.layers:
        if not getattr(layer, "_output_quantizer_vars", None):
            continue
        quantizer = layer._output_quantizers[0]
        found = quantizer.observer.range(quantizer.low_limit, quantizer.high_limit)
        quantizer.observer = observer.RangeObserver()  # frees the sample
        for end, value in zip(("low", "high"), found, strict=True):
            layer._output_quantizer_vars[end].assign(value)


class _Lowering:
    """The student as an annotated tf_keras model with the same weights."""

    def __init__(self, student):
        if not model_inputs.is_functional(student):
            raise ValueError(
                f"student must be a functional Keras 3 model, got {type(student)}: its layers must "
                "be known to be quantised one by one"
            )
        self._layers = {layer.name: layer for layer in student.layers}
        self._consumers = {layer.name: [] for layer in student.layers}
        for layer in student.layers:
            for source in layer_graph.sources(layer):
                self._consumers[source].append(layer)
        outputs = {}
        for layer in student.layers:
            inputs = [outputs[name] for name in layer_graph.sources(layer)]
            outputs[layer.name] = self._lower(layer, inputs)
        inputs = keras.tree.map_structure(
            lambda tensor: outputs[tensor._keras_history.operation.name], student.input
        )
        output = outputs[student.outputs[0]._keras_history.operation.name]
        self.model = tf_keras.Model(inputs, output, name=student.name)
        lowered = {layer.name: layer for layer in map(folding.unwrapped, self.model.layers)}
        for layer in student.layers:
            if layer.weights:
                lowered[layer.name].set_weights(layer.get_weights())

    def _lower(self, layer, inputs):
        kind, layers = type(layer).__name__, tf_keras.layers
        if kind == "InputLayer":
            shape = layer.batch_shape[1:]
            return tf_keras.Input(shape, dtype=layer.dtype, name=layer.name)
        x = inputs[0] if len(inputs) == 1 and kind != "Concatenate" else inputs
        if kind in _LINEAR:
            return self._linear(layer, kind)(x)
        if kind == "Activation":
            return self._activation(layer)(x)
        if kind == "Rescaling":
            if (layer.scale, layer.offset) != (1 / 127.5, -1.0):
                raise ValueError(
                    f"layer {layer.name!r} rescales by {layer.scale} and {layer.offset}, expected "
                    "1/127.5 and -1: raw images 0..255 to -1..1"
                )
            rescaling = layers.Rescaling(1 / 127.5, offset=-1.0, name=layer.name)
            return _annotated(rescaling, output=fake_quant.Pixels())(x)
        if kind == "BatchNormalization":
            self._check_follows_linear(layer)
            norm = fake_quant.FreezableBatchNormalization(
                axis=layer.axis, momentum=layer.momentum, epsilon=layer.epsilon, name=layer.name
            )
            return _annotated(norm, output=self._output(layer))(x)
        if kind == "Dropout":  # a short fine-tuning that must also bear rounding does without
            return x
        if kind in ("Flatten", "Embedding"):
            return _annotated(_rebuilt(layer))(x)
        if kind in ("Multiply", "Add") and len(inputs) != 2:
            raise ValueError(
                f"layer {layer.name!r} joins {len(inputs)} tensors, phones join 2: use two layers"
            )
        if kind in ("GlobalAveragePooling2D", "Multiply", "Add", "Concatenate"):
            return _annotated(_rebuilt(layer), output=fake_quant.Activation())(x)
        raise ValueError(
            f"layer {layer.name!r} is a {kind}, which has no 8-bit form here: build the student "
            "from the layers that kdtf.quantize.quantize_aware lists"
        )

    def _linear(self, layer, kind):
        settings = [getattr(layer, name, 1) for name in ("groups", "depth_multiplier")]
        if settings != [1, 1] or set(getattr(layer, "dilation_rate", (1,))) != {1}:
            raise ValueError(
                f"layer {layer.name!r} is a grouped or dilated convolution or has a depth "
                "multiplier: 8-bit kernels here have none of these"
            )
        activation = layer_graph.activation_name(layer)
        if activation not in ("linear", "relu"):
            raise ValueError(
                f"layer {layer.name!r} has the activation {activation!r}: give it an "
                "Activation layer of its own"
            )
        kernel = fake_quant.Kernel(
            axis=2 if kind == "DepthwiseConv2D" else -1 % len(layer.kernel.shape)
        )
        return _annotated(_rebuilt(layer), kernel=kernel, output=self._output(layer))

    def _activation(self, layer):
        name = layer_graph.activation_name(layer)
        if name == "relu":
            return _annotated(
                tf_keras.layers.ReLU(name=layer.name), output=fake_quant.Activation(low_limit=0.0)
            )
        if name in ("hard_swish", "hard_sigmoid"):
            self._check_follows_linear(layer)
        if name == "hard_sigmoid":
            return _annotated(
                fake_quant.HardSigmoid(name=layer.name),
                output=fake_quant.Activation(low_limit=0.0, high_limit=1.0),
            )
        if name == "hard_swish":
            gate = _annotated(
                fake_quant.HardGate(name=f"{layer.name}_gate"),
                output=fake_quant.Activation(low_limit=0.0, high_limit=6.0),
            )
            product = _annotated(
                fake_quant.GatedProduct(name=layer.name), output=fake_quant.Activation()
            )
            return lambda x: product([x, gate(x)])
        raise ValueError(
            f"layer {layer.name!r} has the activation {name!r}, expected one of {_ACTIVATIONS}"
        )

    def _check_follows_linear(self, layer):
        (source,) = layer_graph.sources(layer)
        kind = type(self._layers[source]).__name__
        active = layer_graph.activation_name(self._layers[source]) not in (None, "linear")
        readers = len(self._consumers[source])
        if kind not in (*_LINEAR, "BatchNormalization") or active or readers > 1:
            raise ValueError(
                f"layer {layer.name!r} must be the only reader of a convolution, Dense layer or "
                "batch norm without an activation, to become part of its kernel; it reads "
                f"{source!r}, a {kind} with {readers} readers"
            )

    def _output(self, layer):
        """The quantizer of what a linear layer gives, None if the next layer takes it over."""
        consumers = self._consumers[layer.name]
        names = [layer_graph.activation_name(consumer) for consumer in consumers]
        kinds = [type(consumer).__name__ for consumer in consumers]
        if len(consumers) == 1 and (kinds[0] in _FUSED or names[0] in _FUSED):
            return None
        # Below -3 hard-swish is 0: levels there would be wasted.
        low_limit = -3.0 if consumers and set(names) == {"hard_swish"} else -1e30
        return fake_quant.Activation(low_limit=low_limit)


def _annotated(layer, kernel=None, output=None):
    config = fake_quant.LayerConfig(kernel, output)
    return fake_quant.tfmot.quantization.keras.quantize_annotate_layer(layer, config)


def _rebuilt(layer):
    """The tf_keras layer of the same class and settings."""
    kind = getattr(tf_keras.layers, type(layer).__name__)
    config = layer.get_config()
    known = kind.from_config(
        {"name": "x"}
        if type(layer).__name__ in ("Add", "Multiply")
        else {key: value for key, value in config.items() if key in _SETTINGS}
    )
    known._name = layer.name
    return known


_SETTINGS = (
    "name",
    "filters",
    "kernel_size",
    "strides",
    "padding",
    "use_bias",
    "units",
    "activation",
    "depth_multiplier",
    "rate",
    "keepdims",
    "input_dim",
    "output_dim",
    "axis",
)
