"""A teacher's logits for the very views that a student will see, on disk beside the shards.

`python -m tfrecords_tools.cache_logits` writes them, `data.training_batches(cached_logits=...)`
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

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from kdtf import data, files
from kdtf.data import augment, views
from kdtf.teachers import top_k

FORMAT = 1
MANIFEST = "logits.json"
TOLERANCE = 0.05  # levels of 0..255 by which a cell of a view's thumbnail may differ
WRITE = "write them again with `python -m tfrecords_tools.cache_logits` into another --out"


@dataclass(frozen=True)
class Settings:
    """What decides cached logits.

    Attributes:
      teachers: fingerprints (`teachers.fingerprint`), in order.
      classes: class names.
      data_sha256: of `dataset.json`, which holds the shards' own.
      split: name of the split.
      augmentation: an `augment.Augmentation`.
      image_size: side of the views that the teachers saw, pixels.
      seed: of the views.
      views: how many of each photo.
      kept: logits kept of each view, `top_k.kept`.
    """

    teachers: tuple[str, ...]
    classes: tuple[str, ...]
    data_sha256: str
    split: str
    augmentation: augment.Augmentation
    image_size: int
    seed: int
    views: int
    kept: int

    def __post_init__(self):
        for name in ("image_size", "views"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")

    def key(self):
        """Hex sha256 of all settings: a name for what they give."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def check_equal(self, other, directory):
        """Raises a ValueError that names both sides of the first setting that differs.

        Args:
          other: the `Settings` asked for; these are those of the cache.
          directory: where the cache lies.
        """
        for name, stored in asdict(self).items():
            asked = asdict(other)[name]
            if stored != asked:
                if name == "classes":
                    stored, asked = _first_difference(stored, asked)
                raise ValueError(
                    f"{directory} holds logits cached with {name} = {stored!r}, asked for is "
                    f"{asked!r}: give what they were made with, or {WRITE}"
                )


