"""`dataset.json`: read as it was written, or refused."""

import json

import pytest

from kdtf import data

SPLITS = {
    "train": data.Split(
        (data.Shard("train-0.tfrecord", 3, 99, "feed"), data.Shard("train-1.tfrecord", 2, 66, "f")),
        (1, 3),
        {"region": 2},
    )
}
TEXT = """{
 "format": 1,
 "classes": [
  "Café",
  "fig"
 ],
 "metadata": {
  "region": [
   "ost"
  ]
 },
 "splits": {
  "train": {
   "examples": 5,
   "class_counts": [
    1,
    3
   ],
   "missing": {
    "region": 2
   },
   "shards": [
    {
     "file": "train-0.tfrecord",
     "examples": 3,
     "bytes": 99,
     "sha256": "feed"
    },
    {
     "file": "train-1.tfrecord",
     "examples": 2,
     "bytes": 66,
     "sha256": "f"
    }
   ]
  }
 }
}
"""


def test_the_text_does_not_change_by_a_byte(tmp_path):
    """Its sha256 names the data in cached logits and registries."""
    info = data.DatasetInfo(tmp_path, ("Café", "fig"), {"region": ("ost",)}, SPLITS)
    assert info.to_json() == TEXT
    info.save()
    assert (tmp_path / data.MANIFEST).read_text(encoding="utf-8") == TEXT
    assert data.DatasetInfo.load(tmp_path) == info


def test_counts_of_a_split():
    split = SPLITS["train"]
    assert (split.examples, split.labelled, split.unlabelled) == (5, 4, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a data set manifest"),
        ("[]", "not a data set manifest"),
        (json.dumps({"format": 99}), "format 99, this version reads 1"),
        (json.dumps({"format": 1}), "not a data set manifest"),
    ],
)
def test_broken_manifests_are_refused(tmp_path, text, message):
    (tmp_path / data.MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=message):
        data.DatasetInfo.load(tmp_path)


def test_an_absent_manifest_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="kdtf build"):
        data.DatasetInfo.load(tmp_path)
