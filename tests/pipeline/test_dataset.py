"""Data of a run: photos of the test split that are training photos too."""

import json
import zipfile
from dataclasses import replace

import pytest

from kdtf import data
from kdtf.pipeline import distill, logit_cache, teacher_training
from kdtf.pipeline.commands import distill as distill_command
from kdtf.pipeline.commands import retrain, sweep, teacher
from kdtf.pipeline.config import DistillConfig, TeacherConfig
from kdtf.study import command as study

LEAK = {"splits": ["test", "train"], "ids": ["x", "y"], "exact": True}


@pytest.fixture
def leaking(tmp_path):
    folder = tmp_path / "leaking"
    folder.mkdir()
    manifest = {"format": 1, "classes": ["a"], "metadata": {}, "splits": {}, "leaks": [LEAK]}
    (folder / data.MANIFEST).write_text(json.dumps(manifest))
    return str(folder)


def test_a_run_on_leaking_data_is_refused_before_anything_is_written(leaking, tmp_path):
    with pytest.raises(ValueError, match="test/x and train/y are the same bytes.*--allow-leaks"):
        distill.distill(tmp_path / "run", DistillConfig(data=leaking))
    with pytest.raises(ValueError, match="--allow-leaks"):
        info = data.DatasetInfo.load(leaking)
        teacher_training.train(info, TeacherConfig(), tmp_path / "t.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["leaking"]


def test_every_command_that_trains_refuses_them(leaking, tmp_path):
    run = ["--run-dir", str(tmp_path / "run")]
    keras_file = tmp_path / "t.keras"
    zipfile.ZipFile(keras_file, "w").close()
    for main, argv in (
        (distill_command.main, [*run, "--data", leaking]),
        (sweep.main, [*run, "--", "--data", leaking]),
        (retrain.main, ["--registry", str(tmp_path / "r"), *run, "--", "--data", leaking]),
        (teacher.main, ["--data", leaking, "--out", str(tmp_path / "new.keras")]),
        (study.main, [*run, "--data", leaking, "--teacher", str(keras_file)]),
    ):
        with pytest.raises(SystemExit, match="error: .*photos are in train and test"):
            main(argv)


def test_allowing_them_goes_on(leaking, tmp_path):
    config = DistillConfig(data=leaking, allow_leaks=True)
    with pytest.raises(ValueError, match="no split 'train'"):  # the next thing that is wrong
        distill.distill(tmp_path / "run", config)
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "allow_leaks" not in settings  # so that runs begun before go on


def test_a_seed_draws_the_cached_views(monkeypatch, tmp_path):
    asked = {}

    def cache_logits(info, members, **options):
        asked.update(options)
        raise InterruptedError

    monkeypatch.setattr(logit_cache.teachers, "cache_logits", cache_logits)
    members = type("Teacher", (), {"members": []})
    with pytest.raises(InterruptedError):
        logit_cache.open_or_write(None, replace(DistillConfig(), seed=7), None, members)
    assert asked["seed"] == 7
