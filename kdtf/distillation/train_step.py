"""The step that distils, written once for models of Keras 3 and of tf_keras."""

import math
import warnings

import keras
import tensorflow as tf

from kdtf import keras_private, losses
from kdtf.distillation import compile_arguments, step_checks, validation
from kdtf.distillation.networks import (
    built_adapters,
    callable_teacher,
    layer_forward,
    teacher_forward,
)
from kdtf.distillation.validation import is_number

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"kdtf's Distillers train with TensorFlow, but Keras runs on {keras.backend.backend()!r}: "
        'set KERAS_BACKEND=tensorflow before Keras is imported (or "backend" in '
        "~/.keras/keras.json)"
    )

_ALPHA = (lambda value: (value >= 0) & (value <= 1)), "from 0 to 1"
_TEMPERATURE = (lambda value: (value > 0) & (value < math.inf)), "> 0"
# Read once, when a Distiller is made: assigned later, they would change nothing.
_FIXED = {"student", "teacher", "distillation_loss", "feature_losses", "adapters", "log_agreement"}


class TrainStep:
    """`train_step` and `test_step` of a Distiller.

    A subclass is also a Model of one of the two Kerases and says how that one does things:
    `_has_label_loss`, `_label_loss`, `_additional_losses`, `_reduce`, `_scaled`, `_mean`,
    `_track_losses` and `_logs`.
    """

    def _set_up(
        self, student, teacher, distillation_loss, alpha, feature_losses, temperature, log_agreement
    ):
        validation.check_teacher(callable_teacher(teacher), student)
        validation.check_scalar("alpha", alpha, *_ALPHA)
        validation.check_scalar("temperature", temperature, *_TEMPERATURE)
        self.student = student
        self.adapters = built_adapters(student, feature_losses)
        self._distillation_loss = distillation_loss
        self._alpha = alpha
        self._temperature = temperature
        self._feature_losses = feature_losses
        self._log_agreement = log_agreement
        self._reduction = "sum_over_batch_size"
        self._compiled = None
        self._checks = step_checks.StepChecks(
            lambda: bool(self.jit_compile) and not self.run_eagerly
        )
        # Closures, because Keras tracks and saves every model it finds among the attributes.
        self._read_logits = layer_forward(student, [])
        self._read_student = layer_forward(student, [term.student_layer for term in feature_losses])
        self._read_teacher = teacher_forward(
            teacher, [term.teacher_layer for term in feature_losses]
        )
        self._trackers = {name: self._mean(name) for name in self._tracked_names()}

    def __setattr__(self, name, value):
        if name in _FIXED and (name not in ("student", "adapters") or hasattr(self, name)):
            raise AttributeError(
                f"{name} is fixed once a {type(self).__name__} is made: make a new one with "
                f"{name}=..."
            )
        super().__setattr__(name, value)

    @property
    def alpha(self):
        """Weight of the distillation loss, a number or a callable of the step; may be set.

        The next step uses a new value, mid-`fit` too, and is traced anew: to change it in every
        step, set a callable once.
        """
        return self._alpha

    @alpha.setter
    def alpha(self, value):
        validation.check_scalar("alpha", value, *_ALPHA)
        if self._compiled is not None:
            self._checked_reduction(*self._compiled, value)
        self._replace("_alpha", value)

    @property
    def temperature(self):
        """Temperature of the soft targets, a number or a callable of the step; may be set."""
        return self._temperature

    @temperature.setter
    def temperature(self, value):
        validation.check_scalar("temperature", value, *_TEMPERATURE)
        self._replace("_temperature", value)

    def _replace(self, name, value):
        if value is getattr(self, name):
            return
        setattr(self, name, value)
        with self.distribute_strategy.scope():
            for tracked in self._tracked_names():
                if tracked not in self._trackers:
                    self._trackers[tracked] = self._mean(tracked)
        if self.train_function is not None:  # it has been traced with the old value
            self.make_train_function(force=True)

    def call(self, inputs, training=None):
        """The student's logits [batch, classes]."""
        logits, _ = self._read_logits(inputs, training)
        return logits

    def train_step(self, data):
        """One step of training on one batch (of one replica); returns the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        step = tf.cast(keras.ops.convert_to_tensor(self.optimizer.iterations), tf.int64)
        self._checks.start()
        alpha, temperature = self._alpha, self._temperature
        if callable(alpha):
            alpha = self._checks.scalar("alpha", alpha(step), *_ALPHA)
        if callable(temperature):
            temperature = self._checks.scalar("temperature", temperature(step), *_TEMPERATURE)
        y, sample_weight = map(compile_arguments.of_output, (y, sample_weight))
        teacher_logits, teacher_features = None, {}
        if self._uses_soft_targets or self._feature_losses or self._log_agreement:
            teacher_logits, teacher_features = self._ask_teacher(x)

        with tf.GradientTape() as tape:
            logits, features = self._read_student(x, training=True)
            if teacher_logits is not None:
                teacher_logits = self._checks.teacher_logits(teacher_logits, logits)
            is_softmax = compile_arguments.is_softmax(self._distillation_loss)
            if self._uses_soft_targets and is_softmax:
                self._checks.one_label(y, logits)
            parts = {}
            if self._has_label_loss:
                parts["label_loss"] = self._label_loss(y, logits, sample_weight)
            if self._uses_soft_targets:
                parts["distillation_loss"] = self._soft_target_loss(
                    teacher_logits, logits, temperature, sample_weight
                )
            if self._feature_losses:
                parts["feature_loss"] = self._feature_loss(
                    teacher_features, features, logits, sample_weight
                )
            loss = _total([*self._weighted(parts, alpha), *self._additional_losses()])
            scaled_loss = self._scaled(loss)
        variables = self.trainable_variables
        if variables:
            one = self._checks.gated(tf.ones_like(scaled_loss))
            gradients = tape.gradient(scaled_loss, variables, output_gradients=one)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        else:
            warnings.warn("the student is wholly frozen: nothing is trained", stacklevel=2)

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
        return self._make("train_function", super().make_train_function, force)

    def make_test_function(self, force=False):
        """What `evaluate` calls in every step; see Keras."""
        return self._make("test_function", super().make_test_function, force)

    def _make(self, name, make, force):
        old = getattr(self, name)
        make(force)
        new = getattr(self, name)
        if new is not old and self.jit_compile and not self.run_eagerly:
            with self.distribute_strategy.scope():
                setattr(self, name, self._checks.watched(new))
        return getattr(self, name)

    def test_step(self, data):
        """One step of evaluation of the student; returns the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._checks.start()
        y, sample_weight = map(compile_arguments.of_output, (y, sample_weight))
        logits = self(x, training=False)
        parts = {}
        if self._has_label_loss:
            parts["label_loss"] = self._label_loss(y, logits, sample_weight)
        terms = [*parts.values(), *self._additional_losses()]
        self._track_losses(logits, loss=_total(terms), **parts)
        if self._log_agreement:
            teacher_logits, _ = self._ask_teacher(x)
            teacher_logits = self._checks.teacher_logits(teacher_logits, logits)
            self._track_agreement(teacher_logits, logits)
        names = {"teacher_agreement", *parts, *(["loss"] if terms else [])}
        return self._logs(x, y, logits, sample_weight, names)

    @property
    def mixture(self):
        """alpha, and temperature where there are soft targets: numbers or callables of the step."""
        mixture = {"alpha": self._alpha, "temperature": self._temperature}
        return mixture if self._uses_soft_targets else {"alpha": self._alpha}

    def _checked_compile(self, compile, keras, *args, **kwargs):
        """`compile` of the Keras of the student, with what it can train with."""
        arguments = compile_arguments.bound(compile, self.student, keras, *args, **kwargs)
        loss = arguments.arguments.get("loss")
        self._reduction = self._checked_reduction(loss, keras, self._alpha)
        self._compiled = loss, keras
        compile(*arguments.args, **arguments.kwargs)

    def _checked_reduction(self, loss, keras, alpha):
        return compile_arguments.checked_reduction(
            loss, keras, alpha=alpha, distillation_loss=self._distillation_loss
        )

    def _build_optimizer(self):
        """Makes the optimizer's variables, unless it has them."""
        optimizer = self.optimizer
        if not self.trainable_variables:
            return
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
        teacher_logits = _of_ensemble(teacher_logits, temperature)
        values = self._distillation_loss(teacher_logits, logits, temperature)
        values = self._checks.per_example("distillation_loss", values, logits)
        return self._reduce(values, sample_weight)

    def _feature_loss(self, teacher_features, features, logits, sample_weight):
        terms = []
        for term in self._feature_losses:
            name = term.teacher_layer
            self._checks.teacher_features(name, teacher_features[name])
            student_features = features[term.student_layer]
            if term.adapter is not None:
                student_features = term.adapter(student_features, training=True)
            values = self._checks.per_example(
                "feature loss", term.loss(teacher_features[name], student_features), logits
            )
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
