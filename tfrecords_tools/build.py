"""Photos in, checked TFRecord shards out.

    python -m tfrecords_tools.build --source photos/ --out shards/ \\
        --split train=0.8,val=0.1,test=0.1
    python -m tfrecords_tools.build --source photos.csv --out shards/
    python -m tfrecords_tools.build --source grocery/ --out shards/ \\
        --train train.txt --val val.txt --test test.txt --class-names classes.csv
    python -m tfrecords_tools.build --source tfds:beans --out shards/
    python -m tfrecords_tools.build --source photos.csv --out shards/ \\
        --runner DirectRunner --direct_num_workers 8 --direct_running_mode multi_processing

A source is a folder with one sub-folder per class (or per split, then class), a CSV with the
columns `path` and `label` and any metadata columns (empty = missing), the same split over lists,
or a TensorFlow Datasets name. Nothing is left half-written: an interrupted build is continued by
the same command. With `--runner` the shards are written on Apache Beam, byte for byte the same;
source and `--out` must then be on a file system that all workers see under the same path.
"""

import argparse
import shutil
import sys
from pathlib import Path

from kdtf.data import beam_runner
from tfrecords_tools import sources
from tfrecords_tools.shards import write_dataset


def build(
    source,
    out,
    *,
    lists=None,
    class_names=None,
    root=None,
    split_fractions=None,
    max_side=None,
    quality=95,
    examples_per_shard=512,
    workers=None,
    seed=0,
    data_dir=None,
    runner=None,
):
    """Builds a data set; the arguments are those of the command line.

    Args:
      source: a folder, a CSV file or "tfds:NAME".
      out: directory for the shards.
      lists: {split: list file}, relative to the folder `source`, or None.
      class_names: CSV (name, number) for numeric labels, relative to `source` too, or None.
      root: folder that a CSV's relative paths start from; the CSV's own if None.
      split_fractions: {split: fraction} for photos whose split the source does not say, or None.
      max_side: longest side of a stored photo in pixels, or None.
      quality: JPEG quality of what must be re-encoded.
      examples_per_shard: photos per shard.
      workers: processes; None = one per core.
      seed: of split and order.
      data_dir: where TensorFlow Datasets keeps its files, or None.
      runner: name of a Beam runner and its pipeline options, list of str; None = this machine.

    Returns:
      (`kdtf.data.DatasetInfo`, list of `tfrecords_tools.duplicates.Duplicate`).

    Raises:
      ValueError: the source cannot be read, or has photos without a split and none is asked for;
        `runner` does not begin with a name, or `workers` is given too.
      ModuleNotFoundError: a runner without Apache Beam.
    """
    engine = beam_runner.Engine(runner, out) if runner is not None else None
    spool = Path(out).absolute() / ".photos"  # absolute, as are all paths: workers start elsewhere
    root = Path(root).absolute() if root else None
    if str(source).startswith("tfds:"):
        photos, classes = sources.from_tfds(str(source).removeprefix("tfds:"), spool, data_dir)
    elif lists:
        folder = Path(source).absolute()
        lists = {split: folder / name for split, name in lists.items()}
        class_names = folder / class_names if class_names else None
        photos, classes = sources.from_lists(lists, root or folder, class_names)
    elif Path(source).is_dir():
        photos, classes = sources.from_folders(Path(source).absolute())
    elif Path(source).is_file():
        photos, classes = sources.from_lists({"": Path(source).absolute()}, root, class_names)
    else:
        raise ValueError(f"{source} is neither a folder, a CSV file nor tfds:NAME")
    if split_fractions is None and any(not photo.split for photo in photos):
        raise ValueError(
            f"{source} does not say which split a photo belongs to: "
            "add --split train=0.8,val=0.1,test=0.1"
        )
    photos = sources.assign_splits(photos, split_fractions, seed) if split_fractions else photos
    result = write_dataset(
        out,
        photos,
        sources.JpegEncoder(max_side, quality),
        classes=classes,
        examples_per_shard=examples_per_shard,
        workers=workers,
        seed=seed,
        engine=engine,
    )
    shutil.rmtree(spool, ignore_errors=True)
    return result


