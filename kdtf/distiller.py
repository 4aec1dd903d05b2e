"""The Distiller: trains a student on labels and a teacher's soft targets through Keras's `fit`."""

import math
import numbers

import keras
import tensorflow as tf

from kdtf import losses, refusals, taps


class Distiller(keras.Model):
    """Trains `student` on labels and on `teacher` (Hinton et al., 2015, arXiv:1503.02531).

        distiller = kdtf.Distiller(student, teacher, temperature=4.0)
        distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        distiller.fit(train, validation_data=val)
        distiller.save("student.keras")

    The training loss is `alpha * distillation_loss(teacher_logits, student_logits, temperature)
    + (1 - alpha) * compiled loss + feature losses + the student's regularisers and add_loss`.
    Sample and class weights weigh every distillation term as Keras weighs the compiled loss, and
    the terms are reduced as it is. Each model runs once a step; the teacher in inference mode: it
    gets no gradient, is not tracked, not changed and not saved.

    `call`, `predict`, `evaluate`, `save` and `export` are the student's. `save_weights` and
    `load_weights`, and with them the callbacks BackupAndRestore and ModelCheckpoint, hold what
    training needs to go on: student, adapters, optimizer and metrics.

    Logs: `loss`, `hard_loss` (the compiled loss), `soft_loss` (the distillation loss before
    alpha), `feature_loss` (the weighted sum), the compiled metrics on the student's logits,
    `teacher_agreement` when asked, `alpha` and `temperature` (the epoch's mean) where they follow
    a schedule. In `evaluate` and validation `loss` is `hard_loss` plus regularisers: no teacher
    runs there.

    Batches: x is a tensor, or a dict of columns of which each Keras model gets those it declares.
    An image whose height, width or dtype differs from what a model declares is resized for it
    (bilinear, antialiased when it shrinks) and cast, so a teacher may look at larger images than
    its student.

    Args:
      student: a built keras.Model with one output: logits [batch, classes].
      teacher: anything callable on a batch that returns logits: a Keras 3 or tf_keras model, a
        restored SavedModel, a function. Keras models get the inputs they declare, others get x
        as it is. Under `jit_compile` (Keras's default on a GPU) it must compile under XLA too.
        None: the logits are the column "teacher_logits" of x.
      distillation_loss: (teacher_logits, student_logits, temperature) -> float [batch].
      alpha: weight of the distillation loss, 0 to 1; a number, or a callable of the step
        (int64 scalar tensor: the optimizer's iterations) that returns a scalar. With 0 and no
        feature losses the teacher is not called and training is, bit for bit, plain Keras.
      feature_losses: `taps.Hint`s between layers of the teacher and of the student.
      temperature: > 0, likewise a number or a callable of the step.
      log_agreement: log `teacher_agreement`, the fraction of examples to which both give the same
        class. In `evaluate` and validation this costs a forward pass of the teacher.

    Raises:
      TypeError: a student that is not a keras.Model, a teacher that is not callable, a feature
        loss that is not a Hint.
      ValueError: a student or teacher that is unbuilt, has several outputs or ends in a softmax or
        sigmoid (seen in Keras models only); class counts that differ; alpha or temperature out
        of range; hints without a teacher or on layers that do not exist.
    """

    def __init__(
        self,
        student,
        teacher=None,
        distillation_loss=losses.soft_target_kl,
        alpha=0.7,
        feature_losses=(),
        *,
        temperature=4.0,
        log_agreement=False,
    ):
        refusals.check_student(student)
        refusals.check_teacher(teacher, student)
        refusals.check_scalar("alpha", alpha, lambda value: 0 <= value <= 1, "from 0 to 1")
        refusals.check_scalar("temperature", temperature, lambda value: 0 < value < math.inf, "> 0")
        hints = refusals.check_hints(feature_losses, teacher)
        # The student's policy decides on loss scaling. Inputs are left alone: each model casts
        # its own.
        super().__init__(dtype=student.dtype_policy, autocast=False)
        self.student = student
        self.adapters = _built_adapters(student, hints)
        self._distillation_loss = distillation_loss
        self._alpha = alpha
        self._temperature = temperature
        self._hints = hints
        self._log_agreement = log_agreement
        self._reduction = "sum_over_batch_size"
        # Closures, because Keras tracks and saves every model it finds among the attributes.
        self._read_logits = taps.reader(student)
        self._read_student = _reader(student, [hint.student_layer for hint in hints])
        self._read_teacher = _teacher_reader(teacher, [hint.teacher_layer for hint in hints])
        self._trackers = {name: keras.metrics.Mean(name=name) for name in self._tracked_names()}
        self.built = True

    def call(self, inputs, training=None):
        """The student's logits [batch, classes]."""
        logits, _ = self._read_logits(inputs, training)
        return logits

    def compile(self, optimizer="rmsprop", loss=None, *args, **kwargs):
        """keras.Model.compile, with a loss on the labels that takes logits.

        `loss=None` is for training on the teacher alone (alpha=1), for example without labels.

        Raises:
          ValueError: a loss that expects probabilities or is not reduced to a scalar; no loss
            while the labels have a weight.
        """
        if loss is None and not _is_number(self._alpha, 1):
            raise ValueError(
                f"loss is None, but with alpha={self._alpha!r} the labels have a weight: pass a "
                f"loss on logits, {refusals.LOSS_ADVICE}, or alpha=1 to train on the teacher alone"
            )
        for part in keras.tree.flatten(loss) if loss is not None else ():
            self._reduction = refusals.checked_reduction(part)
        super().compile(optimizer, loss, *args, **kwargs)

    def train_step(self, data):
        """One step of training on one batch (of one replica); returns the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        step = tf.cast(keras.ops.convert_to_tensor(self.optimizer.iterations), tf.int64)
        alpha = _at_step("alpha", self._alpha, step)
        temperature = _at_step("temperature", self._temperature, step)
        teacher_logits, teacher_features = None, {}
        if self._uses_soft_targets or self._hints or self._log_agreement:
            teacher_logits, teacher_features = self._ask_teacher(x)

        with tf.GradientTape() as tape:
            logits, features = self._read_student(x, training=True)
            parts = {}
            if self._compile_loss is not None:
                parts["hard_loss"] = self._hard_loss(y, logits, sample_weight)
            if self._uses_soft_targets:
                parts["soft_loss"] = self._soft_loss(
                    teacher_logits, logits, temperature, sample_weight
                )
            if self._hints:
                parts["feature_loss"] = self._feature_loss(
                    teacher_features, features, sample_weight
                )
            loss = _total([*self._weighted(parts, alpha), *self._additional_losses()])
            scaled_loss = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled_loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))

        self._track_losses(logits, loss=loss, **parts)
        for name, value in (("alpha", alpha), ("temperature", temperature)):
            if name in self._trackers:
                self._trackers[name].update_state(value)
        if self._log_agreement:
            self._track_agreement(teacher_logits, logits)
        logs = self.compute_metrics(x, y, logits, sample_weight)
        return self._reported(logs, {"loss", "alpha", "temperature", "teacher_agreement", *parts})

    def test_step(self, data):
        """One step of evaluation of the student; returns the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logits = self(x, training=False)
        parts = {}
        if self._compile_loss is not None:
            parts["hard_loss"] = self._hard_loss(y, logits, sample_weight)
        terms = [*parts.values(), *self._additional_losses()]
        self._track_losses(logits, loss=_total(terms), **parts)
        if self._log_agreement:
            teacher_logits, _ = self._ask_teacher(x)
            self._track_agreement(teacher_logits, logits)
        logs = self.compute_metrics(x, y, logits, sample_weight)
        return self._reported(logs, {"teacher_agreement", *parts, *(["loss"] if terms else [])})

    def save(self, filepath, overwrite=True, **kwargs):
        """Saves the student alone, as its own `save` does; loading gives the plain student."""
        return self.student.save(filepath, overwrite=overwrite, **kwargs)

    def export(self, filepath, *args, **kwargs):
        """Exports the student alone, as its own `export` does."""
        return self.student.export(filepath, *args, **kwargs)

    def load_weights(self, filepath, *args, **kwargs):
        """Loads what `save_weights` saved, the optimizer's state included if compiled."""
        # Keras drops the state of an optimizer that has no variables yet, with a warning.
        if self.compiled and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().load_weights(filepath, *args, **kwargs)

    def get_config(self):
        """Refuses: a Distiller is not serialized, its student is.

        Raises:
          NotImplementedError: always.
        """
        raise NotImplementedError(
            "a Distiller has no config, because its teacher is never saved: use "
            "distiller.save(path) for the student and distiller.save_weights(path) to resume"
        )

    @property
    def _uses_soft_targets(self):
        return not _is_number(self._alpha, 0)

    def _tracked_names(self):
        scheduled = {"alpha": self._alpha, "temperature": self._temperature}
        return [
            "hard_loss",
            *(["soft_loss"] if self._uses_soft_targets else []),
            *(["feature_loss"] if self._hints else []),
            *(name for name, value in scheduled.items() if callable(value)),
            *(["teacher_agreement"] if self._log_agreement else []),
        ]

    def _ask_teacher(self, x):
        outputs = self._read_teacher(x, training=False)
        return keras.tree.map_structure(tf.stop_gradient, outputs)

    def _soft_loss(self, teacher_logits, logits, temperature, sample_weight):
        refusals.check_classes(teacher_logits.shape[-1], logits.shape[-1])
        values = self._distillation_loss(teacher_logits, logits, temperature)
        return self._reduce("distillation_loss", values, sample_weight)

    def _feature_loss(self, teacher_features, features, sample_weight):
        terms = []
        for hint in self._hints:
            student_features = features[hint.student_layer]
            if hint.adapter is not None:
                student_features = hint.adapter(student_features, training=True)
            values = hint.loss(teacher_features[hint.teacher_layer], student_features)
            terms.append(hint.weight * self._reduce("feature loss", values, sample_weight))
        return _total(terms)

    def _weighted(self, parts, alpha):
        # A weight of the number 0 leaves its term out, of the number 1 leaves it untouched.
        weights = {"hard_loss": 1 - alpha, "soft_loss": alpha, "feature_loss": 1}
        return [
            value if _is_number(weights[name], 1) else weights[name] * value
            for name, value in parts.items()
            if not _is_number(weights[name], 0)
        ]

    def _track_agreement(self, teacher_logits, logits):
        same = tf.equal(tf.argmax(teacher_logits, axis=-1), tf.argmax(logits, axis=-1))
        self._trackers["teacher_agreement"].update_state(tf.cast(same, tf.float32))

    # The rest is what Keras keeps to itself: how it reduces, adds up and reports losses.

    def _hard_loss(self, y, logits, sample_weight):
        return self._compile_loss(y, logits, sample_weight)

    def _additional_losses(self):
        # Layers of a float16 model add float16 losses, which Keras fails to sum up with others.
        return [self._aggregate_additional_loss(tf.cast(loss, tf.float32)) for loss in self.losses]

    def _reduce(self, name, values, sample_weight):
        values = tf.convert_to_tensor(values)
        if values.shape.rank != 1:
            raise ValueError(
                f"{name} must return one loss per example, float [batch]; got shape "
                f"{tuple(values.shape)}: leave the mean over the batch to the Distiller"
            )
        return _Reduction("reduction", self._reduction)(values, values, sample_weight)

    def _track_losses(self, logits, loss, **parts):
        # Undoes the division by the number of replicas, which is for the gradient's sum only.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        size = tf.shape(logits)[0]
        self._loss_tracker.update_state(loss * replicas, sample_weight=size)
        for name, value in parts.items():
            self._trackers[name].update_state(value * replicas, sample_weight=size)

    def _reported(self, logs, names):
        # Without what this step has not measured, whose tracker would say 0.
        hidden = {"loss", *self._trackers} - names
        return {name: value for name, value in logs.items() if name not in hidden}

    def _get_metrics_result_or_logs(self, logs):
        # The exact metrics over all replicas and steps, of those names that the steps reported.
        metrics = self.get_metrics_result()
        return {name: metrics.get(name, value) for name, value in logs.items()}


