"""The Distiller: trains a student on labels and a teacher's soft targets through Keras's `fit`."""

import keras
import tensorflow as tf

from kdtf import keras_private, losses
from kdtf.distillation import validation
from kdtf.distillation.train_step import TrainStep


class Distiller(TrainStep, keras_private.DistributedModel):
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

    Logs: `loss`, `label_loss` (the compiled loss), `distillation_loss` (before alpha),
    `feature_loss` (the weighted sum), the compiled metrics on the student's logits,
    `teacher_agreement` when asked, `alpha` and `temperature` (the epoch's mean) where they follow
    a schedule. In `evaluate` and validation `loss` is `label_loss` plus regularisers: no teacher
    runs there. Where Keras returns a list (`loss, accuracy = distiller.evaluate(...)`), it is that
    of plain Keras, the loss and the compiled metrics; `return_dict=True` has all logs.

    `alpha` and `temperature` may be set between epochs and trainings. A step whose teacher gives
    NaN, infinite logits or a row too few, whose schedule leaves its range, or whose labels hold
    several classes while the soft targets are a softmax, ends with an error that says so, before
    a weight moves (under XLA, after the step).

    Batches: x is a tensor, or a dict of columns of which each Keras model gets those it declares.
    An image whose height, width or dtype differs from what a model declares is resized for it
    (bilinear, antialiased when it shrinks) and cast, so a teacher may look at larger images than
    its student.

    Args:
      student: a built keras.Model with one output: logits [batch, classes].
      teacher: anything callable on a batch that returns logits: a Keras 3 or tf_keras model, a
        restored SavedModel or one of its signatures, a function. Keras models and signatures get
        the inputs they declare, others get x as it is. Under `jit_compile` (Keras's default on a
        GPU) it must compile under XLA too.
        None: the logits are the column "teacher_logits" of x, see `kdtf.teachers.cached_logits`.
        Logits [batch, members, classes], as `teachers.members` gives, are an ensemble's: the soft
        target is the mean of the members' probabilities at the temperature
        (`losses.tempered_mean`).
      distillation_loss: (teacher_logits, student_logits, temperature) -> float [batch].
      alpha: weight of the distillation loss, 0 to 1; a number, or a callable of the step
        (int64 scalar tensor: the optimizer's iterations) that returns a scalar. With 0 and no
        feature losses the teacher is not called and training is, bit for bit, plain Keras.
      feature_losses: `FeatureLoss`es between layers of the teacher and of the student.
      temperature: > 0, likewise a number or a callable of the step.
      log_agreement: log `teacher_agreement`, the fraction of examples to which both give the same
        class. In `evaluate` and validation this costs a forward pass of the teacher.

    Raises:
      TypeError: a student that is not a keras.Model, a teacher that is not callable, a feature
        loss that is not a `FeatureLoss`.
      ValueError: a student or teacher that is unbuilt, has several outputs or ends in a softmax or
        sigmoid (seen in Keras models only); class counts that differ; alpha or temperature out
        of range; feature losses without a teacher or on layers that do not exist.
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
        validation.check_student(student)
        # The student's policy decides on loss scaling. Inputs are left alone: each model casts
        # its own.
        super().__init__(dtype=student.dtype_policy, autocast=False)
        self._set_up(
            student,
            teacher,
            distillation_loss,
            alpha,
            validation.check_feature_losses(feature_losses, teacher),
            temperature,
            log_agreement,
        )
        self.built = True

    def compile(self, optimizer="rmsprop", loss=None, *args, **kwargs):
        """keras.Model.compile, with a loss on the labels that takes logits.

        `loss=None` is for training on the teacher alone (alpha=1), for example without labels;
        where some photos have one, `losses.label_cross_entropy` takes the label -1 for none.
        Losses, metrics and weights may be given by the student's output name, as for it.

        Raises:
          ValueError: a loss that expects probabilities, that takes each label by itself (binary
            cross-entropy) while the soft targets are a softmax, or that is not reduced to a
            scalar; no loss while the labels have a weight; anything made by tf_keras; an output
            that the student does not have.
        """
        self._checked_compile(super().compile, keras, optimizer, loss, *args, **kwargs)

    def save(self, filepath, overwrite=True, **kwargs):
        """Saves the student alone, as its own `save` does; loading gives the plain student."""
        return self.student.save(filepath, overwrite=overwrite, **kwargs)

    def export(self, filepath, *args, **kwargs):
        """Exports the student alone, as its own `export` does."""
        return self.student.export(filepath, *args, **kwargs)

    def load_weights(self, filepath, *args, **kwargs):
        """Loads what `save_weights` saved, the optimizer's state included if compiled."""
        # Keras drops the state of an optimizer that has no variables yet, with a warning.
        if self.compiled:
            self._build_optimizer()
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

    def listed_logs(self, logs):
        """Logs as plain Keras lists them where no dict is asked for: the loss and the metrics."""
        return {name: value for name, value in logs.items() if name not in self._trackers}

    # The rest is how Keras 3 reduces, adds up and reports losses.

    @property
    def _has_label_loss(self):
        return keras_private.compiled_loss(self) is not None

    def _label_loss(self, y, logits, sample_weight):
        return keras_private.compiled_loss(self)(y, logits, sample_weight)

    def _additional_losses(self):
        # Layers of a float16 model add float16 losses, which Keras fails to sum up with others.
        return [
            keras_private.additional_loss(self, tf.cast(loss, tf.float32)) for loss in self.losses
        ]

    def _reduce(self, values, sample_weight):
        return _Reduction("reduction", self._reduction)(values, values, sample_weight)

    def _track_losses(self, logits, loss, **parts):
        # Undoes the division by the number of replicas, which is for the gradient's sum only.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        size = tf.shape(logits)[0]
        keras_private.loss_tracker(self).update_state(loss * replicas, sample_weight=size)
        for name, value in parts.items():
            self._trackers[name].update_state(value * replicas, sample_weight=size)

    def _scaled(self, loss):
        return self.optimizer.scale_loss(loss)

    def _mean(self, name):
        return keras.metrics.Mean(name=name)

    def _logs(self, x, y, logits, sample_weight, names):
        logs = self.compute_metrics(x, y, logits, sample_weight)
        # Without what this step has not measured, whose tracker would say 0.
        hidden = {"loss", *self._trackers} - names
        return {name: value for name, value in logs.items() if name not in hidden}


class _Reduction(keras.losses.Loss):
    """Keras's own weighting and reduction, replicas included, of losses per example."""

    def call(self, y_true, y_pred):
        return y_pred
