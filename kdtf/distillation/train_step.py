"""The step that distils, written once for models of Keras 3 and of tf_keras."""

import math
import numbers

import keras
import tensorflow as tf

from kdtf import keras_private, losses, model_inputs
from kdtf.distillation import validation
from kdtf.distillation.features import feature_extractor, forward_function


class TrainStep:
    """`train_step` and `test_step` of a Distiller.

    A subclass is also a Model of one of the two Kerases and says how that one does things:
    `_has_label_loss`, `_label_loss`, `_additional_losses`, `_reduce`, `_scaled`, `_mean`,
    `_track_losses` and `_logs`.
    """

    def _set_up(
        self, student, teacher, distillation_loss, alpha, feature_losses, temperature, log_agreement
    ):
        validation.check_teacher(teacher, student)
        validation.check_scalar("alpha", alpha, lambda value: 0 <= value <= 1, "from 0 to 1")
        validation.check_scalar(
            "temperature", temperature, lambda value: 0 < value < math.inf, "> 0"
        )
        self.student = student
        self.adapters = _built_adapters(student, feature_losses)
        self._distillation_loss = distillation_loss
        self._alpha = alpha
        self._temperature = temperature
        self._feature_losses = feature_losses
        self._log_agreement = log_agreement
        self._reduction = "sum_over_batch_size"
        # Closures, because Keras tracks and saves every model it finds among the attributes.
        self._read_logits = forward_function(student)
        self._read_student = _forward(student, [term.student_layer for term in feature_losses])
        self._read_teacher = _teacher_forward(
            teacher, [term.teacher_layer for term in feature_losses]
        )
        self._trackers = {name: self._mean(name) for name in self._tracked_names()}

    def call(self, inputs, training=None):
        """The student's logits [batch, classes]."""
        logits, _ = self._read_logits(inputs, training)
        return logits

    def train_step(self, data):
        """One step of training on one batch (of one replica); returns the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        step = tf.cast(keras.ops.convert_to_tensor(self.optimizer.iterations), tf.int64)
        alpha = _at_step("alpha", self._alpha, step)
        temperature = _at_step("temperature", self._temperature, step)
        teacher_logits, teacher_features = None, {}
        if self._uses_soft_targets or self._feature_losses or self._log_agreement:
            teacher_logits, teacher_features = self._ask_teacher(x)

        with tf.GradientTape() as tape:
            logits, features = self._read_student(x, training=True)
            parts = {}
            if self._has_label_loss:
                parts["label_loss"] = self._label_loss(y, logits, sample_weight)
            if self._uses_soft_targets:
                parts["distillation_loss"] = self._soft_target_loss(
                    teacher_logits, logits, temperature, sample_weight
                )
            if self._feature_losses:
                parts["feature_loss"] = self._feature_loss(
                    teacher_features, features, sample_weight
                )
            loss = _total([*self._weighted(parts, alpha), *self._additional_losses()])
            scaled_loss = self._scaled(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled_loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))

        self._track_losses(logits, loss=loss, **parts)
        for name, value in (("alpha", alpha), ("temperature", temperature)):
            if name in self._trackers:
                self._trackers[name].update_state(value)
        if self._log_agreement:
            self._track_agreement(teacher_logits, logits)
        names = {"loss", "alpha", "temperature", "teacher_agreement", *parts}
        return self._logs(x, y, logits, sample_weight, names)

    def make_train_function(self, force=False):
        """What `fit` calls in every step; see Keras."""
        # Else the first trace makes the optimizer's variables, and TensorFlow has to trace a second
        # time: ten seconds for MobileNetV3-Small.
        self._build_optimizer()
        return super().make_train_function(force)

    def test_step(self, data):
        """One step of evaluation of the student; returns the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logits = self(x, training=False)
        parts = {}
        if self._has_label_loss:
            parts["label_loss"] = self._label_loss(y, logits, sample_weight)
        terms = [*parts.values(), *self._additional_losses()]
        self._track_losses(logits, loss=_total(terms), **parts)
        if self._log_agreement:
            teacher_logits, _ = self._ask_teacher(x)
            self._track_agreement(teacher_logits, logits)
        names = {"teacher_agreement", *parts, *(["loss"] if terms else [])}
        return self._logs(x, y, logits, sample_weight, names)

    @property
    def mixture(self):
        """alpha, and temperature where there are soft targets: numbers or callables of the step."""
        mixture = {"alpha": self._alpha, "temperature": self._temperature}
        return mixture if self._uses_soft_targets else {"alpha": self._alpha}

    def _build_optimizer(self):
        """Makes the optimizer's variables, unless it has them."""
        optimizer = self.optimizer
        # tf_keras.optimizers.legacy has no build.
        if not keras_private.is_built(optimizer) and hasattr(optimizer, "build"):
            with self.distribute_strategy.scope():
                optimizer.build(self.trainable_variables)

    @property
    def _uses_soft_targets(self):
        return not is_number(self._alpha, 0)

    def _tracked_names(self):
        scheduled = {"alpha": self._alpha, "temperature": self._temperature}
        return [
            "label_loss",
            *(["distillation_loss"] if self._uses_soft_targets else []),
            *(["feature_loss"] if self._feature_losses else []),
            *(name for name, value in scheduled.items() if callable(value)),
            *(["teacher_agreement"] if self._log_agreement else []),
        ]

    def _ask_teacher(self, x):
        outputs = self._read_teacher(x, training=False)
        return keras.tree.map_structure(tf.stop_gradient, outputs)

    def _soft_target_loss(self, teacher_logits, logits, temperature, sample_weight):
        validation.check_classes(teacher_logits.shape[-1], logits.shape[-1])
        teacher_logits = _of_ensemble(teacher_logits, temperature)
        values = self._distillation_loss(teacher_logits, logits, temperature)
        return self._reduce(_per_example("distillation_loss", values), sample_weight)

    def _feature_loss(self, teacher_features, features, sample_weight):
        terms = []
        for term in self._feature_losses:
            student_features = features[term.student_layer]
            if term.adapter is not None:
                student_features = term.adapter(student_features, training=True)
            values = term.loss(teacher_features[term.teacher_layer], student_features)
            values = _per_example("feature loss", values)
            terms.append(term.weight * self._reduce(values, sample_weight))
        return _total(terms)

    def _weighted(self, parts, alpha):
        # A weight of the number 0 leaves its term out, of the number 1 leaves it untouched.
        weights = {"label_loss": 1 - alpha, "distillation_loss": alpha, "feature_loss": 1}
        return [
            value if is_number(weights[name], 1) else weights[name] * value
            for name, value in parts.items()
            if not is_number(weights[name], 0)
        ]

    def _track_agreement(self, teacher_logits, logits):
        teacher_classes = tf.argmax(_of_ensemble(teacher_logits, 1.0), axis=-1)
        same = tf.equal(teacher_classes, tf.argmax(logits, axis=-1))
        self._trackers["teacher_agreement"].update_state(tf.cast(same, tf.float32))


