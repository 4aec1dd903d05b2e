"""The teacher's cached logits in a run: what they cost, and what they save."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import runs

from kdtf import data
from kdtf.pipeline import dataset, distill, logit_cache, teacher
from kdtf.pipeline.run_directory import RunDirectory


def test_the_run_says_what_the_cache_saved(run, shards, config, tmp_path):
    """Live: 2 float epochs and 1 in 8 bits; cached: 3 views of every photo, once for all runs."""
    facts = json.loads((run / "results.json").read_text())["cached_logits"]
    photos = shards.split("train").examples
    assert facts["images_scored"] == 3 * photos
    assert facts["images_saved"] == 3 * (photos // 16) * 16 - 3 * photos < 0
    assert Path(facts["directory"]).parent == shards.directory
    assert "more than without a cache" in logit_cache.summary(facts)
    other = runs.begin(tmp_path / "next-week", config)
    assert other.cache_facts["images_scored"] == 0
    assert other.cache_facts["images_saved"] == 3 * (photos // 16) * 16
    assert other.cache_facts["seconds_saved"] > 0
    assert "Saved: " in logit_cache.summary(other.cache_facts)


def test_a_folder_that_holds_anything_else_is_refused_before_a_teacher_is_trained(
    run, shards, config, tmp_path, monkeypatch
):
    """Not a byte of it changes, and the run's directory is free for another try."""
    monkeypatch.setattr(teacher, "load_or_train_teacher", None)
    before = {path.name: path.stat().st_mtime_ns for path in shards.directory.iterdir()}
    cached = json.loads((run / "cache.json").read_text())["directory"]
    for folder, message in (
        (shards.directory, "is not empty.*'dataset.json'"),
        (run, "is not empty.*'config.json'"),
        (cached, "cached with views = 3, asked for is 5"),
    ):
        asked = replace(config, teacher=("train",), views=5, logits=str(folder))
        with pytest.raises(ValueError, match=message):
            distill.distill(tmp_path / "run", asked)
    assert not (tmp_path / "run").exists()
    assert {path.name: path.stat().st_mtime_ns for path in shards.directory.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("a\nb", *"cdefghi")}, "class 0 is called 'a.nb', with the character"),
        ({"metadata": {"store region": ("north",)}}, "rename it to 'store_region'"),
    ],
)
def test_names_that_stop_a_run_at_its_end_stop_it_at_its_beginning(
    change, message, shards, config, tmp_path, monkeypatch
):
    """Of a data set that an earlier version built."""
    monkeypatch.setattr(data.DatasetInfo, "load", lambda _: replace(shards, **change))
    with pytest.raises(ValueError, match=message):
        dataset.open_or_draw(RunDirectory(tmp_path / "run"), config)
    assert not (tmp_path / "run").exists()
