"""A run directory's settings: written once, compared, and refused where its format is another."""

import json
from dataclasses import asdict, replace

import pytest

from kdtf.pipeline import distill, retrain, run_config
from kdtf.pipeline.config import DistillConfig
from kdtf.release import promotion
from kdtf.release.registry import Registry


def test_other_settings_in_the_same_directory_are_refused(run, config):
    with pytest.raises(ValueError, match=r"holds a run with \{'alpha': 0.7\}, .* \{'alpha': 0.5\}"):
        distill.distill(run, replace(config, alpha=0.5))


def test_settings_are_written_once_and_compared(tmp_path):
    path = tmp_path / "run" / "config.json"
    run_config.check_or_write(path, {"epochs": 3, "teacher": ("a", "b")})
    content = path.read_bytes()
    run_config.check_or_write(path, {"epochs": 3, "teacher": ("a", "b")})
    assert path.read_bytes() == content
    assert json.loads(content) == {"epochs": 3, "teacher": ["a", "b"]}
    with pytest.raises(ValueError, match=r"run holds .*'epochs': 3.*'epochs': 4.*give the same"):
        run_config.check_or_write(path, {"epochs": 4, "teacher": ("a", "b")})


def test_a_run_says_its_format(run, config):
    settings = json.loads((run / "config.json").read_text())
    assert settings["format"] == run_config.FORMAT == 2
    deciding = asdict(config)
    del deciding["allow_leaks"]  # whether to run, not what
    assert settings == json.loads(json.dumps({"format": 2} | deciding))


@pytest.mark.parametrize("begin", ["distill", "retrain"])
def test_a_run_of_an_earlier_format_is_refused_before_anything_is_written(begin, shards, tmp_path):
    config = DistillConfig(data=str(shards.directory), warm_start=None)
    folder = tmp_path / "w46"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    before = {path: path.read_bytes() for path in folder.rglob("*")}
    message = r"w46 holds a run in format 1, .* format 2: choose another --run-dir, or finish"
    with pytest.raises(ValueError, match=message):
        if begin == "distill":
            distill.distill(folder, config)
        else:
            store = Registry(tmp_path / "registry")
            retrain.retrain(store, folder, config, promotion.Tolerance())
    assert {path: path.read_bytes() for path in folder.rglob("*")} == before
