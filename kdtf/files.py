"""Files that appear whole or not at all: written beside their place, then renamed."""

import contextlib
import hashlib
import secrets
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
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
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(path, content):
    """Writes bytes, whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)
