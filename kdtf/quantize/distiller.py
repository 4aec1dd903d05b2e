"""Quantization-aware training with a teacher."""

import tensorflow as tf
import tf_keras

from kdtf import layer_graph, losses
from kdtf.distillation.train_step import TrainStep
from kdtf.quantize import fake_quant


class QATDistiller(TrainStep, tf_keras.Model):
    """`kdtf.Distiller` for a quantization-aware student: the same step, losses and logs.

    The teacher keeps helping while the student learns to live with int8. With `alpha=0` it
    learns from labels alone. `save_weights` and `load_weights` hold the student;
    `callbacks.EpochCheckpoint` the optimizer too.

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
          ValueError: as `kdtf.Distiller.compile` does; anything made by Keras 3.
        """
        self._checked_compile(super().compile, tf_keras, optimizer, loss, *args, **kwargs)

    def evaluate(self, *args, return_dict=False, **kwargs):
        """As tf_keras does; the list without `return_dict` is the loss and the compiled metrics."""
        return self._returned(super().evaluate(*args, return_dict=True, **kwargs), return_dict)

    def train_on_batch(self, *args, return_dict=False, **kwargs):
        """Likewise."""
        logs = super().train_on_batch(*args, return_dict=True, **kwargs)
        return self._returned(logs, return_dict)

    def test_on_batch(self, *args, return_dict=False, **kwargs):
        """Likewise."""
        logs = super().test_on_batch(*args, return_dict=True, **kwargs)
        return self._returned(logs, return_dict)

    def _returned(self, logs, return_dict):
        if return_dict:
            return logs
        hidden = self._trackers.keys() - {"loss"}
        names = ["loss", *(name for name in logs if name != "loss" and name not in hidden)]
        values = [logs[name] for name in names if name in logs]
        return values[0] if len(values) == 1 else values

    @property
    def _has_label_loss(self):
        return self._compiled[0] is not None

    def _label_loss(self, y, logits, sample_weight):
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
            for layer in map(layer_graph.unwrapped, self.model.student.layers)
            if isinstance(layer, fake_quant.FreezableBatchNormalization)
        ]
        if epoch >= self.epoch and not all(norm.frozen for norm in norms):
            for norm in norms:
                norm.frozen = True
            self.model.make_train_function(force=True)  # the old one has been traced
