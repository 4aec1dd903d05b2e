"""`dataset.json`: what a data set's shards hold, so that they can be read, counted and checked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdtf import files

FORMAT = 1
MANIFEST = "dataset.json"


class Shard(NamedTuple):
    """One TFRecord file: its name, number of examples, size in bytes and sha256 (hex)."""

    file: str
    examples: int
    bytes: int
    sha256: str


class Split(NamedTuple):
    """One split: its shards, examples per class (int [classes]) and missing values per column."""

    shards: tuple[Shard, ...]
    class_counts: tuple[int, ...]
    missing: dict[str, int]

    @property
    def examples(self):
        return sum(shard.examples for shard in self.shards)

    @property
    def labelled(self):
        """Number of examples with a label."""
        return sum(self.class_counts)

    @property
    def unlabelled(self):
        """Number of examples without."""
        return self.examples - self.labelled


class Duplicate(NamedTuple):
    """Two photos that are the same bytes (`exact`) or look the same: their splits and ids."""

    splits: tuple[str, str]
    ids: tuple[str, str]
    exact: bool

    @property
    def first(self):
        """Text: the first photo, as split/id."""
        return f"{self.splits[0]}/{self.ids[0]}"

    @property
    def second(self):
        """Text: the second photo, as split/id."""
        return f"{self.splits[1]}/{self.ids[1]}"

    @property
    def across_splits(self):
        """Whether it is a leak: its photos are of two splits."""
        return self.splits[0] != self.splits[1]

    def __str__(self):
        what = "are the same bytes" if self.exact else "look the same"
        return f"{self.first} and {self.second} {what}"


@dataclass(frozen=True)
class DatasetInfo:
    """What `dataset.json` says.

    Attributes:
      directory: where the shards lie.
      classes: class names; a label is a position in it.
      metadata: column -> its vocabulary, in a fixed order.
      splits: split name -> `Split`.
      leaks: `Duplicate`s across splits; None where they were never looked for (as before this was
        noted).
    """

    directory: Path
    classes: tuple[str, ...]
    metadata: dict[str, tuple[str, ...]]
    splits: dict[str, Split]
    leaks: tuple[Duplicate, ...] | None = None

    @classmethod
    def load(cls, directory):
        """Reads `directory/dataset.json`.

        Raises:
          FileNotFoundError: there is none.
          ValueError: it is not one, or of another format version.
        """
        directory = Path(directory)
        path = directory / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: build the data set with "
                "`kdtf build --source DIR --out DIR`"
            )
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw["format"] != FORMAT:
                raise ValueError(
                    f"{path} has format {raw['format']!r}, this version reads {FORMAT}: rebuild it"
                )
            splits = {
                name: Split(
                    tuple(Shard(**shard) for shard in split["shards"]),
                    tuple(split["class_counts"]),
                    dict(split["missing"]),
                )
                for name, split in raw["splits"].items()
            }
            metadata = {name: tuple(words) for name, words in raw["metadata"].items()}
            leaks = raw.get("leaks")
            if leaks is not None:
                leaks = tuple(
                    Duplicate(tuple(leak["splits"]), tuple(leak["ids"]), leak["exact"])
                    for leak in leaks
                )
            return cls(directory, tuple(raw["classes"]), metadata, splits, leaks)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a data set manifest: {error!r}") from error

    def sha256(self):
        """Hex sha256 of `dataset.json` as it lies on disk now, which names every shard's own."""
        return files.file_sha256(self.directory / MANIFEST)

    def save(self):
        """Writes `dataset.json`, whole or not at all; `load` is its inverse."""
        files.write_text(self.directory / MANIFEST, self.to_json())

    def to_json(self):
        """The text of `dataset.json`, to the byte: its sha256 names the data set."""
        splits = {
            name: {
                "examples": split.examples,
                "class_counts": split.class_counts,
                "missing": split.missing,
                "shards": [shard._asdict() for shard in split.shards],
            }
            for name, split in self.splits.items()
        }
        manifest = {
            "format": FORMAT,
            "classes": self.classes,
            "metadata": self.metadata,
            "splits": splits,
        }
        if self.leaks is not None:
            manifest["leaks"] = [leak._asdict() for leak in self.leaks]
        return json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"

    def split(self, name):
        """The `Split` called `name`; ValueError, naming those there are, if there is none."""
        if name not in self.splits:
            raise ValueError(
                f"{self.directory} has no split {name!r}, only {', '.join(sorted(self.splits))}"
            )
        return self.splits[name]

    def leaks_between(self, *splits):
        """list of the known `Duplicate`s of which each photo is in another of two splits."""
        return [leak for leak in self.leaks or () if set(leak.splits) == set(splits)]

    def check_leaks(self, allow=False):
        """Refuses photos of "test" that are in "train" too, unless they are allowed.

        Raises:
          ValueError: there are some; names the first.
        """
        leaks = self.leaks_between("train", "test")
        if leaks and not allow:
            raise ValueError(
                f"{self.directory}: {len(leaks)} pairs of photos are in train and test, the first: "
                f"{leaks[0]}. What is measured on test would be too good: leave one of each pair "
                "out of the source and build again (`kdtf validate` lists them), or accept that "
                "with --allow-leaks"
            )

    def paths(self, split):
        """Paths of a split's shards, as strings, in order."""
        return [str(self.directory / shard.file) for shard in self.split(split).shards]

    def vocabulary_sizes(self, columns=None):
        """{column: number of known values} for `columns`, or all; unknown columns are refused."""
        columns = list(self.metadata) if columns is None else list(columns)
        for column in columns:
            if column not in self.metadata:
                raise ValueError(
                    f"{self.directory} has no metadata column {column!r}, "
                    f"only {', '.join(self.metadata) or 'none at all'}"
                )
        return {column: len(self.metadata[column]) for column in columns}