@dataclass(frozen=True)
class CachedLogits:
    """Logits on disk that have been checked against the data they are of.

    Attributes:
      directory: where they lie.
      settings: `Settings`.
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
                "`python -m tfrecords_tools.cache_logits --data DIR --teacher PATH --out DIR`"
            )
        try:
            raw = json.loads(path.read_text())
            if raw["format"] != FORMAT:
                raise ValueError(
                    f"{path} has format {raw['format']!r}, this version reads {FORMAT}: {WRITE}"
                )
            settings = _settings(raw["settings"])
            shards = tuple(data.Shard(**shard) for shard in raw["shards"])
            samples, tensorflow = raw["samples"], raw["tensorflow"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a manifest of cached logits: {error!r}") from error
        cached = cls(directory, settings, shards)
        cached.check(info, settings.split, settings.augmentation)
        cached.check_teachers(settings.teachers if teachers is None else teachers)
        cached._check_files()
        _check_views(info, settings, samples, directory, tensorflow)
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
                    f"{info.directory} {photos.examples} in {photos.file}: {WRITE}"
                )

    def check_teachers(self, fingerprints):
        """Raises a ValueError unless these are the logits of teachers with such fingerprints."""
        wanted = {"teachers": tuple(fingerprints)}
        self.settings.check_equal(Settings(**(vars(self.settings) | wanted)), self.directory)

    def records(self, shard):
        """`tf.data.Dataset` of the serialized records of shard number int [], in order."""
        paths = tf.constant([str(self.directory / each.file) for each in self.shards])
        return tf.data.TFRecordDataset(paths[shard])

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
                raise FileNotFoundError(f"{path} is missing, {MANIFEST} names it: {WRITE}")
            found = files.file_sha256(path)
            if found != shard.sha256:
                raise ValueError(
                    f"{path} has sha256 {found}, {MANIFEST} says {shard.sha256}: the file was "
                    f"changed or cut off; {WRITE}"
                )


def write_manifest(directory, info, settings, shards):
    """Writes `logits.json`, with samples of views drawn now: last, when all shards are in place."""
    samples = []
    for shard, number in sample(settings, len(shards)):
        drawn = _thumbnail(info, settings, shard, number)
        text = base64.b64encode(drawn.astype("<f4").tobytes()).decode()
        samples.append({"shard": shard, "view": number, "thumbnail": text})
    manifest = {
        "format": FORMAT,
        "settings": asdict(settings),
        "tensorflow": tf.__version__,
        "samples": samples,
        "shards": [shard._asdict() for shard in shards],
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    files.write_text(Path(directory) / MANIFEST, text)


def sample(settings, shards):
    """Up to four (shard, view) pairs, spread over `shards` shards and all views, to check."""
    spread = np.linspace(0, 1, 4)
    pairs = zip(spread * (shards - 1), spread * (settings.views - 1), strict=True)
    return sorted({(round(shard), round(view)) for shard, view in pairs})


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


def view_batches(info, settings, shard, number, batch_size, columns=()):
    """One view of every photo of a shard, in order, as the teachers see it.

    Args:
      info: `data.DatasetInfo`.
      settings: `Settings`.
      shard: position of the shard in its split.
      number: of the view.
      batch_size: photos per batch; the last batch may be smaller.
      columns: metadata columns to deliver.

    Returns:
      `tf.data.Dataset` of {"image": float32 [batch, size, size, 3], "id": string [batch], and the
      metadata as in `data.training_batches`}.
    """
    path = tf.constant(info.paths(settings.split)[shard])
    photos = info.split(settings.split).shards[shard]
    parse = data.example_parser(info, columns)
    seed, size, augmentation = settings.seed, settings.image_size, settings.augmentation

    def drawn(records):
        x, _ = parse(records)
        x["image"] = views.draw(x["image"], x["id"], number, seed, size, augmentation)
        return x

    def mixed(records, partners):
        x = drawn(records)
        shares = views.mix_weights(x["id"], number, seed, augmentation.mixup)
        x["image"] = views.mixed(x["image"], drawn(partners)["image"], shares)
        return x

    dataset, view = tf.data.TFRecordDataset(path), drawn
    if augmentation.mixup:
        others = views.partners(path, photos.file, photos.examples, number, seed)
        dataset = tf.data.Dataset.zip(dataset, others)
        view = mixed
    dataset = dataset.batch(batch_size)
    dataset = dataset.map(view, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(2)


def _settings(raw):
    raw = {name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()}
    ranges = {n: tuple(v) if isinstance(v, list) else v for n, v in raw["augmentation"].items()}
    return Settings(**raw | {"augmentation": augment.Augmentation(**ranges)})


def _first_difference(stored, asked):
    """The first position in which two lists of classes differ, for an error message."""
    for number, (one, other) in enumerate(zip(stored, asked, strict=False)):
        if one != other:
            return f"{one} as number {number}", f"{other} as number {number}"
    return f"{len(stored)} classes", f"{len(asked)} classes"


def _thumbnail(info, settings, shard, number):
    (batch,) = view_batches(info, settings, shard, number, 1).take(1)
    return views.thumbnail(batch["image"])[0].numpy()


def _check_views(info, settings, samples, directory, tensorflow):
    for stored in samples:
        shard, number = stored["shard"], stored["view"]
        thumbnail = np.frombuffer(base64.b64decode(stored["thumbnail"]), "<f4").reshape(8, 8, 3)
        drawn = _thumbnail(info, settings, shard, number)
        error = float(np.abs(thumbnail - drawn).max())
        if not error <= TOLERANCE:
            raise ValueError(
                f"{directory} holds logits of views drawn by TensorFlow {tensorflow}; TensorFlow "
                f"{tf.__version__} here draws other ones (view {number} of the first photo in "
                f"shard {shard} differs by {error:.1f} of 255 levels): use the "
                f"TensorFlow and kdtf that they were made with, or {WRITE}"
            )
