"""Writing a data set: photos in, checked TFRecord shards and `dataset.json` out.

Every source (folders, lists, TensorFlow Datasets, drawn photos) becomes `Photo`s and one `encode`
function, and every engine writes them through `write_shard`: one shard is one unit of work, made
beside its place and renamed, so a killed build leaves nothing half-written and is continued by
running it again.
"""

import base64
import dataclasses
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from kdtf import data, files
from kdtf.data import names, resumable
from tfrecords_tools import engines
from tfrecords_tools.duplicates import Fingerprint, find_duplicates, thumbnail

MADE = "a data set"


@dataclass(frozen=True)
class Photo:
    """One photo before it is written.

    Attributes:
      id: unique in the data set.
      source: what `encode` turns into a JPEG: a path, a seed; it travels to worker processes.
      split: name of its split.
      label: class name, or None if unlabelled.
      metadata: column -> value; absent = missing.
    """

    id: str
    source: object
    split: str
    label: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class Written(NamedTuple):
    """What `write_shard` reports: the shard's facts, and by what its photos are compared, in order.

    As JSON this is how an interrupted call finds it again.
    """

    file: str
    examples: int
    bytes: int
    sha256: str
    content_hashes: tuple[str, ...]
    thumbnails: tuple[str, ...]  # base64

    @property
    def shard(self):
        """`kdtf.data.Shard` of the file."""
        return data.Shard(self.file, self.examples, self.bytes, self.sha256)

    def fingerprints(self, photos):
        """list of `duplicates.Fingerprint`s of the shard's `Photo`s."""
        known = zip(photos, self.content_hashes, self.thumbnails, strict=True)
        return [
            Fingerprint(photo.split, photo.id, content, base64.b64decode(cells))
            for photo, content, cells in known
        ]


def write_shard(path, photos, encode, classes):
    """Writes one TFRecord file beside its place, renames it, and reports `Written`.

    Args:
      path: where the shard goes.
      photos: the `Photo`s of this shard, in order.
      encode: picklable function of a `Photo` to JPEG bytes.
      classes: class names; a label is a position in it.

    Raises:
      ValueError: a photo could not be encoded; names it.
    """
    path = Path(path)
    position = {name: index for index, name in enumerate(classes)}
    content_hashes, thumbnails = [], []
    with files.atomic_write(path) as partial:
        import tensorflow as tf  # here: a command line's help needs none of it

        with tf.io.TFRecordWriter(str(partial)) as writer:
            for photo in photos:
                encoded = encode(photo)
                thumbnails.append(base64.b64encode(thumbnail(_decoded(encoded, photo))).decode())
                content_hashes.append(hashlib.sha256(encoded).hexdigest())
                label = None if photo.label is None else position[photo.label]
                example = data.Example(photo.id, encoded, label, dict(photo.metadata))
                writer.write(data.serialize(example))
        digest = files.file_sha256(partial)
        size = partial.stat().st_size
    return Written(path.name, len(photos), size, digest, tuple(content_hashes), tuple(thumbnails))


def _decoded(encoded, photo):
    """uint8 [height, width, 3]: a JPEG's pixels as training decodes them; ValueError names it."""
    import tensorflow as tf

    from kdtf.data import augment

    try:
        return augment.decode(tf.constant(encoded)).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"{photo.id}: TensorFlow, which trains on it, cannot decode this JPEG: {error.message}"
        ) from error


def write_dataset(
    out, photos, encode, *, classes, examples_per_shard=512, workers=None, seed=0, engine=None
):
    """Shuffles photos within their split, writes all shards on all cores, then `dataset.json`.

    The order of photos and the bytes of every shard depend on the arguments only, not on the
    engine or the number of workers. `dataset.json` is written last: a directory that has one is
    complete. A shard that an interrupted call finished is kept if its inputs are the same.

    Args:
      out: directory to write to.
      photos: iterable of `Photo`.
      encode: picklable function of a `Photo` to JPEG bytes. Its repr must name all its settings
        (a frozen dataclass with `__call__`): it decides whether a finished shard may be kept.
      classes: class names in label order.
      examples_per_shard: photos per shard; a split never shares a shard.
      workers: processes; None = one per core, 1 = this one.
      seed: of the shuffle.
      engine: function of (picklable function, items) to the results in the order of the items,
        a `beam_runner.Engine` for example; None = processes of this machine.

    Returns:
      (`kdtf.data.DatasetInfo`, list of `kdtf.data.Duplicate`, of which `info.leaks` has those
      across splits).

    Raises:
      ValueError: what `check_photos` refuses; `workers` beside an engine, which has its own.
      FileExistsError: `out` holds a finished data set.
      ValueError: `out` holds anything but what an interrupted call began.
    """
    run = engines.chosen(engine, workers)
    out = Path(out)
    photos = list(photos)
    check_photos(photos, classes)
    check_out(out)
    plan = _plan_shards(photos, examples_per_shard, seed)
    resumable.begin(out, MADE, plan, Written)
    signature = _signature(plan, classes, encode)
    write = functools.partial(_write_resumably, out.absolute(), encode, classes)
    written = _write_all(out, plan, write, signature, run)
    fingerprints = [
        fingerprint
        for name, members in plan.items()
        for fingerprint in written[name].fingerprints(members)
    ]
    duplicates = find_duplicates(fingerprints)
    info = dataclasses.replace(
        _describe(out, photos, plan, written, classes),
        leaks=tuple(each for each in duplicates if each.across_splits),
    )
    info.save()
    resumable.finish(out, {*plan, data.MANIFEST})
    return info, duplicates


