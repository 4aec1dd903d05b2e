"""Files that appear whole or not at all: written beside their place, then renamed."""

import contextlib
import hashlib
import json
import os
import secrets
import zipfile
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


def check_file(path, *suffixes):
    """Refuses what is not a file of one of the suffixes (".keras", ...; without any: of any name).

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another suffix; a `.keras` file that is none.
    """
    path = Path(path)
    if suffixes and path.suffix not in suffixes:
        raise ValueError(f"must be a file whose name ends in {' or '.join(suffixes)}")
    if not path.is_file():
        raise FileNotFoundError("no such file")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise ValueError("is not a .keras file: save the model with `model.save`")


def check_folder(path):
    """Refuses what neither is a directory nor can become one.

    Raises:
      ValueError: a part of it is a file, or a directory in which nothing may be made.
    """
    path = Path(path).absolute()
    standing = next(each for each in (path, *path.parents) if each.exists())
    if not standing.is_dir():
        raise ValueError(f"{standing} is not a directory")
    if standing != path and not os.access(standing, os.W_OK):
        raise ValueError(f"{standing} may not be written to")


def check_new_file(path):
    """Refuses a path at which no file can be written: a directory, or in none that can be made.

    Raises:
      ValueError: says why.
    """
    if Path(path).is_dir():
        raise ValueError("is a directory")
    check_folder(Path(path).absolute().parent)
