"""What an interrupted call finished: found again while whole, removed at the end."""

import hashlib
import json
from typing import NamedTuple

import pytest

from kdtf import files
from kdtf.data.resumable import begin, check_folder, finish, finished_facts, record_finished

NAME = "train-00000-of-00002.tfrecord"
OTHER = "train-00000-of-00099.tfrecord"


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


def test_what_was_begun_goes_and_all_else_stays(tmp_path):
    begin(tmp_path, "a set", [NAME, OTHER], Facts)
    finished(tmp_path)
    gone = [OTHER, f".{OTHER}.json", f".partial-42-{NAME}", f".partial-42-.{NAME}.json"]
    gone += [".partial-7-set.json", ".partial-7-.unfinished.json"]
    kept = [".partial-42-mine.jpg", "notes.txt", "set.json", "train-00000-of-00003.tfrecord"]
    for name in gone + kept:
        (tmp_path / name).write_text("")
    finish(tmp_path, {NAME, "set.json"})
    assert {path.name for path in tmp_path.iterdir()} == {*kept, NAME}


def test_without_a_note_of_what_was_begun_nothing_is_removed(tmp_path):
    finished(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    finish(tmp_path, set())
    assert {path.name for path in tmp_path.iterdir()} == before


def test_what_was_begun_once_is_remembered(tmp_path):
    """A call with other names goes on; what the first wrote is still known as ours."""
    begin(tmp_path, "a set", [OTHER], Facts)
    (tmp_path / OTHER).write_text("")
    begin(tmp_path, "a set", [NAME], Facts)
    assert check_folder(tmp_path, "a set", Facts) == {NAME, OTHER}
    finish(tmp_path, {NAME})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_and_what_is_hidden_there(tmp_path):
    assert check_folder(tmp_path / "none", "a set", Facts) == set()
    for name in (".DS_Store", ".gitignore", f".partial-42-{NAME}"):
        (tmp_path / name).write_text("")
    (tmp_path / ".git").mkdir()
    assert check_folder(tmp_path, "a set", Facts) == set()
    begin(tmp_path, "a set", [NAME], Facts)
    (tmp_path / ".beam-4711").mkdir()
    assert check_folder(tmp_path, "a set", Facts) == {NAME}


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    "foreign",
    [OTHER, "dataset.json", "notes.txt", f".{OTHER}.json", ".photos/", "photos/", "train.tfrecord"],
)
def test_what_is_not_of_this_call_is_refused(foreign, begun, tmp_path):
    if begun:
        begin(tmp_path, "a set", [NAME], Facts)
    path = tmp_path / foreign
    path.mkdir() if foreign.endswith("/") else path.write_text("{}")
    with pytest.raises(ValueError, match=f"is not empty: 1 files or folders.*'{path.name}'"):
        begin(tmp_path, "a set", [NAME], Facts)
    assert path.exists()


def test_a_file_of_the_same_name_is_foreign_until_it_is_noted(tmp_path):
    (tmp_path / NAME).write_bytes(b"someone's")
    with pytest.raises(ValueError, match=NAME):
        begin(tmp_path, "a set", [NAME], Facts)
    (tmp_path / NAME).unlink()
    finished(tmp_path)  # as a version without `.unfinished.json` left it
    assert check_folder(tmp_path, "a set", Facts) == {NAME}

    class OtherFacts(NamedTuple):
        sha256: str

    with pytest.raises(ValueError, match=NAME):
        check_folder(tmp_path, "other things", OtherFacts)


def test_what_another_tool_or_other_settings_began_is_refused(tmp_path):
    begin(tmp_path, "logits", [NAME], Facts, key="a" * 64)
    finished(tmp_path)
    with pytest.raises(ValueError, match="holds logits that an interrupted call began, not a set"):
        begin(tmp_path, "a set", [NAME], Facts)
    with pytest.raises(ValueError, match="other settings .aaaaaaaaaaaa..., these are bbbbbbbbbbbb"):
        begin(tmp_path, "logits", [NAME], Facts, key="b" * 64)
    begin(tmp_path, "logits", [NAME], Facts, key="a" * 64)
    assert check_folder(tmp_path, "logits", Facts) == {NAME}  # as far as is known


def test_a_note_that_cannot_be_read_is_not_ours(tmp_path):
    for text in ("{", "[]", '{"written": 3}'):
        (tmp_path / f".{NAME}.json").write_text(text)
        with pytest.raises(ValueError, match="is not empty"):
            check_folder(tmp_path, "a set", Facts)
    files.write_json(tmp_path / ".unfinished.json", {"made": "a set", "key": None, "files": [NAME]})
    assert check_folder(tmp_path, "a set", Facts) == {NAME}
