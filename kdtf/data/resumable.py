"""Files written one by one, such that a call that was interrupted goes on where it stopped.

Beside each finished file `NAME` lies `.NAME.json` with what decided its bytes and what is known of
it, until all are there.
"""

import re

from kdtf import files

# Shards, the facts beside them, and what of both a killed process left half-written.
_LEFTOVER = re.compile(r"(\.partial-\d+-)?\.?.+-\d{5}-of-\d{5}\.tfrecord(\.json)?")


def record_finished(directory, name, signature, facts):
    """Notes that a file is finished, for `finished_facts`.

    Args:
      directory: `Path` of the directory.
      name: the file's name.
      signature: text that changes with whatever decides the file's bytes.
      facts: NamedTuple of what is known of the file, its `sha256` among it.
    """
    record = {"signature": signature, "written": facts._asdict()}
    files.write_json(_facts_path(directory, name), record)


def finished_facts(directory, name, signature):
    """{name: fact} of a file that an interrupted call finished; None if it is not whole.

    Args:
      directory, name, signature: as in `record_finished`; another signature counts as not finished.
    """
    try:
        record = files.read_json(_facts_path(directory, name))
    except FileNotFoundError:
        return None
    path, facts = directory / name, record["written"]
    if record["signature"] != signature or not path.exists():
        return None
    return facts if files.file_sha256(path) == facts["sha256"] else None


def remove_leftovers(directory, names):
    """Removes what killed calls left in a directory of shards, and the facts of finished ones.

    Args:
      directory: `Path` of the directory.
      names: of the shards that stay.
    """
    for path in directory.iterdir():
        if _LEFTOVER.fullmatch(path.name) and path.name not in names:
            path.unlink()


def _facts_path(directory, name):
    return directory / f".{name}.json"
