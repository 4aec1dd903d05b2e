"""The data of a run: shards that are given, or drawn."""

import os

from kdtf import data
from kdtf.data import names
from kdtf.pipeline import run_config
from kdtf.pipeline.config import EMBEDDED_DATA
from tfrecords_tools import synthetic


def check_leaks(config):
    """Refuses, before anything is written, data whose test photos are training photos too.

    Args:
      config: `DistillConfig`.

    Raises:
      FileNotFoundError, ValueError: no data set; photos in both splits that are not allowed.
    """
    if config.data is not None:
        data.DatasetInfo.load(config.data).check_leaks(config.allow_leaks)


def open_or_draw(run, config):
    """Opens the shards that are named, or draws the embedded set.

    Args:
      run: `RunDirectory`.
      config: `DistillConfig`.

    Returns:
      `data.DatasetInfo`.

    Raises:
      ValueError: the run was begun with other data; an example of val or test has no label; a
        class or, for a student with metadata, a column has a name that models cannot hold.
    """
    folder = config.data
    if folder is None:
        folder = run.drawn_data
        if not (folder / data.MANIFEST).exists():
            synthetic.synthesize(folder, seed=0, workers=os.cpu_count(), **EMBEDDED_DATA)
    info = data.DatasetInfo.load(folder)
    names.check_classes(info.classes)
    if config.student == "metadata":
        names.check_columns(info.metadata)
    data.count_examples(info, "train", unlabelled="skip")
    for split in ("val", "test"):
        data.count_examples(info, split)
    run_config.check_or_write(run.data_facts, {"data_sha256": info.sha256()})
    return info


def unlabelled_note(info):
    """A sentence for the terminal about training images without a label; "" where all have one."""
    train = info.split("train")
    if not train.unlabelled:
        return ""
    return (
        f"{train.labelled:,} of {train.examples:,} training photos have a label: the distilled "
        "student learns the others from the teacher alone, the baseline takes as many steps "
        "on those with a label"
    )
