"""Writing shards: order, bytes, what an interrupted call leaves, what is refused."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_folders import contents, noise, saved

from kdtf import data
from tfrecords_tools import shards, validate
from tfrecords_tools.shards import Photo, write_dataset


def examples(info, split):
    return list(data.read_examples(info, split))


@dataclass(frozen=True)
class Flaky:
    """Encodes noise; refuses one photo while a file of that name exists; notes what it did."""

    folder: str
    fails: str = ""
    quality: int = 90

    def __repr__(self):
        return f"Flaky({self.quality})"

    def __call__(self, photo):
        with open(Path(self.folder) / "encoded.txt", "a") as log:
            log.write(photo.id + "\n")
        if photo.id == self.fails:
            raise KeyboardInterrupt
        return saved(noise(photo.source), "JPEG", quality=self.quality)


def numbered(count, split="train"):
    return [Photo(f"{split}-{i:02d}", i, split, "ab"[i % 2]) for i in range(count)]


def write(out, tmp_path, photos=None, **options):
    settings_ = {"classes": ["a", "b"], "examples_per_shard": 4, "workers": 1}
    encode = options.pop("encode", None) or Flaky(str(tmp_path))
    return write_dataset(out, photos or numbered(12), encode, **settings_ | options)


def encoded_since(tmp_path):
    log = tmp_path / "encoded.txt"
    lines = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def test_what_is_written_is_read(tmp_path):
    info, duplicates = write(tmp_path / "set", tmp_path, numbered(10) + numbered(3, "test"))
    assert duplicates != []  # train-00 and test-00 are the same noise
    assert [shard.examples for shard in info.splits["train"].shards] == [4, 3, 3]
    assert [shard.file for shard in info.splits["train"].shards] == [
        f"train-0000{index}-of-00003.tfrecord" for index in range(3)
    ]
    for split, count in (("train", 10), ("test", 3)):
        found = sorted(examples(info, split))
        assert [e.id for e in found] == [f"{split}-{i:02d}" for i in range(count)]
        assert [e.label for e in found] == [i % 2 for i in range(count)]
        assert [e.encoded for e in found] == [
            saved(noise(i), "JPEG", quality=90) for i in range(count)
        ]
    assert data.DatasetInfo.load(tmp_path / "set") == info
    assert validate.validate(tmp_path / "set", allow_leaks=True) == []


def test_photos_are_shuffled_within_their_split(tmp_path):
    first, _ = write(tmp_path / "a", tmp_path, numbered(24))
    ids = [e.id for e in examples(first, "train")]
    assert ids != sorted(ids)
    second, _ = write(tmp_path / "b", tmp_path, numbered(24)[::-1])
    assert ids == [e.id for e in examples(second, "train")]  # whatever the order given
    third, _ = write(tmp_path / "c", tmp_path, numbered(24), seed=1)
    assert ids != [e.id for e in examples(third, "train")]


def test_interrupted_build_continues_to_the_same_bytes(tmp_path):
    whole, _ = write(tmp_path / "whole", tmp_path)
    order = encoded_since(tmp_path)
    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        write(broken, tmp_path, encode=Flaky(str(tmp_path), fails=order[6]))
    assert encoded_since(tmp_path) == order[:7]
    assert not (broken / data.MANIFEST).exists()
    with pytest.raises(FileNotFoundError):
        data.DatasetInfo.load(broken)
    finished = [path.name for path in broken.glob("*.tfrecord")]
    assert finished == ["train-00000-of-00003.tfrecord"]
    assert not list(broken.glob(".partial*"))
    write(broken, tmp_path)
    assert encoded_since(tmp_path) == order[4:]  # the finished shard is not made again
    assert contents(broken) == contents(tmp_path / "whole")


def test_a_killed_process_leaves_nothing_that_counts(tmp_path):
    """What kill -9 leaves: a shard without its facts, a half-written one, half-written facts."""
    whole, _ = write(tmp_path / "whole", tmp_path)
    broken = tmp_path / "broken"
    order = encoded_since(tmp_path)
    with pytest.raises(KeyboardInterrupt):  # of another plan
        write(broken, tmp_path, encode=Flaky(str(tmp_path), fails=order[4]), examples_per_shard=2)
    assert (broken / "train-00000-of-00006.tfrecord").exists()
    with pytest.raises(KeyboardInterrupt):
        write(broken, tmp_path, encode=Flaky(str(tmp_path), fails=order[0]))
    name = whole.splits["train"].shards[0].file
    raw = (tmp_path / "whole" / name).read_bytes()
    (broken / name).write_bytes(raw[:100])
    (broken / f".partial-4242-{name}").write_bytes(raw[:50])
    (broken / f".partial-4242-.{name}.json").write_text("{")
    write(broken, tmp_path)
    assert contents(broken) == contents(tmp_path / "whole")


def test_a_call_of_an_earlier_version_is_continued(tmp_path):
    """It left no note of what it had begun, but one beside each finished shard."""
    order = interrupt_after_one_shard(tmp_path / "set", tmp_path)
    (tmp_path / "set" / ".unfinished.json").unlink()
    write(tmp_path / "set", tmp_path)
    assert encoded_since(tmp_path) == order[4:]
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


FOREIGN = ("train-00000-of-00003.tfrecord", "cifar-00000-of-00001.tfrecord-00000-of-00001", "a.txt")


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_that_holds_anything_else_is_refused(name, tmp_path):
    out = tmp_path / "set"
    out.mkdir()
    (out / name).write_bytes(b"someone's")
    with pytest.raises(ValueError, match=f"is not empty.*{name}"):
        write(out, tmp_path)
    assert contents(out) == {name: b"someone's"}
    assert encoded_since(tmp_path) == []


def test_what_a_call_killed_while_tidying_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(shards.resumable, "finish", lambda *_: None)
    write(tmp_path / "set", tmp_path)
    assert (tmp_path / "set" / ".unfinished.json").exists()
    monkeypatch.undo()
    with pytest.raises(FileExistsError, match="already holds a data set"):
        write(tmp_path / "set", tmp_path)
    write(tmp_path / "whole", tmp_path)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def interrupt_after_one_shard(out, tmp_path):
    write(tmp_path / "whole", tmp_path)
    order = encoded_since(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(out, tmp_path, encode=Flaky(str(tmp_path), fails=order[4]))
    encoded_since(tmp_path)
    return order


def test_finished_shard_is_made_again_when_settings_change(tmp_path):
    interrupt_after_one_shard(tmp_path / "set", tmp_path)
    write(tmp_path / "set", tmp_path, encode=Flaky(str(tmp_path), quality=50))
    assert len(encoded_since(tmp_path)) == 12
    write(tmp_path / "fresh", tmp_path, encode=Flaky(str(tmp_path), quality=50))
    assert contents(tmp_path / "set") == contents(tmp_path / "fresh")


def test_finished_shard_is_made_again_when_its_file_was_damaged(tmp_path):
    interrupt_after_one_shard(tmp_path / "set", tmp_path)
    shard = tmp_path / "set" / "train-00000-of-00003.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    write(tmp_path / "set", tmp_path)
    assert len(encoded_since(tmp_path)) == 12
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_finished_set_is_not_overwritten(tmp_path):
    write(tmp_path / "set", tmp_path)
    before = contents(tmp_path / "set")
    with pytest.raises(FileExistsError, match="already holds a data set"):
        write(tmp_path / "set", tmp_path, numbered(3))
    assert contents(tmp_path / "set") == before


def test_writing_refuses(tmp_path):
    with pytest.raises(ValueError, match="no photos to write"):
        write_dataset(tmp_path / "set", [], Flaky(""), classes=["a"])
    with pytest.raises(ValueError, match="1 ids occur more than once, the first is 'train-03'"):
        write(tmp_path / "set", tmp_path, numbered(5) + numbered(4)[3:])
    with pytest.raises(ValueError, match=r"labels \['b'\] are not among the 1 classes"):
        write(tmp_path / "set", tmp_path, classes=["a"])
    with pytest.raises(ValueError, match="examples_per_shard must be at least 1, got 0"):
        write(tmp_path / "set", tmp_path, examples_per_shard=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 3))
def test_shards_are_nearly_equal_and_hold_every_photo_once(count, per_shard, seed):
    plan = shards._plan_shards(numbered(count), per_shard, seed)
    sizes = [len(chunk) for chunk in plan.values()]
    assert len(sizes) == -(-count // per_shard)
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= per_shard
    held = Counter(p.id for chunk in plan.values() for p in chunk)
    assert held == Counter(p.id for p in numbered(count))
