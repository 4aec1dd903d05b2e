"""Quantization-aware training of students: int8 weights and activations, emulated by tfmot.

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
relu6(x + 3) and a product, each with its own range: operators that phones run in int8.
"""

from pathlib import Path

import keras
import numpy as np
import tf_keras

from kdtf import files, keras_private, layer_graph, model_inputs
from kdtf.quantize import fake_quant, observer

_ACTIVATIONS = ("linear", "relu", "hard_swish", "hard_sigmoid")
# Exact classes: a subclass may compute something else.
_LINEAR = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
_REBUILT = (keras.layers.Flatten, keras.layers.Embedding)
_COMBINING = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.Multiply,
    keras.layers.Add,
    keras.layers.Concatenate,
)
# Activations whose input no one else reads: with the layer in front they become one operator.
_FUSED = ("relu", "hard_sigmoid")


def quantize_aware(student, calibration):
    """A tf_keras model that computes the student in emulated int8, for training and export.

    Args:
      student: functional Keras 3 model of the layers that kdtf's students are made of: Rescaling
        of raw images, Conv2D, DepthwiseConv2D, Dense, BatchNormalization, Activation (relu,
        hard_swish, hard_sigmoid), GlobalAveragePooling2D, Multiply, Add, Concatenate, Embedding,
        Flatten and Dropout (which is left out). It is not changed.
      calibration: iterable of batches as the student takes them (tuples count by their first
        element), from training photos in the views of evaluation; 8 batches of 32 will do. They
        decide the ranges of activations, see `observer.RangeObserver.range`.

    Returns:
      tf_keras.Model with the student's inputs, layer names and weights, to float32 logits
      [batch, classes]. Under `fake_quant.quantization_mode("off")` it equals the student.

    Raises:
      ValueError: a layer that has no int8 form here or is called twice; no calibration batch, or
        one that makes the student return what is not finite.
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
    saved = {name: array.shape for name, array in arrays.items()}
    if wanted != saved:
        differing = sorted(set(wanted.items()) ^ set(saved.items()))[:3]
        raise ValueError(
            f"{path} holds {len(saved)} arrays, {student.name} needs {len(wanted)}; they differ in "
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
    return {
        f"{layer.name}/{variable.name.split('/')[-1].split(':')[0]}": variable
        for layer in model.layers
        for variable in layer.weights
    }


def _calibrate(model, batches):
    with fake_quant.quantization_mode("observe"):
        for batch in batches:
            model(
                model_inputs.prepare_inputs(model, batch[0] if isinstance(batch, tuple) else batch),
                training=False,
            )
    for layer in model.layers:
        variables = keras_private.output_quantizer_variables(layer)
        if not variables:
            continue
        (quantizer,) = keras_private.output_quantizers(layer)
        low, high = quantizer.observer.range(quantizer.low_limit, quantizer.high_limit)
        quantizer.observer = observer.RangeObserver()  # frees the sample
        variables["low"].assign(low)
        variables["high"].assign(high)


class _Lowering:
    """The student as an annotated tf_keras model with the same weights."""

    def __init__(self, student):
        if not model_inputs.is_functional(student):
            raise ValueError(
                f"student must be a functional Keras 3 model, got {type(student)}: its layers must "
                "be known to be quantised one by one"
            )
        self._nodes = layer_graph.nodes(student)
        outputs = {}
        for name, node in self._nodes.items():
            outputs[name] = self._lower(node, [outputs[source] for source in node.inputs])
        inputs = keras.tree.map_structure(
            lambda tensor: outputs[keras_private.layer_of(tensor).name], student.input
        )
        output = outputs[keras_private.layer_of(student.outputs[0]).name]
        self.model = tf_keras.Model(inputs, output, name=student.name)
        lowered = {layer.name: layer for layer in map(layer_graph.unwrapped, self.model.layers)}
        for layer in student.layers:
            if layer.weights:
                lowered[layer.name].set_weights(layer.get_weights())

    def _lower(self, node, inputs):
        layer, kind = node.layer, type(node.layer)
        if kind is keras.layers.InputLayer:
            shape = layer.batch_shape[1:]
            return tf_keras.Input(shape, dtype=layer.dtype, name=layer.name)
        x = inputs[0] if len(inputs) == 1 else inputs
        if kind in _LINEAR:
            return self._linear(node)(x)
        if kind is keras.layers.Activation:
            return self._activation(node)(x)
        if kind is keras.layers.Rescaling:
            if (layer.scale, layer.offset) != (1 / 127.5, -1.0):
                raise ValueError(
                    f"layer {layer.name!r} rescales by {layer.scale} and {layer.offset}, expected "
                    "1/127.5 and -1: raw images 0..255 to -1..1"
                )
            rescaling = tf_keras.layers.Rescaling(1 / 127.5, offset=-1.0, name=layer.name)
            return _annotated(rescaling, output=fake_quant.Pixels())(x)
        if kind is keras.layers.BatchNormalization:
            self._check_follows_linear(node)
            norm = fake_quant.FreezableBatchNormalization(
                axis=layer.axis, momentum=layer.momentum, epsilon=layer.epsilon, name=layer.name
            )
            return _annotated(norm, output=self._output(node))(x)
        if kind is keras.layers.Dropout:  # a fine-tuning that must also bear rounding does without
            return x
        if kind in _REBUILT:
            return _annotated(_rebuilt(layer))(x)
        if kind in (keras.layers.Multiply, keras.layers.Add) and len(inputs) != 2:
            raise ValueError(
                f"layer {layer.name!r} joins {len(inputs)} tensors, phones join 2: use two layers"
            )
        if kind is keras.layers.Concatenate and len(inputs) == 1:  # tf_keras refuses to join one
            single = tf_keras.layers.Activation("linear", name=layer.name)
            return _annotated(single, output=fake_quant.Activation())(x)
        if kind in _COMBINING:
            return _annotated(_rebuilt(layer), output=fake_quant.Activation())(x)
        raise ValueError(
            f"layer {layer.name!r} is a {kind.__name__}, which has no int8 form here: build the "
            "student from the layers that kdtf.quantize.quantize_aware lists"
        )

    def _linear(self, node):
        layer = node.layer
        settings = [getattr(layer, name, 1) for name in ("groups", "depth_multiplier")]
        if settings != [1, 1] or set(getattr(layer, "dilation_rate", (1,))) != {1}:
            raise ValueError(
                f"layer {layer.name!r} is a grouped or dilated convolution or has a depth "
                "multiplier: int8 kernels here have none of these"
            )
        if node.activation not in ("linear", "relu"):
            raise ValueError(
                f"layer {layer.name!r} has the activation {node.activation!r}: give it an "
                "Activation layer of its own"
            )
        depthwise = type(layer) is keras.layers.DepthwiseConv2D
        kernel = fake_quant.Kernel(axis=2 if depthwise else -1 % len(layer.kernel.shape))
        return _annotated(_rebuilt(layer), kernel=kernel, output=self._output(node))

    def _activation(self, node):
        layer, name = node.layer, node.activation
        if name == "relu":
            return _annotated(
                tf_keras.layers.ReLU(name=layer.name), output=fake_quant.Activation(low_limit=0.0)
            )
        if name in ("hard_swish", "hard_sigmoid"):
            self._check_follows_linear(node)
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

    def _check_follows_linear(self, node):
        (source,) = node.inputs
        before = self._nodes[source]
        kind, readers = type(before.layer), len(before.consumers)
        active = before.activation not in (None, "linear")
        if kind not in (*_LINEAR, keras.layers.BatchNormalization) or active or readers > 1:
            raise ValueError(
                f"layer {node.layer.name!r} must be the only reader of a convolution, Dense layer "
                "or batch norm without an activation, to become part of its kernel; it reads "
                f"{source!r}, a {kind.__name__} with {readers} readers"
            )

    def _output(self, node):
        """The quantizer of what a linear layer gives, None if the next layer takes it over."""
        consumers = [self._nodes[name] for name in node.consumers]
        activations = [consumer.activation for consumer in consumers]
        if len(consumers) == 1 and (
            type(consumers[0].layer) is keras.layers.BatchNormalization or activations[0] in _FUSED
        ):
            return None
        # Below -3 hard-swish is 0: levels there would be wasted.
        low_limit = -3.0 if set(activations) == {"hard_swish"} else -1e30
        return fake_quant.Activation(low_limit=low_limit)


def _annotated(layer, kernel=None, output=None):
    config = fake_quant.LayerConfig(kernel, output)
    return fake_quant.tfmot.quantization.keras.quantize_annotate_layer(layer, config)


def _rebuilt(layer):
    """The tf_keras layer of the same class, settings and name."""
    config = {key: value for key, value in layer.get_config().items() if key in _SETTINGS}
    if isinstance(layer, (keras.layers.Add, keras.layers.Multiply)):
        config = {"name": layer.name}
    return getattr(tf_keras.layers, type(layer).__name__).from_config(config)


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
