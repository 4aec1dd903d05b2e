"""A run as far as its students' training: its stages one by one."""

from pathlib import Path
from typing import NamedTuple

import keras

from kdtf import data, teachers
from kdtf.pipeline import dataset, logit_cache, student_training
from kdtf.pipeline.batches import Batches
from kdtf.pipeline.config import DistillConfig
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.pipeline.teacher import Teacher, load_or_train_teacher


class BegunRun(NamedTuple):
    """What the stages before training have made."""

    directory: RunDirectory
    config: DistillConfig
    info: data.DatasetInfo
    teacher: Teacher
    cached: teachers.CachedLogits | None
    cache_facts: dict | None
    batches: Batches

    def train(self, student):
        """Trains a float student."""
        student_training.train_student(
            self.directory, self.config, self.info, self.teacher, self.batches, student
        )

    def weights(self, student):
        """Arrays of a trained float student."""
        path = self.directory.keras_model(student)
        return keras.models.load_model(path, compile=False).get_weights()


def begin(folder, config):
    """`BegunRun` of a `DistillConfig` in a folder."""
    run = RunDirectory(Path(folder))
    info = dataset.open_or_draw(run, config)
    teacher = load_or_train_teacher(run, config, info)
    cached = facts = None
    if not config.online_teacher:
        cached, facts = logit_cache.open_or_write(run, config, info, teacher)
    batches = Batches(info, config, teacher.model, cached)
    return BegunRun(run, config, info, teacher, cached, facts, batches)
