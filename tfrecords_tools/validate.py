"""Checks a data set against its `dataset.json`, byte by byte and photo by photo.

    kdtf validate shards/

Prints every problem and exits with 1, or one line and exits with 0. Photos of the test split that
are among the training photos too, to the byte or by their looks, are a problem unless
--allow-leaks is given.
"""

import concurrent.futures
import hashlib
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from annotated_types import Ge
from google.protobuf.message import DecodeError
from PIL import UnidentifiedImageError
from tqdm import tqdm

from kdtf import cli, data, files, limits
from kdtf.arguments import Argument
from kdtf.data import names
from tfrecords_tools.build import check_directory
from tfrecords_tools.duplicates import Fingerprint, find_duplicates, thumbnail
from tfrecords_tools.encoding import open_photo


class ShardReport(NamedTuple):
    """What reading one shard found: problems, ids, fingerprints, labels, values per column."""

    problems: list[str]
    ids: list[str]
    fingerprints: list[Fingerprint]
    labels: Counter
    known: Counter
    examples: int


def validate(directory, workers=None, allow_leaks=False):
    """Finds everything that is wrong with a data set.

    Every file is compared with its size and sha256, every record parsed, every photo decoded in
    full, every label and metadata value looked up, every count recomputed, duplicates looked for.

    Args:
      directory: where `dataset.json` lies.
      workers: threads; None = one per core.
      allow_leaks: whether photos may be in train and in test.

    Returns:
      list of str, one problem each; empty if the data set is sound.
    """
    directory = Path(directory)
    try:
        info = data.DatasetInfo.load(directory)
    except (FileNotFoundError, ValueError) as error:
        return [str(error)]
    problems = _manifest_problems(info)
    jobs = [(name, shard) for name, split in info.splits.items() for shard in split.shards]
    total = sum(shard.examples for _, shard in jobs)
    reports = []
    # Hashing, reading and decoding all happen outside Python's lock, so threads use every core.
    with (
        concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
        tqdm(total=total, unit="photo", desc="checking", mininterval=0.5) as bar,
    ):
        futures = [pool.submit(check_shard, info, name, shard, bar.update) for name, shard in jobs]
        try:
            reports = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for report in reports:
        problems += report.problems
    problems += _repeated_ids(jobs, reports)
    for split in info.splits:
        own = [report for (name, _), report in zip(jobs, reports, strict=True) if name == split]
        problems += _count_problems(info, split, own)
    if not allow_leaks:
        problems += _leaks(info, [each for report in reports for each in report.fingerprints])
    return problems


def _leaks(info, fingerprints):
    """Photos of train and test that are the same, as found now or as `dataset.json` says."""
    own = [each for each in fingerprints if each.split in ("train", "test")]
    leaks = dict.fromkeys([*find_duplicates(own), *info.leaks_between("train", "test")])
    return [f"LEAK: {leak}" for leak in leaks if leak.across_splits]


def check_shard(info, split, shard, progress=lambda photos: None):
    """`ShardReport` of one shard of a split; `progress` is called with 1 after each photo."""
    import tensorflow as tf  # here: a command line's help needs none of it

    report = ShardReport([], [], [], Counter(), Counter(), 0)
    path = info.directory / shard.file
    if not path.is_file():
        return report._replace(problems=[f"{shard.file}: the file is missing"])
    problems = report.problems
    size = path.stat().st_size
    if size != shard.bytes:
        problems.append(f"{shard.file}: {size} bytes, {data.MANIFEST} says {shard.bytes}")
    digest = files.file_sha256(path)
    if digest != shard.sha256:
        problems.append(f"{shard.file}: sha256 {digest}, {data.MANIFEST} says {shard.sha256}")
    examples = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            _check_record(info, split, f"{shard.file}, record {examples}", record, report)
            examples += 1
            progress(1)
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
        problems.append(f"{shard.file}: unreadable after record {examples}: {error.message}")
    if examples != shard.examples:
        problems.append(f"{shard.file}: {examples} records, {data.MANIFEST} says {shard.examples}")
    return report._replace(examples=examples)


def _check_record(info, split, where, record, report):
    try:
        example = data.deserialize(record)
    except (DecodeError, ValueError) as error:
        report.problems.append(f"{where}: not an example: {error}")
        return
    where = f"{where} ({example.id})"
    report.ids.append(example.id)
    if example.label is not None:
        report.labels[example.label] += 1
        if not 0 <= example.label < len(info.classes):
            report.problems.append(
                f"{where}: label {example.label} is outside 0..{len(info.classes) - 1}"
            )
    for column, value in example.metadata.items():
        report.known[column] += 1
        if column not in info.metadata:
            report.problems.append(f"{where}: unknown metadata column {column!r}")
        elif value not in info.metadata[column]:
            report.problems.append(f"{where}: {column} {value!r} is not in its vocabulary")
    try:
        fingerprint = _fingerprint(split, example)
    except UnidentifiedImageError:  # its text is an address in memory
        report.problems.append(f"{where}: the photo cannot be decoded: of no known format")
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        report.problems.append(f"{where}: the photo {error}")
    else:
        report.fingerprints.append(fingerprint)


