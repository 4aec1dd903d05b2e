"""Writing a data set: photos in, checked TFRecord shards and `dataset.json` out.

Every source (folders, lists, TensorFlow Datasets, drawn photos) becomes `Photo`s and one `encode`
function, and every engine writes them through `write_shard`: one shard is one unit of work, made
beside its place and renamed, so a killed build leaves nothing half-written and is continued by
running it again.
"""

import concurrent.futures
import functools
import hashlib
import io
import json
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from kdtf import data, files
from kdtf.files import file_sha256

SPLITS_ORDER = ("train", "val", "test")
LEFT_OVER = re.compile(r"(\.partial-\d+-)?\.?.+-\d{5}-of-\d{5}\.tfrecord(\.json)?")


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
    """What `write_shard` reports: the shard's facts and a fingerprint per photo, in order."""

    file: str
    examples: int
    bytes: int
    sha256: str
    content_hashes: tuple[str, ...]
    difference_hashes: tuple[int, ...]


def difference_hash(image):
    """64-bit dHash: whether brightness rises from each cell of a 9x8 thumbnail to the next.

    Re-encoding or resizing a photo changes few bits; other photos differ in about half of them.
    """
    cells = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = np.packbits((cells[:, 1:] > cells[:, :-1]).ravel())
    return int.from_bytes(bits.tobytes(), "big")


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
    content_hashes, difference_hashes = [], []
    with files.atomic_write(path) as partial:
        import tensorflow as tf  # here: a command line's help needs none of it

        with tf.io.TFRecordWriter(str(partial)) as writer:
            for photo in photos:
                encoded = encode(photo)
                with Image.open(io.BytesIO(encoded)) as image:
                    difference_hashes.append(difference_hash(image))
                content_hashes.append(hashlib.sha256(encoded).hexdigest())
                label = None if photo.label is None else position[photo.label]
                example = data.Example(photo.id, encoded, label, dict(photo.metadata))
                writer.write(data.serialize(example))
        digest = file_sha256(partial)
        size = partial.stat().st_size
    return Written(
        path.name, len(photos), size, digest, tuple(content_hashes), tuple(difference_hashes)
    )


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
      (`kdtf.data.DatasetInfo`, list of `Duplicate`).

    Raises:
      ValueError: no photos, an id that occurs twice, a label outside `classes`; `workers` beside
        an engine, which has its own.
      FileExistsError: `out` holds a finished data set.
    """
    if engine is not None and workers is not None:
        raise ValueError(
            f"workers={workers!r} is for this machine's processes: tell the engine its own number"
        )
    out = Path(out)
    photos = list(photos)
    _check_photos(photos, classes)
    if (out / data.MANIFEST).exists():
        raise FileExistsError(f"{out} already holds a data set: remove it or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    plan = _plan_shards(photos, examples_per_shard, seed)
    signature = _signature(plan, classes, encode)
    write = functools.partial(_write_and_note, out.absolute(), encode, classes)
    written = _write_all(out, plan, write, signature, engine or _processes(workers))

    columns = sorted({column for photo in photos for column in photo.metadata})
    vocabulary = {
        column: tuple(sorted({p.metadata[column] for p in photos if column in p.metadata}))
        for column in columns
    }
    splits = {}
    for split in sorted({photo.split for photo in photos}, key=_split_rank):
        members = [photo for photo in photos if photo.split == split]
        counts = Counter(photo.label for photo in members)
        names = [name for name, chunk in plan.items() if chunk[0].split == split]
        splits[split] = data.Split(
            tuple(data.Shard(*written[name][:4]) for name in names),
            tuple(counts[name] for name in classes),
            {c: sum(c not in photo.metadata for photo in members) for c in columns},
        )
    info = data.DatasetInfo(out, tuple(classes), vocabulary, splits)
    remove_left_overs(out, plan)
    files.write_text(out / data.MANIFEST, info.to_json())
    fingerprints = [
        (photo.split, photo.id, content, difference)
        for name, chunk in plan.items()
        for photo, content, difference in zip(
            chunk, written[name].content_hashes, written[name].difference_hashes, strict=True
        )
    ]
    return info, find_duplicates(fingerprints)


class Duplicate(NamedTuple):
    """Two photos that are the same bytes (`exact`) or look the same; ids as `split/id`."""

    first: str
    second: str
    exact: bool
    across_splits: bool


def find_duplicates(fingerprints, max_bits=2):
    """Pairs of photos with equal content or dHashes that differ in at most `max_bits` < 4 bits.

    Equal quarters are compared only (two hashes that differ in under 4 bits share one of their
    four 16-bit quarters), so the cost stays far from quadratic. Flat photos, whose dHash has
    fewer than 8 bits set or unset, look alike without being alike and count only when equal.

    Args:
      fingerprints: list of (split, id, content hash, 64-bit dHash).
      max_bits: largest Hamming distance.

    Returns:
      list of `Duplicate`, leaks across splits first.
    """
    found = {}

    def add(a, b, exact):
        pair = tuple(sorted((f"{a[0]}/{a[1]}", f"{b[0]}/{b[1]}")))
        found.setdefault(pair, Duplicate(*pair, exact, a[0] != b[0]))

    by_content = {}
    for item in fingerprints:
        first = by_content.setdefault(item[2], item)
        if first is not item:
            add(first, item, exact=True)
    buckets = {}
    for item in by_content.values():
        if 8 <= item[3].bit_count() <= 56:
            for quarter in range(4):
                buckets.setdefault((quarter, item[3] >> (16 * quarter) & 0xFFFF), []).append(item)
    for members in buckets.values():
        for index, a in enumerate(members):
            for b in members[index + 1 :]:
                if (a[3] ^ b[3]).bit_count() <= max_bits:
                    add(a, b, exact=False)
    return sorted(found.values(), key=lambda d: (not d.across_splits, not d.exact, d))


def _check_photos(photos, classes):
    if not photos:
        raise ValueError("there are no photos to write")
    repeated = [name for name, count in Counter(p.id for p in photos).items() if count > 1]
    if repeated:
        raise ValueError(f"{len(repeated)} ids occur more than once, the first is {repeated[0]!r}")
    unknown = {p.label for p in photos} - set(classes) - {None}
    if unknown:
        raise ValueError(f"labels {sorted(unknown)[:5]} are not among the {len(classes)} classes")


def _split_rank(split):
    return (SPLITS_ORDER.index(split) if split in SPLITS_ORDER else len(SPLITS_ORDER), split)


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
            repr((photos, [version(photo) for photo in photos], classes, encode)).encode()
        ).hexdigest()
        for name, photos in plan.items()
    }


def remember(out, name, signature, written):
    """Notes that a shard is finished, for `recall`.

    Args:
      out: `Path` of the directory.
      name: the shard's file name.
      signature: text that changes with whatever decides the shard's bytes.
      written: NamedTuple of the shard's facts, its `sha256` among them.
    """
    facts = {"signature": signature, "written": written._asdict()}
    files.write_json(_facts_path(out, name), facts)


def recall(out, name, signature):
    """{name: fact} of a shard that an earlier, interrupted call finished; None if it is not whole.

    Args:
      out, name, signature: as in `remember`; another signature counts as not finished.
    """
    try:
        facts = json.loads(_facts_path(out, name).read_text())
    except FileNotFoundError:
        return None
    path, written = out / name, facts["written"]
    if facts["signature"] != signature or not path.exists():
        return None
    return written if file_sha256(path) == written["sha256"] else None


def remove_left_overs(out, names):
    """Removes what killed calls and `remember` left in `out`; the shards called `names` stay."""
    for path in out.iterdir():
        if LEFT_OVER.fullmatch(path.name) and path.name not in names:
            path.unlink()


def _facts_path(out, name):
    return out / f".{name}.json"


def _write_and_note(out, encode: Callable, classes, job):
    """Writes a shard and, beside it, the facts by which an interrupted call is continued."""
    name, photos, signature = job
    written = write_shard(out / name, photos, encode, classes)
    remember(out, name, signature, written)
    return written


def _write_all(out, plan, write, signature, engine):
    found = {name: recall(out, name, signature[name]) for name in plan}
    written = {name: facts and Written(**facts) for name, facts in found.items()}
    missing = [name for name, facts in written.items() if facts is None]
    total = sum(len(chunk) for chunk in plan.values())
    done = total - sum(len(plan[name]) for name in missing)
    jobs = [(name, plan[name], signature[name]) for name in missing]
    with tqdm(total=total, initial=done, unit="photo", desc="writing") as bar:
        for name, facts in zip(missing, engine(write, jobs) if jobs else (), strict=True):
            written[name] = facts
            bar.update(len(plan[name]))
    return written


def _processes(workers):
    """The engine that runs in this process or in worker processes of this machine."""

    def run(function, jobs):
        count = min(workers or os.cpu_count() or 1, len(jobs))
        if count <= 1:
            yield from map(function, jobs)
            return
        # Fresh processes: TensorFlow's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(count, mp_context=context) as pool:
            try:
                yield from pool.map(function, jobs)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    return run
