"""TensorBoard of a training: one run a model, with the same tags in each, on shared axes."""

import re
import warnings

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams_summary

from kdtf import keras_private, metrics
from kdtf.callbacks import event_files, figures
from kdtf.metrics.predictions import check_range

PHOTOS = 256
_GROUP = "validation_photos"


class TensorBoardFigures(keras_private.Callback):
    """Writes what TensorBoard shows of a training, after every epoch.

    `<name>/train` and `<name>/validation` for everything that `fit` logs, and
    `schedule/learning_rate` (of the step to come); of a Distiller `schedule/alpha` and, where there
    are soft targets, `schedule/temperature`. A step is the number of epochs finished. Train and
    validation stand on one chart in the tab of custom scalars, the layers of a functional model in
    that of graphs.

    With photos also, under `validation_photos/`: accuracy, mean_confidence, macro_f1,
    worst_decile_recall, ece and nll; recall by class as a histogram (`recall`) and a table
    (`recall_table`, text); pictures `confusion_matrix`, `reliability` and `hardest`, the photos of
    the largest loss with names and probabilities. They cost a forward pass of these photos and
    the drawing.

    A continued `fit` goes on in the same folder: what a killed process had written of the epochs
    to come is removed. Put it before `EpochCheckpoint` among the callbacks, so
    that an epoch which is not repeated has been written.

    It serves models of Keras 3 and of tf_keras (`kdtf.quantize`).

    Args:
      folder: the run's folder; its name is the run's name in TensorBoard.
      photos: batches (x, labels int [batch], ...) that can be iterated again and again, such as
        `data.evaluation_batches`, of which the first `max_photos` photos are used, so not sorted
        by class; x is the model's input, its image (x, or x["image"]) 0..255. None: no pictures.
      classes: names, list of str; needed with photos.
      max_photos: at least 1.
      every: epochs from one look at the photos to the next; the last epoch always has one.
      hardest: photos in the picture of the hardest.
      epochs_before: epochs that the model was trained elsewhere; steps count on from there.

    Raises:
      ValueError: photos without classes, or that can be iterated only once; a number out of range;
        with `fit`, before it trains: no photos, or labels outside the classes.
    """

    def __init__(
        self,
        folder,
        photos=None,
        classes=(),
        *,
        max_photos=PHOTOS,
        every=1,
        hardest=12,
        epochs_before=0,
    ):
        super().__init__()
        if photos is not None and not len(classes):
            raise ValueError("photos are given but no classes: pass the classes' names, in order")
        if photos is not None and iter(photos) is photos:
            raise ValueError(
                f"photos can be read only once ({type(photos).__name__}), but every look needs "
                "them: pass a data set or a list of batches"
            )
        for name, value, least in (
            ("max_photos", max_photos, 1),
            ("every", every, 1),
            ("hardest", hardest, 1),
            ("epochs_before", epochs_before, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value!r}")
        self._folder, self._photos, self._classes = folder, photos, list(classes)
        self._max_photos, self._every, self._hardest = max_photos, every, hardest
        self._epochs_before = epochs_before
        self._log = self._forward = None

    def on_train_begin(self, logs=None):
        if self._photos is None:
            return
        labels = [np.asarray(y) for _, _, y in self._batches()]
        if not labels or next(iter(self._photos), None) is None:
            raise ValueError(
                f"photos {'can be read only once' if labels else 'are empty'}: pass batches (x, "
                "labels) that can be iterated again and again, or no photos"
            )
        if any(each.ndim != 1 for each in labels):
            raise ValueError(
                f"the labels of photos have the shape {labels[0].shape}, expected class numbers "
                "[batch]"
            )
        check_range("labels of photos", np.concatenate(labels), len(self._classes))

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        step = self._epochs_before + epoch + 1
        summaries = self._scalars(logs)
        if self._photos is not None and (
            (epoch + 1) % self._every == 0 or epoch + 1 == self.params.get("epochs")
        ):
            summaries += self._diagnoses()
        if self._log is None:
            self._log = event_files.EventLog(self._folder, step)
            student = getattr(self.model, "student", self.model)
            if epoch == 0 and getattr(student, "outputs", None):
                self._log.add_graph(event_files.graph_def(student))
            if epoch == 0:
                summaries.append(_overlays(logs))
        self._log.add(step, summaries)

    def on_train_end(self, logs=None):
        if self._log is not None:
            self._log.close()
            self._log = None

    def _scalars(self, logs):
        rate = keras_private.learning_rate(self.model.optimizer)
        schedule = {"learning_rate": float(keras.ops.convert_to_numpy(rate))}
        for name, value in getattr(self.model, "mixture", {}).items():
            schedule[name] = logs.get(name, value)
        tags = {_tag(name, logs): value for name, value in logs.items() if name not in schedule}
        tags |= {f"schedule/{name}": value for name, value in schedule.items()}
        return [event_files.scalar(tag, value) for tag, value in tags.items()]

    def _diagnoses(self):
        images, logits, labels = self._look()
        if not len(labels):
            note = "There were no photos any more: they can be read only a few times."
            warnings.warn(f"no pictures of this epoch. {note}", stacklevel=2)
            return [event_files.text(f"{_GROUP}/missing", note)]
        about = f"The first {len(labels):,} validation photos."
        broken = int(np.sum(~np.isfinite(logits).all(axis=1)))
        if broken:
            note = f"{broken:,} of {len(labels):,} photos have logits that are not finite."
            return [event_files.text(f"{_GROUP}/diverged", note)]
        names, classes = self._classes, len(self._classes)
        measures = figures.measures(logits, labels, classes)
        summaries = [
            event_files.scalar(f"{_GROUP}/{name}", value, about) for name, value in measures.items()
        ]
        recall = metrics.per_class_recall(logits.argmax(axis=1), labels, classes)
        table = figures.recall_table(logits, labels, names)
        summaries += [
            event_files.histogram(f"{_GROUP}/recall", recall[~np.isnan(recall)], about),
            event_files.text(f"{_GROUP}/recall_table", table, about),
        ]
        pictures = {
            "confusion_matrix": figures.confusion_figure(logits, labels, names),
            "reliability": figures.reliability_figure(logits, labels),
        }
        if images is not None:
            worst = figures.hardest(logits, labels, self._hardest)
            pictures["hardest"] = figures.hardest_figure(
                images[worst], logits[worst], labels[worst], names
            )
        return summaries + [
            event_files.image(f"{_GROUP}/{name}", png, about) for name, png in pictures.items()
        ]

    def _look(self):
        """Images (uint8, None if x has none), logits and labels of the first photos."""
        images, logits, labels = [], [], []
        for x, image, y in self._batches():
            # Bytes: as many floats would take four times the memory.
            images.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
            logits.append(np.asarray(self._logits(x), np.float32)[: len(y)])
            labels.append(np.asarray(y))
        if not labels:
            return None, np.zeros((0, len(self._classes))), np.zeros(0, int)
        shaped = image.ndim == 4 and image.shape[-1] in (1, 3)
        return (
            np.concatenate(images) if shaped else None,
            np.concatenate(logits),
            np.concatenate(labels),
        )

    def _batches(self):
        """(x, its image as an array, labels) of every batch of the first photos; x is whole."""
        missing = self._max_photos
        for x, y, *_ in self._photos:
            image = np.asarray(x["image"] if isinstance(x, dict) else x)[:missing]
            yield x, image, y[:missing]
            missing -= len(image)
            if not missing:
                return

    def _logits(self, x):
        if self._forward is None:
            # One trace for batches of all sizes, the smaller last one too.
            specs = tf.nest.map_structure(
                lambda values: tf.TensorSpec([None, *values.shape[1:]], values.dtype), x
            )
            forward = tf.function(lambda x: self.model(x, training=False), autograph=False)
            self._forward = forward.get_concrete_function(specs)
        return self._forward(tf.nest.map_structure(tf.convert_to_tensor, x))


def write_hparams(folder, trial, settings, measures):
    """Writes a model's settings and final measures for the tab of HParams.

    They take the place of what was written for the folder before.

    Args:
      folder: the model's run folder, as given to its `TensorBoardFigures`.
      trial: str, the row's name; rows of one name are averaged.
      settings: {name: str, bool or number; None is left out}.
      measures: {tag: float; None is left out}.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    measures = {tag: value for tag, value in measures.items() if value is not None}
    # Every run says which columns there are, so any of them will do as the experiment's.
    columns = hparams.hparams_config_pb(
        [hparams.HParam(name) for name in settings], [hparams.Metric(tag) for tag in measures]
    )
    event_files.write_hparams(
        folder,
        [
            columns,
            hparams.hparams_pb(settings, trial_id=trial),
            *(event_files.scalar(tag, value) for tag, value in measures.items()),
            hparams_summary.session_end_pb(api_pb2.STATUS_SUCCESS),
        ],
    )


def _tag(name, logs):
    # A measure may itself be called val_something: what has a val_ of its own is of training.
    if not name.startswith("val_") or f"val_{name}" in logs:
        return f"{name}/train"
    return f"{name.removeprefix('val_')}/validation"


def _overlays(logs):
    both = [name for name in logs if f"val_{name}" in logs]
    tags = {name: f"^{re.escape(name)}/(train|validation)$" for name in both}
    return event_files.charts("Train and validation", tags)
