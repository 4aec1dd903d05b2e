"""The promoted versions of a student, which of them is deployed, and the way back.

    registry/registry.json       what is deployed, every version's hashes and facts, what happened
    registry/0001/...            the files of version 1, never changed afterwards

`registry.json` is the one truth. A version's folder is written beside its place, checked and
renamed before `registry.json` names it, so a process that dies in between leaves what was deployed
deployed, and a folder that nobody names, which the next promotion replaces.
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

from kdtf import files

REGISTRY = "registry.json"
FORMAT = 1
_LOCK = "writing"


class BusyError(RuntimeError):
    """Another process holds the lock."""


class Registry:
    """A folder of promoted versions.

    Args:
      folder: the folder; it need not exist yet.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def read(self):
        """What `registry.json` says.

        Returns:
          dict of
            format: int.
            deployed: number of the deployed version, None before the first promotion.
            versions: list of dict of version (int, from 1), folder, promoted (UTC, ISO 8601),
              replaced (the version deployed before, or None), files ({name: {"sha256",
              "size_bytes"}}) and facts (as given to `promote`).
            history: list of dict of time, action ("promoted" or "rolled back"), version and
              replaced.

        Raises:
          ValueError: the file is not a registry, or of another format.
        """
        path = self.folder / REGISTRY
        if not path.exists():
            return {"format": FORMAT, "deployed": None, "versions": [], "history": []}
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            found = state["format"]
            numbers = [entry["version"] for entry in state["versions"]]
            broken = state["deployed"] not in [None, *numbers]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a registry: {error!r}") from error
        if found != FORMAT:
            raise ValueError(f"{path} has format {found!r}, this version reads {FORMAT}")
        if broken:
            raise ValueError(
                f"{path} names version {state['deployed']} as deployed, but holds {numbers}: "
                "restore the file"
            )
        return state

    def deployed(self):
        """The deployed version, as in `read`, or None."""
        state = self.read()
        return None if state["deployed"] is None else _entry(state, state["deployed"])

    def verified(self, version):
        """Folder of a version whose files are what was promoted, byte for byte.

        Args:
          version: its number.

        Returns:
          pathlib.Path.

        Raises:
          ValueError: there is no such version, or a file is missing, added or changed.
        """
        entry = _entry(self.read(), version)
        folder = self.folder / entry["folder"]
        _check_files(folder, entry)
        return folder

    def promote(self, sources, facts, replaces):
        """Makes files the deployed version.

        Args:
          sources: {name: path}: the files are copied to these names.
          facts: JSON-able dict of what is to be remembered: run, metrics, data's and teacher's
            hashes.
          replaces: number of the version that these files were compared with, None for none.

        Returns:
          the new version, as in `read`.

        Raises:
          FileNotFoundError: a source is missing.
          ValueError: another version than `replaces` is deployed by now; no sources.
        """
        if not sources:
            raise ValueError("sources is empty: a version is at least one file")
        with self.lock(_LOCK, wait=True):
            state = self.read()
            if state["deployed"] != replaces:
                raise ValueError(
                    f"{_named(state['deployed'])} is deployed in {self.folder} by now, but these "
                    f"files were compared with {_named(replaces)}: run the same command again to "
                    "compare them with what is deployed"
                )
            version = max((entry["version"] for entry in state["versions"]), default=0) + 1
            entry = {
                "version": version,
                "folder": f"{version:04d}",
                "promoted": _now(),
                "replaced": replaces,
                "files": {},
                "facts": facts,
            }
            self._copy(sources, entry)
            state["versions"].append(entry)
            self._deploy(state, version, "promoted")
        return entry

    def roll_back(self, version=None):
        """Makes an earlier version the deployed one again, once its files are checked.

        Args:
          version: its number; by default the one that the deployed version replaced.

        Returns:
          the version that is deployed now, as in `read`.

        Raises:
          ValueError: there is no such version, it is deployed already, or its files are not what
            was promoted.
        """
        with self.lock(_LOCK, wait=True):
            state = self.read()
            current = state["deployed"]
            if current is None:
                raise ValueError(f"nothing is deployed in {self.folder}: nothing to go back from")
            if version is None:
                version = _entry(state, current)["replaced"]
                if version is None:
                    raise ValueError(
                        f"version {current} in {self.folder} replaced none: name the version to "
                        "go to"
                    )
            entry = _entry(state, version)
            if version == current:
                raise ValueError(f"version {version} is deployed in {self.folder} already")
            _check_files(self.folder / entry["folder"], entry)
            self._deploy(state, version, "rolled back")
        return entry

    @contextlib.contextmanager
    def lock(self, job, wait=False):
        """Context in which no other process is in the same context of this registry.

        The lock goes with its process, however that ends.

        Args:
          job: name of what must not be done twice at once.
          wait: until the other process is through, instead of raising.

        Raises:
          BusyError: another process is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f".{job}.lock"
        with open(path, "a+", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                raise BusyError(
                    f"{job} is under way in {self.folder}, by {holder}: wait until it has ended, "
                    "or end it"
                ) from None
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()} since {_now()}\n")
            stream.flush()
            yield

    def _copy(self, sources, entry):
        """Copies files into the version's folder, and notes their sizes and hashes."""
        target = self.folder / entry["folder"]
        partial = self.folder / f".partial-{entry['folder']}"
        for leftover in (partial, target):  # registry.json names neither
            if leftover.exists():
                shutil.rmtree(leftover)
        try:
            partial.mkdir()
            for name, source in sources.items():
                # Of the source, before it is copied: the check then covers the copying.
                sha256 = files.file_sha256(source)
                shutil.copyfile(source, partial / name)
                size_bytes = (partial / name).stat().st_size
                entry["files"][name] = {"sha256": sha256, "size_bytes": size_bytes}
            _check_files(partial, entry)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _deploy(self, state, version, action):
        state["history"].append(
            {"time": _now(), "action": action, "version": version, "replaced": state["deployed"]}
        )
        state["deployed"] = version
        files.write_json(self.folder / REGISTRY, state)


def _entry(state, version):
    for entry in state["versions"]:
        if entry["version"] == version:
            return entry
    known = ", ".join(str(entry["version"]) for entry in state["versions"])
    raise ValueError(f"there is no version {version}, only {known or 'an empty registry'}")


def _check_files(folder, entry):
    wanted = {name: known["sha256"] for name, known in entry["files"].items()}
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found != wanted.keys():
        raise ValueError(
            f"version {entry['version']} was promoted with {', '.join(sorted(wanted))}, {folder} "
            f"holds {', '.join(sorted(found)) or 'nothing'}: restore the folder"
        )
    for name, sha256 in wanted.items():
        actual = files.file_sha256(folder / name)
        if actual != sha256:
            raise ValueError(
                f"{folder / name} has sha256 {actual}, version {entry['version']} was promoted "
                f"with {sha256}: restore the file"
            )


def _named(version):
    return "no version" if version is None else f"version {version}"


def _now():
    return datetime.now(UTC).isoformat(timespec="seconds")
