"""Retraining: a run's student is compared with the deployed one, promoted, taken back."""

import functools
import json
import shutil
from dataclasses import asdict, replace

import keras
import numpy as np
import pytest

from kdtf import release, teachers
from kdtf.pipeline import deployed, distill, retrain, run_config
from kdtf.pipeline.commands import retrain as command
from kdtf.pipeline.dataset import open_or_draw
from kdtf.pipeline.initial_student import write_initial_student
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.release import promotion
from kdtf.release.registry import Registry


@pytest.fixture(scope="module")
def lenient():
    """Gates that the small run passes."""
    limits = {"top1_limit": 0.0, "teacher_fraction_limit": 0.0, "p95_limit_ms": 1e9}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "check_gates", functools.partial(release.check_gates, **limits))
        yield


@pytest.fixture(scope="module")
def promoted(run, config, lenient, tmp_path_factory):
    """(registry whose version 1 is the run's student, that run)."""
    store = Registry(tmp_path_factory.mktemp("registry"))
    week = shutil.copytree(run, tmp_path_factory.mktemp("promoted") / run.name)
    assert retrain.retrain(store, week, config, promotion.Tolerance()) == retrain.PROMOTED
    return store, week


def other_week(run, folder, name):
    """A finished run that ships what `name` is in another."""
    shutil.copytree(run, folder)
    for kind, suffix in (("tflite", ".tflite"), ("evaluation", ".npz"), ("evaluation", ".json")):
        shutil.copy(folder / kind / f"{name}{suffix}", folder / kind / f"distilled_int8{suffix}")
    return folder


def test_the_first_student_is_promoted_by_the_gates_alone(promoted, run, shards, teacher):
    store, week = promoted
    entry = store.deployed()
    folder = store.verified(1)
    assert set(entry["files"]) == {
        "student_int8.tflite",
        "labels.txt",
        "model_card.md",
        "calibration.json",
        "student.keras",
        "student.json",
        "seen_photos.npy",
    }
    shipped = (run / "tflite" / "distilled_int8.tflite").read_bytes()
    assert (folder / "student_int8.tflite").read_bytes() == shipped
    described = json.loads((folder / "student.json").read_text())
    assert tuple(described["classes"]) == shards.classes
    assert set(described["metadata"]) == set(shards.metadata)
    assert len(np.load(folder / "seen_photos.npy")) == shards.split("train").examples
    record = json.loads((week / "promotion.json").read_text())
    assert record["passed"] and record["comparison"] is None and record["deployed"] is None
    fingerprint = teachers.fingerprint(teachers.load([teacher]))
    assert entry["facts"]["teacher_sha256"] == fingerprint
    assert fingerprint in (folder / "model_card.md").read_text()
    assert entry["facts"]["data_sha256"] == shards.sha256()


def test_a_run_is_not_promoted_twice(promoted, config, capsys):
    store, week = promoted
    assert retrain.retrain(store, week, config, promotion.Tolerance()) == retrain.PROMOTED
    assert "is deployed already, as version 1" in capsys.readouterr().out
    assert len(store.read()["versions"]) == 1


def test_the_next_week_is_compared_and_can_be_undone(promoted, run, config, tmp_path, capsys):
    store = Registry(tmp_path / "registry")
    shutil.copytree(promoted[0].folder, store.folder)
    week = other_week(run, tmp_path / "w48", "baseline_int8")
    refused = retrain.retrain(store, week, config, promotion.Tolerance(overall=0, strict=True))
    gain = _top1(run, "baseline_int8") - _top1(run, "distilled_int8")
    record = json.loads((week / "promotion.json").read_text())
    overall = record["comparison"]["checks"][0]
    assert overall["value"] == pytest.approx(gain) and overall["passed"] == (gain >= 0)
    checks = record["comparison"]["checks"]
    failed = [check for check in checks if check["value"] < check["limit"] - 1e-12]
    assert (refused == retrain.NOT_PROMOTED) == (
        gain < 0 or any(check["name"] != overall["name"] for check in failed)
    )
    printed = capsys.readouterr().out
    assert "Compared on" in printed and overall["name"] in printed
    if refused == retrain.NOT_PROMOTED:
        assert store.deployed()["version"] == 1 and "Not promoted: " in printed
        wide = promotion.Tolerance(0.99, 0.99)
        assert retrain.retrain(store, week, config, wide) == retrain.PROMOTED
    assert store.deployed()["version"] == 2 and store.deployed()["replaced"] == 1
    arguments = ["--registry", str(store.folder)]
    assert command.main([*arguments, "--list"]) == 0
    assert command.main([*arguments, "--rollback"]) == 0
    assert store.deployed()["version"] == 1
    # What was taken back does not come back by itself.
    assert retrain.retrain(store, week, config, promotion.Tolerance()) == retrain.NOT_PROMOTED
    assert "`--rollback 2` deploys it again" in capsys.readouterr().out
    (store.folder / "0002" / "labels.txt").write_text("other\n")
    assert command.main([*arguments, "--list"]) == 1
    assert "DAMAGED" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: .*labels.txt has sha256 .* restore the file"):
        command.main([*arguments, "--rollback", "2"])


def _top1(run, name):
    return np.mean(json.loads((run / "evaluation" / f"{name}.json").read_text())["correct"])


def test_the_deployed_file_answers_as_it_did_in_its_own_week(promoted, run, shards):
    """Other words, classes and their order in this week's data change nothing for it."""
    folder = promoted[0].verified(1)
    moved = replace(shards, metadata={name: words[::-1] for name, words in shards.metadata.items()})
    answers = deployed.answers(folder, moved)
    with np.load(run / "evaluation" / "distilled_int8.npz") as stored:
        np.testing.assert_array_equal(answers.logits, stored["test_logits"])
    assert answers.classes == shards.classes


def test_a_new_run_starts_from_the_deployed_student(promoted, config, tmp_path, monkeypatch):
    store, _ = promoted
    begun = []
    monkeypatch.setattr(distill, "distill", lambda run_dir, config: begun.append(config) or 1 / 0)
    for cold_start in (False, True):
        with pytest.raises(ZeroDivisionError):
            retrain.retrain(store, tmp_path / "w48", config, promotion.Tolerance(), cold_start)
    warm, cold = begun
    assert warm.warm_start == str(store.verified(1) / "student.keras")
    assert cold == config
    week = RunDirectory(tmp_path / "w48")
    info = open_or_draw(week, warm)
    start = keras.models.load_model(write_initial_student(week, warm, info), compile=False)
    trained = keras.models.load_model(warm.warm_start, compile=False)
    for one, two in zip(start.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    # Begun so, it goes on so, whatever is deployed by then.
    begun_with = {"format": run_config.FORMAT} | asdict(warm)
    run_config.check_or_write(week.config, begun_with)
    with pytest.raises(ZeroDivisionError):
        retrain.retrain(
            Registry(tmp_path / "empty"), tmp_path / "w48", config, promotion.Tolerance()
        )
    assert begun[-1] == warm


def test_two_retrainings_at_once(promoted, config, shards, tmp_path, capsys):
    store, _ = promoted
    with store.lock("retraining"):
        status = command.main(
            [
                "--registry",
                str(store.folder),
                "--run-dir",
                str(tmp_path / "run"),
                "--",
                "--data",
                str(shards.directory),
            ]
        )
    assert status == command.BUSY and not (tmp_path / "run").exists()
    assert "retraining is under way" in capsys.readouterr().err