def check_out(out):
    """Refuses a folder in which no data set may be written.

    Raises:
      FileExistsError: it holds a finished data set.
      ValueError: it holds anything but what an interrupted call began.
    """
    out = Path(out)
    if (out / data.MANIFEST).exists():
        info = data.DatasetInfo.load(out)
        named = {shard.file for split in info.splits.values() for shard in split.shards}
        resumable.finish(out, {*named, data.MANIFEST})  # of a call that was killed in doing so
        raise FileExistsError(f"{out} already holds a data set: remove it or choose another --out")
    resumable.check_folder(out, MADE, Written)


def _describe(out, photos, plan, written, classes):
    """`kdtf.data.DatasetInfo` of photos that are written: {file name: `Written`}."""
    columns = sorted({column for photo in photos for column in photo.metadata})
    vocabulary = {
        column: tuple(sorted({p.metadata[column] for p in photos if column in p.metadata}))
        for column in columns
    }
    splits = {}
    for split in sorted({photo.split for photo in photos}, key=_split_rank):
        members = [photo for photo in photos if photo.split == split]
        counts = Counter(photo.label for photo in members)
        own = [name for name, shard_photos in plan.items() if shard_photos[0].split == split]
        splits[split] = data.Split(
            tuple(written[name].shard for name in own),
            tuple(counts[name] for name in classes),
            {column: sum(column not in photo.metadata for photo in members) for column in columns},
        )
    return data.DatasetInfo(out, tuple(classes), vocabulary, splits)


def check_photos(photos, classes):
    """Refuses photos and classes of which no data set can be made.

    Raises:
      ValueError: no photos, an id that occurs twice, a label outside `classes`, a name of a class
        or a metadata column that models and files cannot hold.
    """
    names.check_classes(classes)
    names.check_columns({column: None for photo in photos for column in photo.metadata})
    if not photos:
        raise ValueError("there are no photos to write")
    repeated = [name for name, count in Counter(p.id for p in photos).items() if count > 1]
    if repeated:
        raise ValueError(f"{len(repeated)} ids occur more than once, the first is {repeated[0]!r}")
    unknown = {p.label for p in photos} - set(classes) - {None}
    if unknown:
        raise ValueError(f"labels {sorted(unknown)[:5]} are not among the {len(classes)} classes")


def _split_rank(split):
    known = names.SPLITS
    return (known.index(split) if split in known else len(known), split)


def _plan_shards(photos, examples_per_shard, seed):
    """{file name: its photos}: each split shuffled and cut into shards of nearly equal length."""
    if examples_per_shard < 1:
        raise ValueError(f"examples_per_shard must be at least 1, got {examples_per_shard!r}")
    plan = {}
    for split in sorted({photo.split for photo in photos}, key=_split_rank):
        members = sorted((p for p in photos if p.split == split), key=lambda p: p.id)
        order = np.random.default_rng(seed).permutation(len(members))
        shards = -(-len(members) // examples_per_shard)
        for index, chunk in enumerate(np.array_split(order, shards)):
            name = f"{split}-{index:05d}-of-{shards:05d}.tfrecord"
            plan[name] = [members[i] for i in chunk]
    return plan


def _signature(plan, classes, encode):
    """{file name: hash of what decides the shard's bytes; of photo files, size and time}."""

    def version(photo):
        if not isinstance(photo.source, str) or not os.path.exists(photo.source):
            return None
        stat = os.stat(photo.source)
        return stat.st_size, stat.st_mtime_ns

    return {
        name: hashlib.sha256(
            repr(
                (Written._fields, photos, [version(photo) for photo in photos], classes, encode)
            ).encode()
        ).hexdigest()
        for name, photos in plan.items()
    }


def _write_resumably(out, encode: Callable, classes, job):
    """Writes a shard and, beside it, the facts by which an interrupted call is continued."""
    name, photos, signature = job
    written = write_shard(out / name, photos, encode, classes)
    resumable.record_finished(out, name, signature, written)
    return written


def _write_all(out, plan, write, signature, engine):
    """{file name: `Written`} of the whole plan; what an interrupted call finished is kept."""
    finished = {name: resumable.finished_facts(out, name, signature[name]) for name in plan}
    written = {name: facts and Written(**facts) for name, facts in finished.items()}
    missing = [name for name, facts in written.items() if facts is None]
    total = sum(len(photos) for photos in plan.values())
    done = total - sum(len(plan[name]) for name in missing)
    jobs = [(name, plan[name], signature[name]) for name in missing]
    with tqdm(total=total, initial=done, unit="photo", desc="writing") as bar:
        for name, facts in zip(missing, engine(write, jobs) if jobs else (), strict=True):
            written[name] = facts
            bar.update(len(plan[name]))
    return written