def summary(info, duplicates, shown=10):
    """Text for people: counts per split and class, imbalance, missing metadata, duplicates."""
    lines = [f"{info.directory}: {len(info.classes)} classes"]
    for name, split in info.splits.items():
        size = sum(shard.bytes for shard in split.shards)
        present = [count for count in split.class_counts if count]
        line = f"  {name:<6} {split.examples:>9,} photos, {size / 1e6:,.1f} MB, "
        line += f"{len(split.shards)} shards, {len(present)} classes present"
        if present:
            line += f", {min(present)} to {max(present)} photos each"
            line += f" (imbalance {max(present) / min(present):.1f})"
        lines.append(line + (f", {split.unlabelled} unlabelled" if split.unlabelled else ""))
        for column, missing in split.missing.items():
            fraction = missing / split.examples
            values = len(info.metadata[column])
            lines.append(f"         {column}: {values} values, {fraction:.1%} missing")
    train = info.splits.get("train")
    if train:
        for order, title in ((-1, "most"), (1, "fewest")):
            ranked = sorted(range(len(info.classes)), key=lambda c: order * train.class_counts[c])
            names = [f"{info.classes[c]} {train.class_counts[c]}" for c in ranked[:5]]
            lines.append(f"  {title} training photos: {', '.join(names)}")
    leaks = sum(duplicate.across_splits for duplicate in duplicates)
    lines.append(f"  duplicates: {len(duplicates)} pairs look the same, {leaks} across splits")
    for duplicate in duplicates[:shown]:
        kind = "same bytes" if duplicate.exact else "look the same"
        where = "LEAK " if duplicate.across_splits else ""
        lines.append(f"    {where}{kind}: {duplicate.first}  {duplicate.second}")
    if len(duplicates) > shown:
        lines.append(f"    ... and {len(duplicates) - shown} more")
    return "\n".join(lines)


def parse_fractions(text):
    """{"train": 0.8, ...} of "train=0.8,..."; ValueError if it is not of that form."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(fraction) for name, fraction in pairs}
    except ValueError:
        raise ValueError(f"--split wants train=0.8,val=0.1,test=0.1, got {text!r}") from None


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m tfrecords_tools.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--source", required=True, help="folder, CSV file or tfds:NAME")
    add("--out", required=True, help="directory for shards and dataset.json")
    for split in ("train", "val", "test"):
        add(f"--{split}", metavar="LIST", help=f"list of the {split} photos, in the source folder")
    add("--class-names", metavar="CSV", help="names (name, number) for numeric labels")
    add("--root", help="folder that a CSV's relative paths start from (default: the CSV's own)")
    add("--split", help="shares for photos without a split: train=0.8,val=0.1,test=0.1")
    add("--max-side", type=int, help="shrink photos whose longer side exceeds this many pixels")
    add("--quality", type=int, default=95, help="JPEG quality of what is re-encoded (default 95)")
    add("--examples-per-shard", type=int, default=512, help="photos per shard (default 512)")
    add("--workers", type=int, help="processes of this machine (default: one per core)")
    add("--seed", type=int, default=0, help="of split and order (default 0)")
    add("--data-dir", help="where TensorFlow Datasets keeps its files")
    add("--runner", **beam_runner.ARGUMENT)
    args = parser.parse_args(argv)
    lists = {s: getattr(args, s) for s in ("train", "val", "test") if getattr(args, s)}
    try:
        info, duplicates = build(
            args.source,
            args.out,
            lists=lists,
            class_names=args.class_names,
            root=args.root,
            split_fractions=parse_fractions(args.split) if args.split else None,
            max_side=args.max_side,
            quality=args.quality,
            examples_per_shard=args.examples_per_shard,
            workers=args.workers,
            seed=args.seed,
            data_dir=args.data_dir,
            runner=args.runner,
        )
    except (ValueError, FileExistsError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(summary(info, duplicates))


if __name__ == "__main__":
    main()
