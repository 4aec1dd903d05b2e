"""Files that appear whole or not at all: written beside their place, then renamed."""

import contextlib
import hashlib
import json
import secrets
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path):
    """Context of a path beside `path`, with its suffix, that takes its place at the end.

    Where the block raises, nothing is left behind and what stood at `path` stays. Missing parent
    folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process's number: on a shared disk, machines have the same ones.
    partial = path.with_name(f".partial-{secrets.randbits(64)}-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def file_sha256(path):
    """Hex sha256 of a file, read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path, text):
    """Writes text as UTF-8, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(path, content):
    """Writes bytes, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def write_json(path, value):
    """Writes a value as JSON, whole or not at all; infinities and NaN are refused.

    Raises:
      ValueError: a number that JSON does not have.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path):
    """What a JSON file holds.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not JSON; names the file.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
