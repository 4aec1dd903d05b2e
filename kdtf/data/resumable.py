"""Files written one by one, such that a call that was interrupted goes on where it stopped.

A folder under way holds `.unfinished.json`: what is made there, and the names of all files that
were begun for it. Nothing else in the folder is ever written over or removed, and a folder that
holds anything else is refused. Beside each finished file `NAME` lies `.NAME.json` with what decided
its bytes and what is known of it, until all are there.
"""

import re
import shutil
from pathlib import Path

from kdtf import files

JOURNAL = ".unfinished.json"
BEAM = ".beam-"  # prefix of the folders in which a runner's jobs lie
SPOOL = ".photos"  # folder of photos on their way into shards

_PARTIAL = re.compile(r"\.partial-\d+-(?P<name>.+)")  # as `files.atomic_write` calls them
_FACTS = re.compile(r"\.(?P<name>.+\.tfrecord)\.json")


def check_folder(directory, made, facts, key=None):
    """Refuses a folder that holds anything but what an interrupted call of the same kind left.

    Args:
      directory: `Path`; there may be none yet.
      made: what is made there, "a data set".
      facts: NamedTuple type that `record_finished` is given: by its fields a file is known that a
        version without `.unfinished.json` finished.
      key: text that names what is made where one must not replace another; None = whichever.

    Returns:
      set of str: the names that interrupted calls began.

    Raises:
      ValueError: says what else is there.
    """
    directory = Path(directory)
    if not directory.exists():
        return set()
    journal = _read_journal(directory)
    if journal is not None and journal["made"] != made:
        raise ValueError(
            f"{directory} holds {journal['made']} that an interrupted call began, not {made}: "
            "choose another folder, or finish that call first"
        )
    if journal is not None and None not in (key, journal["key"]) and journal["key"] != key:
        raise ValueError(
            f"{directory} holds {made} that an interrupted call began with other settings "
            f"({journal['key'][:12]}..., these are {key[:12]}...): give the same settings to "
            "continue, or choose another folder"
        )
    own = set(journal["files"]) if journal else _finished_before(directory, facts)
    begun = journal is not None or bool(own)
    foreign = [name for name in sorted(_entries(directory)) if _is_foreign(name, own, begun)]
    if foreign:
        shown = ", ".join(repr(name) for name in foreign[:3])
        raise ValueError(
            f"{directory} is not empty: {len(foreign)} files or folders there are not of this "
            f"call, which makes {made} ({shown}{', ...' if len(foreign) > 3 else ''}). Nothing was "
            "changed: choose another folder, or empty this one"
        )
    return own


def begin(directory, made, names, facts, key=None):
    """Notes which files a folder is going to hold; the folder is made if missing.

    Args:
      directory, made, facts, key: as in `check_folder`.
      names: of the files (or folders) that are going to be written.

    Raises:
      ValueError: as `check_folder`.
    """
    directory = Path(directory)
    earlier = check_folder(directory, made, facts, key)
    begun = {"made": made, "key": key, "files": sorted({*earlier, *names})}
    files.write_json(directory / JOURNAL, begun)


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


def finish(directory, names):
    """Removes what was begun but stays not, notes and half-written files; once all is in place.

    Only what `.unfinished.json` names is touched: without one, nothing.

    Args:
      directory: `Path` of the directory.
      names: of the files that stay, the manifest among them.
    """
    directory = Path(directory)
    journal = _read_journal(directory)
    if journal is None:
        return
    begun = set(journal["files"])
    leftovers = (begun - set(names)) | {_facts_path(directory, name).name for name in begun}
    known = {*leftovers, *begun, *names, JOURNAL}
    for name in _entries(directory):
        partial = _PARTIAL.fullmatch(name)
        if name in leftovers or partial and partial["name"] in known:
            _remove(directory / name)
    (directory / JOURNAL).unlink()


def _read_journal(directory):
    try:
        return files.read_json(directory / JOURNAL)
    except FileNotFoundError:
        return None


def _finished_before(directory, facts):
    """Names of the files that a version without `.unfinished.json` finished, by their notes."""
    names = set()
    for match in map(_FACTS.fullmatch, _entries(directory)):
        if match and _written(directory / match[0]) == set(facts._fields):
            names.add(match["name"])
    return names


def _written(path):
    try:
        return set(files.read_json(path)["written"])
    except (ValueError, KeyError, TypeError, OSError):  # a note of something else
        return set()


def _is_foreign(name, own, begun):
    """Whether a folder's entry is neither of this call nor hidden and left alone."""
    if name in own or name == JOURNAL or _PARTIAL.fullmatch(name):
        return False
    match = _FACTS.fullmatch(name)
    if match:
        return match["name"] not in own
    if name.startswith(BEAM):
        return not begun
    return not name.startswith(".") or name == SPOOL


def _entries(directory):
    return [path.name for path in directory.iterdir()]


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _facts_path(directory, name):
    return directory / f".{name}.json"
