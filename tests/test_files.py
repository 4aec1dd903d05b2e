"""A file is whole or not there."""

import pytest

from kdtf import files


def test_written_and_nothing_left_beside_it(tmp_path):
    files.write_text(tmp_path / "new" / "a.json", "é")
    files.write_bytes(tmp_path / "new" / "b.bin", b"\x00")
    assert (tmp_path / "new" / "a.json").read_bytes() == "é".encode()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.json", "b.bin"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_write(path) as partial:
        assert partial.suffix == ".keras" and partial.parent == tmp_path
        partial.write_text("ha")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_never_written_does_not_replace(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), files.atomic_write(path):
        pass
    assert path.read_text() == "old"
