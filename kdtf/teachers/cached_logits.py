"""A teacher's logits for the very views that a student will see, on disk beside the shards.

`kdtf cache-logits` writes them, `data.training_batches(cached_logits=...)`
replays them. A directory holds `logits.json` and, for each shard of one split, a file of the same
name and order whose records are `tf.train.Example`s with

    image/id  bytes  the photo's
    logits    bytes  float16 [views, teachers, kept], minus `largest`
    largest   bytes  float16 [views, teachers]
    classes   bytes  uint8 or uint16 [views, teachers, kept]; absent where all classes are kept
    rest      bytes  float16 [views, teachers]; likewise

in little-endian order; `top_k` says what the values mean and how exact they are. `logits.json`
holds what decides them (`Settings`), small copies of a few views, and each shard's facts.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from kdtf import data, files
from kdtf.data import record_files, resumable
from kdtf.teachers import top_k
from kdtf.teachers.logit_settings import REWRITE, Settings
from kdtf.teachers.teacher_views import check_samples, draw_samples

FORMAT = 1
MANIFEST = "logits.json"
MADE = "cached logits"


@dataclass(frozen=True)
class CachedLogits:
    """Logits on disk that have been checked against the data they are of.

    Attributes:
      directory: where they lie.
      settings: `logit_settings.Settings`.
      shards: `data.Shard`s of the logits' files, in the order of the photos' shards.
    """

    directory: Path
    settings: Settings
    shards: tuple[data.Shard, ...]

    @classmethod
    def load(cls, directory, info, teachers=None):
        """Opens cached logits and checks that they are whole and belong to a data set.

        All files are hashed, and the stored samples of views are drawn anew: another version of
        TensorFlow, or of kdtf, that draws other views is refused; one that draws the same is not.

        Args:
          directory: where `logits.json` lies.
          info: the `data.DatasetInfo` of the photos.
          teachers: fingerprints of the teachers whose logits these must be; None = any.

        Raises:
          FileNotFoundError: there are none, or a file of theirs is missing.
          ValueError: other classes, data, teachers or views, or a file that was changed; names
            both sides.
        """
        directory = Path(directory)
        path = directory / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: write it with "
                "`kdtf cache-logits --data DIR --teacher PATH --out DIR`"
            )
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw["format"] != FORMAT:
                raise ValueError(
                    f"{path} has format {raw['format']!r}, this version reads {FORMAT}: {REWRITE}"
                )
            settings = Settings.from_json(raw["settings"])
            shards = tuple(data.Shard(**shard) for shard in raw["shards"])
            samples, tensorflow = raw["samples"], raw["tensorflow"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a manifest of cached logits: {error!r}") from error
        cached = cls(directory, settings, shards)
        cached.check(info, settings.split, settings.augmentation)
        cached.check_teachers(settings.teachers if teachers is None else teachers)
        cached._check_files()
        check_samples(info, settings, samples, directory, tensorflow)
        return cached

    def check(self, info, split, augmentation):
        """Raises a ValueError unless these are logits of a split's views under an augmentation."""
        settings = self.settings
        wanted = {
            "classes": info.classes,
            "data_sha256": info.sha256(),
            "split": split,
            "augmentation": augmentation,
        }
        settings.check_equal(Settings(**(vars(settings) | wanted)), self.directory)
        for shard, photos in zip(self.shards, info.split(split).shards, strict=True):
            if (shard.file, shard.examples) != (photos.file, photos.examples):
                raise ValueError(
                    f"{self.directory} has {shard.examples} records in {shard.file}, "
                    f"{info.directory} {photos.examples} in {photos.file}: {REWRITE}"
                )

    def check_teachers(self, fingerprints):
        """Raises a ValueError unless these are the logits of teachers with such fingerprints."""
        wanted = {"teachers": tuple(fingerprints)}
        self.settings.check_equal(Settings(**(vars(self.settings) | wanted)), self.directory)

    @property
    def paths(self):
        """Paths of the logits' files, as strings, in order."""
        return [str(self.directory / shard.file) for shard in self.shards]

    def records(self, shard):
        """`tf.data.Dataset` of the serialized records of a shard, by its number, in order."""
        return record_files.read_all(self.paths[shard], self.shards[shard].examples)

    def decode(self, records, ids, number):
        """Logits of a view, for TensorFlow's graphs.

        Args:
          records: string [batch], serialized.
          ids: string [batch], ids of the photos they must be of.
          number: int64 [], which view.

        Returns:
          float32 [batch, teachers, classes]; of one teacher [batch, classes].

        Raises:
          tf.errors.InvalidArgumentError: a record of another photo.
        """
        settings = self.settings
        classes, members = len(settings.classes), len(settings.teachers)
        fields = {"largest": np.float16, "logits": np.float16}
        if settings.kept < classes:
            fields |= {"classes": top_k.class_dtype(classes), "rest": np.float16}
        schema = {name: tf.io.FixedLenFeature([], tf.string) for name in (*fields, "image/id")}
        parsed = tf.io.parse_example(records, schema)
        same = tf.debugging.assert_equal(
            parsed["image/id"], ids, f"cached logits in {self.directory} are of other photos"
        )
        arrays = {}
        with tf.control_dependencies([same]):
            for name, dtype in fields.items():
                flat = tf.io.decode_raw(parsed[name], dtype)
                last = [settings.kept] if name in ("logits", "classes") else []
                shaped = tf.reshape(flat, [-1, settings.views, members, *last])
                arrays[name] = shaped[:, number]
        logits = top_k.decode(top_k.Encoded(**arrays), classes)
        return logits[:, 0] if members == 1 else logits

    def _check_files(self):
        for shard in self.shards:
            path = self.directory / shard.file
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing, {MANIFEST} names it: {REWRITE}")
            sha256 = files.file_sha256(path)
            if sha256 != shard.sha256:
                raise ValueError(
                    f"{path} has sha256 {sha256}, {MANIFEST} says {shard.sha256}: the file was "
                    f"changed or cut off; {REWRITE}"
                )


def check_folder(directory, info, *, split="train", **settings):
    """Refuses a folder in which no logits of a data set can be, or be written, before work begins.

    Args:
      directory: the folder.
      info: `data.DatasetInfo`.
      split: name of the split.
      **settings: of `logit_settings.Settings`, as far as they are known already.

    Raises:
      ValueError: it holds logits of other settings, or anything but what an interrupted call began.
    """
    directory = Path(directory)
    if (directory / MANIFEST).exists():
        stored = CachedLogits.load(directory, info).settings
        stored.check_equal(replace(stored, split=split, **settings), directory)
    else:
        resumable.check_folder(directory, MADE, data.Shard)


def write_manifest(directory, info, settings, shards):
    """Writes `logits.json`, with samples of views drawn now: last, when all shards are in place."""
    manifest = {
        "format": FORMAT,
        "settings": asdict(settings),
        "tensorflow": tf.__version__,
        "samples": draw_samples(info, settings, len(shards)),
        "shards": [shard._asdict() for shard in shards],
    }
    files.write_json(Path(directory) / MANIFEST, manifest)


def serialize(identity, encoded):
    """bytes: the `tf.train.Example` of a photo.

    Args:
      identity: bytes, the photo's id.
      encoded: `top_k.Encoded` of arrays [views, teachers, ...].
    """
    values = {"image/id": identity}
    for name, array in encoded._asdict().items():
        if array is not None:
            values[name] = array.astype(array.dtype.newbyteorder("<")).tobytes()
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in values.items()
    }
    proto = tf.train.Example(features=tf.train.Features(feature=feature))
    return proto.SerializeToString(deterministic=True)
