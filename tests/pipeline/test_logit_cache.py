"""The teacher's cached logits in a run: what they cost, and what they save."""

import json
from pathlib import Path

import runs

from kdtf.pipeline import logit_cache


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