def _of_ensemble(teacher_logits, temperature):
    if teacher_logits.shape.rank != 3:
        return teacher_logits
    return losses.tempered_mean(teacher_logits, temperature)


def _total(terms):
    if not terms:
        return tf.zeros(())
    return terms[0] if len(terms) == 1 else keras.ops.sum(terms)


def _per_example(name, values):
    values = tf.convert_to_tensor(values)
    if values.shape.rank != 1:
        raise ValueError(
            f"{name} must return one loss per example, float [batch]; got shape "
            f"{tuple(values.shape)}: leave the mean over the batch to the Distiller"
        )
    return values


def is_number(value, number):
    return isinstance(value, numbers.Real) and value == number


def _at_step(name, value, step):
    if not callable(value):
        return value
    scalar = tf.cast(value(step), tf.float32)
    if scalar.shape.rank != 0:
        raise ValueError(f"{name} schedule must return a scalar, got shape {tuple(scalar.shape)}")
    return scalar


def _forward(model, layer_names):
    layer_names = list(dict.fromkeys(layer_names))
    if layer_names and model_inputs.is_functional(model):
        model = feature_extractor(model, layer_names)
    return forward_function(model, layer_names)


def _teacher_forward(teacher, layer_names):
    if teacher is not None:
        return _forward(teacher, layer_names)

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


def _built_adapters(student, feature_losses):
    adapted = [term for term in feature_losses if term.adapter is not None]
    if not adapted:
        return []
    _, features = feature_extractor(student, [term.student_layer for term in adapted]).output
    for term in adapted:
        if not term.adapter.built:
            term.adapter.build(features[term.student_layer].shape)
    return list({id(term.adapter): term.adapter for term in adapted}.values())
