"""A file is whole or not there."""

import ast
from pathlib import Path

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


def _without_encoding(path):
    """Lines of a file in which text is read or written in whatever encoding the locale has."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        named = {keyword.arg for keyword in node.keywords}
        own = getattr(getattr(node.func, "value", None), "id", "") == "files"
        words = [each.value for each in node.args[1:2] if isinstance(each, ast.Constant)]
        text_file = name == "open" and isinstance(node.func, ast.Name) and "b" not in f"{words}"
        is_method = isinstance(node.func, ast.Attribute)
        text_file |= name in ("read_text", "write_text") and is_method and not own
        if (text_file or {"text", "universal_newlines"} & named) and "encoding" not in named:
            yield f"{path.name}:{node.lineno}"


def test_every_text_file_has_its_encoding_stated():
    root = Path(__file__).parent.parent
    sources = [
        path
        for name in ("kdtf", "tfrecords_tools", "recipes")
        for path in (root / name).rglob("*.py")
    ]
    assert len(sources) > 50
    assert [line for path in sources for line in _without_encoding(path)] == []
