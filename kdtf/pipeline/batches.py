"""What the models of a run are fed: batches for training, calibration and measuring."""

import math

from kdtf import data, teachers
from kdtf.results import BASELINE

CALIBRATION_BATCHES = 8
CORRECTION_EXAMPLES = 128


def steps_per_epoch(info, config):
    """Steps of an epoch of either student, photos without a label counted too.

    Args:
      info: `data.DatasetInfo`.
      config: `DistillConfig`.
    """
    return data.steps_per_epoch(info, "train", config.batch_size, unlabelled="keep")


class Batches:
    """The batches of one run.

    Args:
      info: a `data.DatasetInfo` with splits train, val and test.
      config: `DistillConfig`.
      teacher: the model, or the ensemble, that the distilled student learns from.
      cached: `teachers.CachedLogits`, or None: the teacher is asked in every step.

    Attributes:
      classes: names, in the order of the logits.
      steps: of an epoch of either student.
    """

    def __init__(self, info, config, teacher, cached=None):
        self._info, self._config, self._teacher, self._cached = info, config, teacher, cached
        self.classes, self.steps = info.classes, steps_per_epoch(info, config)

    def training(self, model, first_epoch, epochs):
        """Endless enough for a student to train from `first_epoch` up to `epochs`.

        Where photos lack labels, a baseline takes as many steps, going round the others oftener,
        and so in new views: what the teacher says of the cached ones is nothing to it.

        Args:
          model: `kdtf.results.Model` of the student, float32 or int8.
          first_epoch, epochs: from which epoch on, and before which to stop; of `steps` each.
        """
        info, config, steps = self._info, self._config, self.steps
        skips = model.role == BASELINE.role and info.split("train").unlabelled > 0
        unlabelled = "skip" if skips else "keep"
        round_steps = data.steps_per_epoch(info, "train", config.batch_size, unlabelled=unlabelled)
        first_round, past = divmod(first_epoch * steps, round_steps)
        batches = data.training_batches(
            info,
            "train",
            config.batch_size,
            # Live or cached, the student's pixels come from the teacher's view, if that is larger.
            max(config.image_size, teachers.image_size(self._teacher)),
            seed=config.seed,
            epochs=math.ceil(epochs * steps / round_steps),
            first_epoch=first_round,
            columns=self._columns(),
            cached_logits=None if skips else self._cached,
            unlabelled=unlabelled,
        )
        return batches.skip(past)

    def validation(self):
        """The validation split, for a student."""
        return self._evaluation("val", self._config.batch_size)

    def calibration(self):
        """Training photos from which the ranges of activations are read."""
        photos = self._evaluation("train", self._config.batch_size, unlabelled="keep")
        return photos.take(CALIBRATION_BATCHES)

    def correction(self):
        """One batch of training photos, without labels, on which biases are corrected."""
        photos = self._evaluation("train", CORRECTION_EXAMPLES, unlabelled="keep")
        return next(iter(photos))[0]

    def measuring(self, split, network):
        """Every example of a split as a Keras model, a student or the teacher, takes it."""
        return data.evaluation_batches(
            self._info, split, 16, teachers.image_size(network), columns=teachers.columns(network)
        )

    def _evaluation(self, split, batch_size, **options):
        return data.evaluation_batches(
            self._info,
            split,
            batch_size,
            self._config.image_size,
            columns=self._columns(),
            **options,
        )

    def _columns(self):
        config = self._config
        taken = set(self._info.metadata if config.student == "metadata" else ())
        if config.online_teacher:
            taken |= set(teachers.columns(self._teacher))
        return tuple(column for column in self._info.metadata if column in taken)
