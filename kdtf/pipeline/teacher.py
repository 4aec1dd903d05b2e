"""The teacher of a run: given, or trained here."""

import time
from dataclasses import dataclass, replace

import keras
import tensorflow as tf

from kdtf import results, teachers
from kdtf.pipeline import teacher_training
from kdtf.pipeline.config import EMBEDDED_TEACHER, REAL_TEACHER


@dataclass(frozen=True)
class Teacher:
    """A run's teacher.

    Attributes:
      members: its Keras models.
      model: the single member, or their ensemble as one model.
      forward_s: seconds of its forward pass for one image.
    """

    members: list[keras.Model]
    model: keras.Model
    forward_s: float

    def for_distiller(self):
        """What a `kdtf.Distiller` takes that asks the teacher in every step."""
        return self.model if len(self.members) == 1 else teachers.members(self.members)


def default_teacher(config):
    """The `TeacherConfig` of a run that trains its own teacher, but for the seed."""
    return EMBEDDED_TEACHER if config.data is None else REAL_TEACHER


def load_or_train_teacher(run, config, info):
    """Loads the teacher that is named, or trains one.

    Args:
      run: `RunDirectory`.
      config: `DistillConfig`.
      info: `data.DatasetInfo`.

    Returns:
      `Teacher`.

    Raises:
      ValueError: a file holds a teacher of other classes.
    """
    paths = config.teacher
    if paths == ("train",):
        paths = [run.keras_model(results.TEACHER)]
        if not paths[0].exists():
            settings = replace(
                default_teacher(config), seed=config.seed, allow_leaks=config.allow_leaks
            )
            teacher_training.train(info, settings, paths[0])
    members = teachers.load_members(paths, info.classes)
    model = members[0] if len(members) == 1 else teachers.ensemble(members)
    return Teacher(members, model, forward_seconds(model))


def forward_seconds(model, batch=16):
    """Measured seconds of a model's forward pass for one image."""
    size = teachers.image_size(model)
    feed = tf.zeros((batch, size, size, 3))
    inputs = teachers.named_inputs(model)
    if len(inputs) > 1:
        feed = {key: tf.zeros((batch,), tf.int32) for key in inputs} | {"image": feed}
    forward = tf.function(lambda x: model(x, training=False))
    forward(feed)
    started = time.monotonic()
    forward(feed)
    return (time.monotonic() - started) / batch
