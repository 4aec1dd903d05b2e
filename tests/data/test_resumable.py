"""What an interrupted call finished: found again while whole, removed at the end."""

import hashlib
import json
from typing import NamedTuple

from kdtf.data.resumable import finished_facts, record_finished, remove_leftovers

NAME = "train-00000-of-00002.tfrecord"


class Facts(NamedTuple):
    """As writers report them."""

    file: str
    sha256: str
    hashes: tuple[int, ...]


def finished(folder, content=b"photos"):
    (folder / NAME).write_bytes(content)
    facts = Facts(NAME, hashlib.sha256(content).hexdigest(), (2**64 - 1, 3))
    record_finished(folder, NAME, "these settings", facts)
    return facts


def test_a_finished_file_is_known(tmp_path):
    facts = finished(tmp_path)
    known = finished_facts(tmp_path, NAME, "these settings")
    assert known == facts._asdict() | {"hashes": [2**64 - 1, 3]}


def test_the_note_keeps_its_layout(tmp_path):
    """What a call of an earlier version finished is kept by one of this."""
    facts = finished(tmp_path)
    note = json.loads((tmp_path / f".{NAME}.json").read_text())
    written = {"file": NAME, "sha256": facts.sha256, "hashes": [2**64 - 1, 3]}
    assert note == {"signature": "these settings", "written": written}


def test_what_is_not_whole_or_of_other_settings_is_not_finished(tmp_path):
    assert finished_facts(tmp_path, NAME, "these settings") is None
    finished(tmp_path)
    assert finished_facts(tmp_path, NAME, "other settings") is None
    (tmp_path / NAME).write_bytes(b"photo")
    assert finished_facts(tmp_path, NAME, "these settings") is None
    (tmp_path / NAME).unlink()
    assert finished_facts(tmp_path, NAME, "these settings") is None


def test_leftovers_go_and_all_else_stays(tmp_path):
    finished(tmp_path)
    other = "train-00000-of-00099.tfrecord"
    leftovers = [other, f".{other}.json", f".partial-42-{NAME}", f".partial-42-.{NAME}.json"]
    for name in [*leftovers, "notes.txt", "dataset.json", "train.tfrecord"]:
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path, {NAME})
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["dataset.json", "notes.txt", NAME, "train.tfrecord"]
