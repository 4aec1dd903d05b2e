"""Quantization-aware training of students: 8-bit weights and activations, emulated by tfmot.

    student = quantize.equalize(student, calibration=batches)
    qat = quantize.quantize_aware(student, calibration=batches)
    quantize.correct_biases(qat, batch)
    distiller = quantize.Distiller(qat, teacher, temperature=4.0)
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
import tensorflow as tf
import tf_keras

from kdtf import fake_quant, files, folded, losses, ranges, refusals, taps
from kdtf.bias_correction import correct_biases
from kdtf.equalization import equalize
from kdtf.layer_errors import layer_errors
from kdtf.train_step import TrainStep, is_number

__all__ = [
    "BatchNormFreeze",
    "Distiller",
    "correct_biases",
    "equalize",
    "layer_errors",
    "load_weights",
    "quantize_aware",
    "save_weights",
]

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
    with files.replacing(Path(path)) as partial, open(partial, "wb") as file:
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


class Distiller(TrainStep, tf_keras.Model):
    """`kdtf.Distiller` for a quantization-aware student: the same step, losses and logs.

    The teacher keeps helping while the student learns to live with 8 bits. With `alpha=0` it
    learns from labels alone. `save_weights` and `load_weights` hold the student;
    `checkpoint.EpochCheckpoint` the optimizer too.

    Args:
      student: what `quantize_aware` gave.
      teacher, distillation_loss, alpha, temperature, log_agreement: as in `kdtf.Distiller`.

    Raises:
      TypeError, ValueError: as in `kdtf.Distiller`.
    """

    def __init__(
        self,
        student,
        teacher=None,
        distillation_loss=losses.soft_target_kl,
        alpha=0.7,
        *,
        temperature=4.0,
        log_agreement=False,
    ):
        if not isinstance(student, tf_keras.Model):
            raise TypeError(
                f"student must be a model that quantize_aware gave, got {type(student)}: for a "
                "Keras 3 model use kdtf.Distiller"
            )
        super().__init__()
        self._set_up(student, teacher, distillation_loss, alpha, (), temperature, log_agreement)

    def compile(self, optimizer="rmsprop", loss=None, *args, **kwargs):
        """tf_keras.Model.compile, with a loss of tf_keras on the labels that takes logits.

        Raises:
          ValueError: no loss while the labels have a weight; a loss on probabilities.
        """
        if loss is None and not is_number(self._alpha, 1):
            raise ValueError(
                f"loss is None, but with alpha={self._alpha!r} the labels have a weight: pass a "
                "loss on logits of tf_keras.losses, or alpha=1 to train on the teacher alone"
            )
        if loss is not None:
            self._reduction = refusals.checked_reduction(loss, tf_keras)
        self._has_hard_loss = loss is not None
        super().compile(optimizer, loss, *args, **kwargs)

    def _hard_loss(self, y, logits, sample_weight):
        return self.compiled_loss(y, logits, sample_weight)

    def _additional_losses(self):
        return [tf.nn.scale_regularization_loss(loss) for loss in self.losses]

    def _reduce(self, values, sample_weight):
        values = _Weighted(reduction="none")(values, values, sample_weight)
        if self._reduction == "sum":
            return tf.reduce_sum(values)
        return tf.nn.compute_average_loss(values)  # over the batch of all replicas

    def _scaled(self, loss):
        return loss

    def _mean(self, name):
        return tf_keras.metrics.Mean(name=name)

    def _track_losses(self, logits, loss, **parts):
        # Undoes the division by the number of replicas, which is for the gradient's sum only.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        size = tf.shape(logits)[0]
        for name, value in {"loss": loss, **parts}.items():
            self._trackers[name].update_state(value * replicas, sample_weight=size)

    def _tracked_names(self):
        return ["loss", *super()._tracked_names()]

    def _logs(self, x, y, logits, sample_weight, names):
        self.compiled_metrics.update_state(y, logits, sample_weight)
        measured = [*self.compiled_metrics.metrics]
        measured += [tracker for name, tracker in self._trackers.items() if name in names]
        return {metric.name: metric.result() for metric in measured}


class _Weighted(tf_keras.losses.Loss):
    """tf_keras's own weighting of losses per example."""

    def call(self, y_true, y_pred):
        return y_pred


class BatchNormFreeze(tf_keras.callbacks.Callback):
    """From an epoch on, batch norms use and keep their statistics, in training too.

    Statistics of single batches differ from those the phone uses; training against the latter
    closes that gap (Krishnamoorthi, 2018, arXiv:1806.08342). Scales and offsets train on.

    Args:
      epoch: the first epoch with fixed statistics, counted from 0; a resumed `fit` counts on.
    """

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        norms = [
            layer
            for layer in map(folded.unwrapped, self.model.student.layers)
            if isinstance(layer, fake_quant.FreezableBatchNormalization)
        ]
        if epoch >= self.epoch and not all(norm.frozen for norm in norms):
            for norm in norms:
                norm.frozen = True
            self.model.make_train_function(force=True)  # the old one has been traced


def _calibrate(model, batches):
    with fake_quant.mode("observe"):
        for batch in batches:
            model(taps.feed(model, batch[0] if isinstance(batch, tuple) else batch), training=False)
    for layer in model.layers:
        if not getattr(layer, "_output_quantizer_vars", None):
            continue
        quantizer = layer._output_quantizers[0]
        found = quantizer.observer.range(quantizer.low_limit, quantizer.high_limit)
        quantizer.observer = ranges.Observer()  # frees the sample
        for end, value in zip(("low", "high"), found, strict=True):
            layer._output_quantizer_vars[end].assign(value)


class _Lowering:
    """The student as an annotated tf_keras model with the same weights."""

    def __init__(self, student):
        if not taps.is_functional(student):
            raise ValueError(
                f"student must be a functional Keras 3 model, got {type(student)}: its layers must "
                "be known to be quantised one by one"
            )
        self._layers = {layer.name: layer for layer in student.layers}
        self._consumers = {layer.name: [] for layer in student.layers}
        for layer in student.layers:
            for source in taps.sources(layer):
                self._consumers[source].append(layer)
        outputs = {}
        for layer in student.layers:
            inputs = [outputs[name] for name in taps.sources(layer)]
            outputs[layer.name] = self._lower(layer, inputs)
        inputs = keras.tree.map_structure(
            lambda tensor: outputs[tensor._keras_history.operation.name], student.input
        )
        output = outputs[student.outputs[0]._keras_history.operation.name]
        self.model = tf_keras.Model(inputs, output, name=student.name)
        lowered = {layer.name: layer for layer in map(folded.unwrapped, self.model.layers)}
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
        activation = taps.activation_name(layer)
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
        name = taps.activation_name(layer)
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
        (source,) = taps.sources(layer)
        kind = type(self._layers[source]).__name__
        active = taps.activation_name(self._layers[source]) not in (None, "linear")
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
        names = [taps.activation_name(consumer) for consumer in consumers]
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
