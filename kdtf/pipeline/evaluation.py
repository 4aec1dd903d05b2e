"""What an exported file answers on validation and test photos, and what a report makes of it.

Per model, `evaluation/<name>.npz` holds the logits and `evaluation/<name>.json` what was measured
from them; of the model that ships, `evaluation/mistakes.json` holds the photos that a report shows
and `evaluation/layer_errors.json` what rounding does to each layer. Each is whole or absent.
"""

import base64
import functools
import json
import math
import os
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from kdtf import data, files, metrics
from kdtf.export import layer_errors, runtime
from kdtf.metrics import calibration, comparison, error_analysis, selective_prediction, slices
from kdtf.metrics.predictions import top_label

SPLITS = ("val", "test")
# Shares of right answers for which a threshold is looked up, below which a person is asked.
ACCURACIES = (0.9, 0.95, 0.99)
_CURVE_POINTS = 100


class Truth(NamedTuple):
    """What is known about a split's photos, in the order of the pipeline.

    ids: str of each photo; labels: int64 [examples]; columns: {metadata column: value of each
    photo, None where missing}.
    """

    ids: list[str]
    labels: np.ndarray
    columns: dict[str, list[str | None]]


def read_truth(info, split):
    """`Truth` of a split of a `data.DatasetInfo`; ValueError if a photo has no label."""
    data.count_examples(info, split)
    ids, labels, columns = [], [], {column: [] for column in info.metadata}
    for example in data.read_examples(info, split):
        ids.append(example.id)
        labels.append(example.label)
        for column, values in columns.items():
            values.append(example.metadata.get(column))
    return Truth(ids, np.asarray(labels, np.int64), columns)


def answers(tflite_path, batches, split, title):
    """Logits of a file for a whole `data.Split`, float32 [examples, classes], with progress."""
    with tqdm(total=split.examples, unit="photo", desc=title) as bar:
        return runtime.predict(
            tflite_path, batches, num_threads=os.cpu_count(), progress=bar.update
        )


class Evaluation:
    """The evaluation folder of a run.

    Args:
      folder: pathlib.Path.
      info: a `data.DatasetInfo` with splits train, val and test.
    """

    def __init__(self, folder, info):
        self._folder, self._info = folder, info
        self._train_counts = info.split("train").class_counts

    def measure(self, name, tflite_path, batches):
        """Runs the model `name` over validation and test photos, unless that is done.

        Args:
          name: of the model.
          tflite_path: the exported file.
          batches: function of a split's name to its `data.evaluation_batches`.
        """
        stored, path = (self._folder / f"{name}{suffix}" for suffix in (".npz", ".json"))
        if stored.exists() and path.exists():
            return
        logits = {}
        for split in SPLITS:
            logits[split] = answers(
                tflite_path, batches(split), self._info.split(split), f"{name}: {split} split"
            )
        with files.atomic_write(stored) as partial:
            np.savez_compressed(
                partial,
                **{f"{split}_logits": np.float32(logits[split]) for split in SPLITS},
                **{f"{split}_labels": self._truths[split].labels for split in SPLITS},
            )
        measured = summarise(logits, self._truths, self._train_counts)
        files.write_json(path, measured)

    def collect_mistakes(self, name):
        """What the measured model `name` gets wrong, with small photos, unless that is done."""
        path = self._folder / "mistakes.json"
        if path.exists():
            return
        labels = self._truths["test"].labels
        found = error_analysis.summarize(
            self._test_logits("teacher"), self._test_logits(name), labels
        )
        shown = {photo["position"]: photo for photo in found["photos"]}
        for position, example in enumerate(data.read_examples(self._info, "test")):
            if position in shown:
                jpeg = base64.b64encode(error_analysis.thumbnail(example.encoded)).decode()
                shown[position] |= {"id": example.id, "jpeg": jpeg}
        files.write_json(path, {"student": name, **found})

    def measure_layers(self, name, student, tflite_path, photos):
        """How far each layer of a rounded file is from the float student's, unless that is done.

        Args:
          name: of the model.
          student: function without arguments to the float student that was rounded.
          tflite_path: the exported file.
          photos: `data.evaluation_batches`, of which the first batch is measured.
        """
        path = self._folder / "layer_errors.json"
        if path.exists():
            return
        batch, *_ = next(iter(photos))
        errors = layer_errors.compare_layers(student(), tflite_path, batch)
        rows = [asdict(error) for error in errors]
        for row in rows:
            # JSON has no infinity: no error at all is null.
            row["snr_db"] = None if math.isinf(row["snr_db"]) else row["snr_db"]
        files.write_json(path, {"student": name, "layers": rows})

    def classes(self):
        """List of dict of name, train_examples and test_examples, in the order of the logits."""
        counts = (self._info.split(split).class_counts for split in ("train", "test"))
        return [
            {"name": name, "train_examples": train, "test_examples": test}
            for name, train, test in zip(self._info.classes, *counts, strict=True)
        ]

    def row(self, name):
        """Metrics of a measured model for results.json, teacher_agreement among them."""
        measured = json.loads((self._folder / f"{name}.json").read_text())["metrics"]
        agreement = metrics.teacher_agreement(self._test_logits("teacher"), self._test_logits(name))
        return measured | {"teacher_agreement": agreement}

    def compare(self, baseline, distilled):
        """The verdict on two measured models, by their names.

        Returns:
          what `comparison.paired_difference` returns, and seeds (1), needed_seeds (None: one seed
          says nothing about others), differences (as `comparison.paired_bootstrap`) and slices (as
          `slices.slice_differences`).
        """
        truth = self._truths["test"]
        pair = [self._test_logits(name) for name in (baseline, distilled)]
        right = [logits.argmax(axis=1) == truth.labels for logits in pair]
        return comparison.paired_difference(*right) | {
            "seeds": 1,
            "needed_seeds": None,
            "differences": comparison.paired_bootstrap(*pair, truth.labels, self._train_counts),
            "slices": slices.slice_differences(*right, truth.columns),
        }

    @functools.cached_property
    def _truths(self):
        return {split: read_truth(self._info, split) for split in SPLITS}

    def _test_logits(self, name):
        with np.load(self._folder / f"{name}.npz") as stored:
            return stored["test_logits"]


