"""Trains the students of a study, from views in memory, and measures each on the test photos."""

import functools
import time

import keras
import numpy as np
import tensorflow as tf

import kdtf
from kdtf import losses, metrics, students
from kdtf.metrics import calibration
from kdtf.pipeline import history, schedules
from kdtf.study import conditions
from kdtf.study.config import CIFAR

_PREDICTED = 256  # photos in a batch of prediction


def build_student(settings, classes, width, steps):
    """The whole, untrained student."""
    momentum = students.batch_norm_momentum(steps)
    if settings.student == CIFAR:
        return students.cifar_cnn(classes, settings.image_size, width, bn_momentum=momentum)
    return students.mobilenet_v3_small(
        classes, settings.image_size, width, weights=settings.weights, bn_momentum=momentum
    )


def split_student(student, frozen_blocks):
    """(trunk, top) of a MobileNetV3-Small: the first blocks, and the rest, which is trained."""
    names = {layer.name for layer in student.layers}
    prefix = f"expanded_conv_{frozen_blocks - 1}_" if frozen_blocks > 1 else "expanded_conv_"
    added = f"{prefix}add"
    cut = student.get_layer(added if added in names else f"{prefix}project_bn").output
    return keras.Model(student.input, cut), keras.Model(cut, student.output)


class Trainer:
    """Trains and measures students.

    Tracing a training takes longer than running one, so each of the few graphs is made once; a job
    starts from its seed's initial weights, whatever ran before.

    Args:
      info: `kdtf.data.DatasetInfo`.
      settings: `StudyConfig`.
      views: what `view_cache.read_views` returns, of "student" and every teacher.
      labels: {"train", "val", "test": int [examples]}.
    """

    def __init__(self, info, settings, views, labels):
        self._settings, self._views, self._labels = settings, views, labels
        self._classes = len(info.classes)
        self._train_counts = info.split("train").class_counts
        # Keras keeps what a traced graph holds: a variable, so that one graph serves both students.
        self._alpha = tf.Variable(0.0, trainable=False)

    def run(self, job):
        """Trains a `conditions.Job`; returns what its file holds, ready for JSON."""
        started = time.monotonic()
        settings, condition = self._settings, job.seen
        steps = settings.steps(len(self._labels["train"]), condition.length)
        alpha = settings.alpha if job.student == "distilled" else 0.0
        distiller = self.distiller(condition.width, steps, alpha, job.seed)
        batches = self._batches(condition, steps, job.seed)
        curves = distiller.fit(batches, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
        val, test = (self._predict(condition.width, steps, split) for split in ("val", "test"))
        return {
            "name": job.name,
            "student": job.student,
            "seed": job.seed,
            "steps": steps,
            "photos": steps * settings.batch_size,
            "loss": history.finite_or_none(curves.history["loss"][-1]),
            "metrics": self._measures(val, test),
            "predictions": test.argmax(axis=1).tolist(),
            "seconds": time.monotonic() - started,
        }

    def _measures(self, val, test):
        labels = self._labels["test"]
        hits = metrics.correct_by_group(test, labels, self._train_counts)
        scaled = calibration.temperature_scaling(val, self._labels["val"], test, labels)
        return {name: float(right.mean()) for name, right in hits.items() if len(right)} | {
            "macro_f1": metrics.macro_f1_score(test.argmax(axis=1), labels, self._classes),
            "nll": scaled["nll_before"],
            "ece": scaled["ece_before"],
            "nll_scaled": scaled["nll_after"],
            "ece_scaled": scaled["ece_after"],
        }

    def _batches(self, condition, steps, seed):
        settings = self._settings
        labels, used = conditions.visible_labels(
            self._labels["train"], self._classes, condition, seed
        )
        photos, views = conditions.schedule(used, settings.views, steps, settings.batch_size, seed)
        arrays = self._views["student"]["train"], self._views[condition.teacher]["train"]
        images, logits = (tf.constant(array) for array in arrays)

        def batch(photo, view, label):
            at = tf.stack([view, photo], axis=-1)
            x = {"image": tf.gather_nd(images, at), "teacher_logits": tf.gather_nd(logits, at)}
            return x, label

        batches = tf.data.Dataset.from_tensor_slices((photos, views, np.int32(labels[photos])))
        return batches.map(batch)

    def distiller(self, width, steps, alpha, seed=0):
        """The compiled `kdtf.Distiller` of a new student; it is valid until the next call.

        Args:
          width: of the student.
          steps: of the training, along which the learning rate rises and falls.
          alpha: weight of the teacher; batches need its column even where this is 0.
          seed: of the initial weights and of dropout.
        """
        distiller, _ = self._traced(width, steps)
        for variable, value in zip(
            distiller.student.variables, self._initial(width, seed), strict=True
        ):
            variable.assign(value)
        for variable in distiller.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        self._alpha.assign(alpha)
        return distiller

    @functools.cache  # noqa: B019 (lives as long as its process)
    def _traced(self, width, steps):
        """(Distiller, function of a batch to logits), of which each traces its graph once."""
        settings = self._settings
        distiller = kdtf.Distiller(
            self._trained_part(width, steps, seed=0),
            alpha=lambda step: self._alpha,
            temperature=settings.temperature,
        )
        steps_per_epoch = max(1, len(self._labels["train"]) // settings.batch_size)
        rate = schedules.cosine_schedule(
            settings.learning_rate, steps_per_epoch, steps / steps_per_epoch
        )
        optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
        # One call for the whole training: beside other programs, each wait for the next costs more
        # than a step.
        distiller.compile(optimizer, losses.label_cross_entropy, steps_per_execution=steps)
        return distiller, tf.function(lambda x: distiller(x, training=False))

    def _predict(self, width, steps, split):
        """Logits of the student that `distiller` gave last: float [examples, classes]."""
        _, forward = self._traced(width, steps)
        x = self._views["student"][split]
        parts = [forward(x[first : first + _PREDICTED]) for first in range(0, len(x), _PREDICTED)]
        return np.concatenate(parts)

    @functools.cache  # noqa: B019
    def _initial(self, width, seed):
        """Values of all variables of a new student, the dropout's random state among them."""
        part = self._trained_part(width, 1, seed)
        return [np.array(variable) for variable in part.variables]

    def _trained_part(self, width, steps, seed):
        keras.utils.set_random_seed(seed)
        student = build_student(self._settings, self._classes, width, steps)
        if self._settings.frozen_blocks:
            _, student = split_student(student, self._settings.frozen_blocks)
        return student
