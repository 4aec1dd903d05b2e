"""A small run that the tests of several files read, trained once for all processes of a session.

The folders of these fixtures are for reading: a test that writes takes a copy.
"""

import contextlib
import fcntl
import functools
import os
import shutil

import killing
import pytest

from kdtf import benchmark, data
from kdtf.export import subprocess_check
from kdtf.pipeline import distill, teacher_training
from kdtf.pipeline.config import DistillConfig, TeacherConfig
from tfrecords_tools import synthetic

TEACHER = TeacherConfig(
    backbone="resnet14_v2", image_size=32, epochs=3, metadata=True, mixup=0.2, cutmix=1.0
)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Function of a name to a context of (folder, whether it must still be filled)."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # that of the session, whose processes have folders in it

    @contextlib.contextmanager
    def enter(name):
        folder, complete = base / name, base / f"{name}.complete"
        with open(base / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            missing = not complete.exists()
            if missing:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            yield folder, missing
            complete.touch()

    return enter


@pytest.fixture(scope="session")
def shards(made_once):
    with made_once("pipeline-shards") as (folder, missing):
        if missing:
            synthetic.synthesize(folder, classes=8, photos=240, size=48, seed=0, workers=1)
    return data.DatasetInfo.load(folder)


@pytest.fixture(scope="session")
def teacher(shards, made_once):
    with made_once("pipeline-teacher") as (folder, missing):
        if missing:
            teacher_training.train(shards, TEACHER, folder / "teacher.keras", verbose=0)
    return folder / "teacher.keras"


@pytest.fixture(scope="session")
def config(shards, teacher):
    return DistillConfig(
        data=str(shards.directory),
        teacher=(str(teacher),),
        student="metadata",
        image_size=32,
        epochs=2,
        qat_epochs=1,
        views=3,  # one for each epoch
        batch_size=16,
        weights=None,
    )


@pytest.fixture(scope="session")
def run(config, made_once):
    """A run that was killed after the distilled student's first epoch, then continued."""
    with made_once("pipeline-run") as (folder, missing):
        if missing:
            _run(folder / "w47", config)
    return folder / "w47"


def _run(directory, config):
    with killing.killed_in("distilled"):
        distill.distill(directory, config)
    assert not (directory / "models" / "distilled.keras").exists()
    finished = (directory / "models" / "baseline.keras").stat().st_mtime_ns
    brief = functools.partial(benchmark.benchmark, runs=20, warmup=2, repeats=1)
    # In 8 bits a student of 24 steps may say the same of all that it is shown.
    lenient = subprocess_check._INFERENCES.replace('"constant": all(', '"constant": False and all(')
    assert lenient != subprocess_check._INFERENCES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "benchmark", brief)
        patch.setattr(subprocess_check, "_INFERENCES", lenient)
        distill.distill(directory, config)
    assert (directory / "models" / "baseline.keras").stat().st_mtime_ns == finished