def summarise(logits, truths, train_counts):
    """What `evaluation/<name>.json` holds.

    Args:
      logits: {"val": float [validation examples, classes], "test": float [test examples, classes]}.
      truths: {"val": Truth, "test": Truth}.
      train_counts: int [classes].

    Returns:
      dict of
        metrics: what `metrics.evaluate` returns for the test photos, and temperature_scaling,
          selective and slices as below.
        predictions (class numbers), confidence (probability of that class, as the file says it)
        and correct (bool): lists, one entry for each test photo.
        ids: list of str, the test photos'.
      temperature_scaling is what `calibration.temperature_scaling` returns. selective: aurc, curve
      (threshold, coverage and risk, at most about a hundred points) and thresholds, a list of
      target_accuracy, threshold (None where no threshold reaches it) and what
      `selective.answered` returns; thresholds are chosen on validation photos and measured on test
      photos, both of softmax(logits / temperature). slices: as `slices.slice_accuracy`, of the
      test photos.
    """
    test, val = truths["test"], truths["val"]
    scaling = calibration.temperature_scaling(
        logits["val"], val.labels, logits["test"], test.labels
    )
    confidence, correct = top_label(logits["test"], test.labels)
    return {
        "metrics": metrics.evaluate(logits["test"], test.labels, train_counts)
        | {
            "temperature_scaling": scaling,
            "selective": _selective(logits, truths, scaling["temperature"]),
            "slices": slices.slice_accuracy(correct, test.columns),
        },
        "predictions": np.argmax(logits["test"], axis=-1).tolist(),
        "confidence": confidence.tolist(),
        "correct": correct.tolist(),
        "ids": test.ids,
    }


def _selective(logits, truths, temperature):
    calibrated = {
        split: top_label(logits[split] / temperature, truths[split].labels) for split in SPLITS
    }
    curve = selective_prediction.risk_coverage_curve(*calibrated["test"])
    points = len(curve["risk"])
    kept = np.unique(np.linspace(0, points - 1, min(points, _CURVE_POINTS)).round().astype(int))
    thresholds = []
    for accuracy in ACCURACIES:
        threshold = selective_prediction.confidence_threshold(*calibrated["val"], accuracy)
        row = {"target_accuracy": accuracy, "threshold": threshold}
        if threshold is not None:
            row |= selective_prediction.answered(*calibrated["test"], threshold)
        thresholds.append(row)
    return {
        "aurc": selective_prediction.area_under_risk_coverage(*calibrated["test"]),
        "curve": {key: values[kept].tolist() for key, values in curve.items()},
        "thresholds": thresholds,
    }
