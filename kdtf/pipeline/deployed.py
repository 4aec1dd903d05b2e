"""The deployed version beside a run's new file, on the same test examples."""

from dataclasses import replace

import numpy as np

from kdtf import data, files
from kdtf.pipeline import evaluation, seen_examples
from kdtf.release import bundle, promotion
from kdtf.results import SHIPPED

DESCRIPTION = "student.json"  # beside a promoted student: what it must be fed


def compare_with_deployed(folder, run, info, seen, tolerance):
    """What `promotion.compare` says of a run's new file and a promoted version, for JSON.

    Args:
      folder: pathlib.Path of the version.
      run: `RunDirectory`.
      info: `data.DatasetInfo` of the run.
      seen: uint64, what `seen_examples.trained_on` returned for the new student.
      tolerance: a `promotion.Tolerance`.
    """
    truth = evaluation.read_truth(info, "test")
    with np.load(run.logits(SHIPPED)) as stored:
        candidate = promotion.Answers(stored["test_logits"], info.classes)
    seen = np.union1d(seen, np.load(folder / seen_examples.FILE))
    return promotion.compare(
        answers(folder, info),
        candidate,
        truth.labels,
        info.split("train").class_counts,
        truth.columns,
        np.isin(seen_examples.hash_ids(truth.ids), seen),
        tolerance,
    ).to_json()


def answers(folder, info):
    """`promotion.Answers` of a promoted version to this week's test images, fed as in its own week.

    Args:
      folder: pathlib.Path of the version.
      info: `data.DatasetInfo` of this week.
    """
    described = files.read_json(folder / DESCRIPTION)
    words = {name: tuple(known) for name, known in (described["metadata"] or {}).items()}
    batches = data.evaluation_batches(
        replace(info, metadata=words), "test", 16, described["image_size"], columns=tuple(words)
    )
    logits = evaluation.answers(folder / bundle.MODEL, batches, info.split("test"), folder.name)
    return promotion.Answers(logits, tuple(described["classes"]))
