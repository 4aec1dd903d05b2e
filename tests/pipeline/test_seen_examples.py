"""What a student was trained on: remembered from week to week."""

import numpy as np

from kdtf import data
from kdtf.pipeline import seen_examples


def test_lineage_of_photos(shards, tmp_path):
    """What an earlier student was trained on is remembered through its warm start."""
    train, test = (
        [each.id for each in data.read_examples(shards, split)] for split in ("train", "test")
    )
    np.save(tmp_path / "seen_photos.npy", np.sort(seen_examples.hash_ids(test[:3])))
    seen = seen_examples.trained_on(shards, tmp_path / "student.keras")
    assert np.isin(seen_examples.hash_ids(train + test), seen).sum() == len(train) + 3
    assert not np.isin(seen_examples.hash_ids(test), seen_examples.trained_on(shards, None)).any()