class _Reduction(keras.losses.Loss):
    """Keras's own weighting and reduction, replicas included, of losses per example."""

    def call(self, y_true, y_pred):
        return y_pred


def _total(terms):
    if not terms:
        return tf.zeros(())
    return terms[0] if len(terms) == 1 else keras.ops.sum(terms)


def _is_number(value, number):
    return isinstance(value, numbers.Real) and value == number


def _at_step(name, value, step):
    if not callable(value):
        return value
    scalar = tf.cast(value(step), tf.float32)
    if scalar.shape.rank != 0:
        raise ValueError(f"{name} schedule must return a scalar, got shape {tuple(scalar.shape)}")
    return scalar


def _reader(model, layer_names):
    layer_names = list(dict.fromkeys(layer_names))
    if layer_names and taps.is_functional(model):
        model = taps.tap(model, layer_names)
    return taps.reader(model, layer_names)


def _teacher_reader(teacher, layer_names):
    if teacher is not None:
        return _reader(teacher, layer_names)

    def read_column(batch, training):
        if not isinstance(batch, dict) or "teacher_logits" not in batch:
            found = f"the columns {sorted(batch)}" if isinstance(batch, dict) else "a tensor"
            raise ValueError(
                "the Distiller has no teacher and the batch no column 'teacher_logits' (x is "
                f"{found}): pass teacher=..., or batches with cached logits, or alpha=0 without "
                "log_agreement"
            )
        return tf.convert_to_tensor(batch["teacher_logits"]), {}

    return read_column


def _built_adapters(student, hints):
    adapted = [hint for hint in hints if hint.adapter is not None]
    if not adapted:
        return []
    _, features = taps.tap(student, [hint.student_layer for hint in adapted]).output
    for hint in adapted:
        if not hint.adapter.built:
            hint.adapter.build(features[hint.student_layer].shape)
    return list({id(hint.adapter): hint.adapter for hint in adapted}.values())