def _fingerprint(split, example):
    """`Fingerprint` of a photo, decoded as training does; ValueError where that is impossible."""
    import tensorflow as tf

    from kdtf.data import augment

    with open_photo(example.encoded) as image:  # reads its header alone
        if image.format != "JPEG" or image.mode not in ("RGB", "L"):
            raise ValueError(f"is {image.format} {image.mode}, expected JPEG, RGB or L")
    try:
        pixels = augment.decode(tf.constant(example.encoded)).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"cannot be decoded: {error.message}") from error
    content = hashlib.sha256(example.encoded).hexdigest()
    return Fingerprint(split, example.id, content, thumbnail(pixels))


def _manifest_problems(info):
    """What `dataset.json` says against itself and against the names of the files beside it."""
    problems = [
        f"{data.MANIFEST}: {problem}"
        for problem in (
            _refusal(names.check_classes, info.classes),
            _refusal(names.check_columns, info.metadata),
        )
        if problem
    ]
    stated = files.read_json(info.directory / data.MANIFEST)["splits"]
    for name, words in info.metadata.items():
        repeated = [word for word, count in Counter(words).items() if count > 1]
        if repeated:
            problems.append(f"{data.MANIFEST}: {name} names {repeated[0]!r} more than once")
    for name, split in info.splits.items():
        if len(split.class_counts) != len(info.classes):
            problems.append(
                f"split {name}: class_counts has {len(split.class_counts)} entries for "
                f"{len(info.classes)} classes"
            )
        if stated[name].get("examples") != split.examples:
            problems.append(
                f"split {name}: {stated[name].get('examples')} examples stated, its shards' sum is "
                f"{split.examples}"
            )
        if set(split.missing) != set(info.metadata):
            problems.append(
                f"split {name}: missing is counted for {sorted(split.missing)}, the columns are "
                f"{sorted(info.metadata)}"
            )
    named = Counter(shard.file for split in info.splits.values() for shard in split.shards)
    problems += [f"{file}: named {count} times" for file, count in named.items() if count > 1]
    problems += [
        f"{path.name}: a stray file, {data.MANIFEST} does not name it"
        for path in sorted(info.directory.iterdir())
        if ".tfrecord" in path.name and path.name not in named
    ]
    return problems


def _refusal(check, value):
    try:
        check(value)
    except ValueError as error:
        return str(error)
    return None


def _repeated_ids(jobs, reports):
    first, problems = {}, []
    for (_, shard), report in zip(jobs, reports, strict=True):
        for name in report.ids:
            if name in first:
                problems.append(f"{shard.file}: id {name!r} occurs before, in {first[name]}")
            first.setdefault(name, shard.file)
    return problems


def _count_problems(info, split, reports):
    labels = sum((report.labels for report in reports), Counter())
    known = sum((report.known for report in reports), Counter())
    examples = sum(report.examples for report in reports)
    problems = [
        f"split {split}: {labels[label]} photos of class {name}, {data.MANIFEST} says {stated}"
        for label, (name, stated) in enumerate(
            zip(info.classes, info.splits[split].class_counts, strict=False)
        )
        if labels[label] != stated
    ]
    for column, stated in info.splits[split].missing.items():
        if examples - known[column] != stated:
            problems.append(
                f"split {split}: {column} is missing from {examples - known[column]} photos, "
                f"{data.MANIFEST} says {stated}"
            )
    return problems


@dataclass(frozen=True)
class ValidateArguments:
    """The command line."""

    directory: Annotated[str, Argument("DIR", check_directory, positional=True)]
    """where dataset.json lies"""
    workers: Annotated[int | None, Ge(1)] = None
    """threads (default: one per core)"""
    allow_leaks: bool = False
    """accept photos that are in train and in test"""

    def __post_init__(self):
        limits.check(self)


def main(argv=None):
    """Prints what is wrong; ends the program with status 1 where something is."""
    (arguments,) = cli.parse(argv, "kdtf validate", __doc__, ValidateArguments)
    problems = validate(arguments.directory, arguments.workers, arguments.allow_leaks)
    if problems:
        print("\n".join(problems))
        sys.exit(f"{arguments.directory}: {len(problems)} problems")
    info = data.DatasetInfo.load(arguments.directory)
    sizes = ", ".join(f"{name} {split.examples:,}" for name, split in info.splits.items())
    print(f"OK: {arguments.directory}: {len(info.classes)} classes, photos: {sizes}")


if __name__ == "__main__":
    main()
