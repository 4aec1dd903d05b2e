"""Copies of shards: whole, checked, made once."""

import hashlib

import pytest

from kdtf import data
from kdtf.data import shard_cache


def dataset(folder, contents):
    folder.mkdir(exist_ok=True)
    shards = []
    for number, content in enumerate(contents):
        (folder / f"{number}.tfrecord").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        shards.append(data.Shard(f"{number}.tfrecord", 1, len(content), digest))
    split = data.Split(tuple(shards), (len(shards),), {})
    return data.DatasetInfo(folder, ("a",), {}, {"train": split})


def contents(paths):
    found = []
    for path in paths:
        with open(path, "rb") as stream:
            found.append(stream.read())
    return found


def test_copies_hold_what_the_shards_hold_in_order(tmp_path):
    info = dataset(tmp_path / "set", [b"b", b"a", b"b"])
    paths = shard_cache.copies(info, "train", tmp_path / "cache")
    assert contents(paths) == [b"b", b"a", b"b"]
    assert len(list((tmp_path / "cache").iterdir())) == 2  # equal shards share a copy


def test_what_is_there_is_not_copied_again(tmp_path):
    info = dataset(tmp_path / "set", [b"one", b"two"])
    paths = shard_cache.copies(info, "train", tmp_path / "cache")
    for path in info.paths("train"):
        (tmp_path / "set" / path).unlink()
    assert shard_cache.copies(info, "train", tmp_path / "cache") == paths


def test_a_truncated_copy_is_made_again(tmp_path):
    info = dataset(tmp_path / "set", [b"one"])
    (path,) = shard_cache.copies(info, "train", tmp_path / "cache")
    with open(path, "wb") as stream:
        stream.write(b"on")
    assert contents(shard_cache.copies(info, "train", tmp_path / "cache")) == [b"one"]


def test_changed_data_sets_get_copies_of_their_own(tmp_path):
    before = shard_cache.copies(dataset(tmp_path / "set", [b"old"]), "train", tmp_path / "cache")
    after = shard_cache.copies(dataset(tmp_path / "set", [b"new"]), "train", tmp_path / "cache")
    assert contents(before + after) == [b"old", b"new"]


def test_a_damaged_shard_is_refused_and_leaves_nothing(tmp_path):
    info = dataset(tmp_path / "set", [b"good"])
    (tmp_path / "set" / "0.tfrecord").write_bytes(b"evil")
    wanted = info.split("train").shards[0].sha256
    with pytest.raises(ValueError, match=f"0.tfrecord has sha256 .* says {wanted}"):
        shard_cache.copies(info, "train", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no split 'val'"):
        shard_cache.copies(dataset(tmp_path / "set", [b"x"]), "val", tmp_path / "cache")
