"""Photos in, checked TFRecord shards out.

    kdtf build --source photos/ --out shards/ \\
        --split train=0.8,val=0.1,test=0.1
    kdtf build --source photos.csv --out shards/
    kdtf build --source grocery/ --out shards/ \\
        --train train.txt --val val.txt --test test.txt --class-names classes.csv
    kdtf build --source tfds:beans --out shards/
    kdtf build --source photos.csv --out shards/ \\
        --runner DirectRunner --direct_num_workers 8 --direct_running_mode multi_processing

A source is a folder with one sub-folder per class (or per split, then class), a CSV with the
columns `path` and `label` and any metadata columns (empty = missing), the same split over lists,
or a TensorFlow Datasets name. Every photo is opened before work begins: what is no image is listed
and left out, damaged photos are refused, all of them by name (`--skip-broken` leaves them out).
Nothing is left half-written: an interrupted build is continued by the same command. With
`--runner` the shards are written on Apache Beam, byte for byte the same; source and `--out` must
then be on a file system that all workers see under the same path.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Interval

from kdtf import cli, files, limits
from kdtf.arguments import Argument
from kdtf.data import beam_runner, resumable
from tfrecords_tools.splits import parse_fractions


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
    skip_broken=False,
    report=lambda line: None,
):
    """Builds a data set; the arguments are those of the command line.

    Args:
      source: a folder, a CSV file or "tfds:NAME".
      out: directory for the shards.
      lists: {split: list file}, relative to the folder `source`, or None.
      class_names: CSV (name, number) for numeric labels, relative to `source` too, or None.
      root: folder that a CSV's relative paths start from; the CSV's own if None.
      split_fractions: {split: fraction} for photos whose split the source does not say, or for all
        where it has training photos only; or None.
      max_side: longest side of a stored photo in pixels, or None.
      quality: JPEG quality of what must be re-encoded.
      examples_per_shard: photos per shard.
      workers: processes; None = one per core.
      seed: of split and order.
      data_dir: where TensorFlow Datasets keeps its files, or None.
      runner: name of a Beam runner and its pipeline options, list of str; None = this machine.
      skip_broken: leave damaged photos out instead of refusing them.
      report: called with a line of text for each kind of thing that was left out or looks odd.

    Returns:
      (`kdtf.data.DatasetInfo`, list of `kdtf.data.Duplicate`).

    Raises:
      ValueError: the source cannot be read as meant (see `folders` and `lists`); photos without a
        split and no fractions, or fractions where every photo has one; damaged photos, all named;
        `runner` does not begin with a name, or `workers` is given too; `out` holds anything but
        what an interrupted call began.
      FileExistsError: `out` holds a finished data set.
      ModuleNotFoundError: a runner without Apache Beam.
    """
    # Here: a command line's help needs none of it.
    from tfrecords_tools import engines, inspection, shards, splits
    from tfrecords_tools.encoding import JpegEncoder

    shards.check_out(out)
    run = beam_runner.Engine(runner, out) if runner is not None else None
    engine = engines.chosen(run, workers)
    if run is not None:
        resumable.begin(out, shards.MADE, [], shards.Written)
    listing = _listing(source, out, lists, class_names, root, data_dir)
    photos = splits.divide(listing.photos, split_fractions, seed)
    shards.check_photos(photos, listing.classes)
    encode = JpegEncoder(max_side, quality)
    is_folder = not lists and Path(source).is_dir()
    found = inspection.inspect(listing.photos, encode, engine, skip_strays=is_folder)
    if found.broken and not skip_broken:
        raise ValueError(inspection.refusal(found.broken, len(listing.photos)))
    for line in inspection.report_lines(listing, found):
        report(line)
    classes = listing.classes
    if is_folder:  # which say what classes there are by their photos alone
        present = {photo.label for photo in found.photos}
        for name in sorted(set(classes) - present):
            report(f"left out, class without photos: {name!r}")
        classes = tuple(name for name in classes if name in present)
    return shards.write_dataset(
        out,
        splits.divide(found.photos, split_fractions, seed),
        encode,
        classes=classes,
        examples_per_shard=examples_per_shard,
        workers=workers,
        seed=seed,
        engine=run,
    )


def _listing(source, out, lists, class_names, root, data_dir):
    """The `listing.Listing` of a source; the arguments are those of `build`."""
    from tfrecords_tools import folders, shards, sources
    from tfrecords_tools.listing import Listing
    from tfrecords_tools.lists import from_lists

    root = Path(root).absolute() if root else None  # as all paths: workers start elsewhere
    if str(source).startswith("tfds:"):
        spool = Path(out).absolute() / resumable.SPOOL
        resumable.begin(out, shards.MADE, [spool.name], shards.Written)
        name = str(source).removeprefix("tfds:")
        return Listing(*sources.from_tfds(name, spool, data_dir))
    path = Path(source).absolute()
    if lists:
        lists = {split: path / name for split, name in lists.items()}
        return from_lists(lists, root or path, path / class_names if class_names else None)
    if path.is_dir():
        return folders.from_folders(path, leave_out=[out])
    if path.is_file():
        return from_lists({"": path}, root, class_names)
    raise ValueError(f"{source} is neither a folder, a CSV file nor tfds:NAME")


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


def check_source(source):
    """Refuses what is neither a folder, a file nor tfds:NAME."""
    if not source.startswith("tfds:") and not Path(source).exists():
        raise FileNotFoundError("is neither a folder, a CSV file nor tfds:NAME")


def check_directory(path):
    """Refuses what is not a directory."""
    if not Path(path).is_dir():
        raise NotADirectoryError("no such directory")


@dataclass(frozen=True)
class BuildArguments:
    """The command line."""

    source: Annotated[str, Argument("SOURCE", check_source)]
    """folder, CSV file or tfds:NAME"""
    out: Annotated[str, Argument("DIR", files.check_folder)]
    """directory for shards and dataset.json"""
    train: Annotated[str | None, Argument("LIST")] = None
    """list of the train photos, in the source folder"""
    val: Annotated[str | None, Argument("LIST")] = None
    """list of the val photos, in the source folder"""
    test: Annotated[str | None, Argument("LIST")] = None
    """list of the test photos, in the source folder"""
    class_names: Annotated[str | None, Argument("CSV")] = None
    """names (name, number) for numeric labels"""
    root: Annotated[str | None, Argument("DIR", check_directory)] = None
    """folder that a CSV's relative paths start from (default: the CSV's own)"""
    split: Annotated[str | None, Argument("FRACTIONS", parse_fractions)] = None
    """fractions for photos without a split, or of a source with train photos only:
    train=0.8,val=0.1,test=0.1"""
    max_side: Annotated[int | None, Ge(1)] = None
    """shrink photos whose longer side exceeds this many pixels"""
    quality: Annotated[int, Interval(ge=1, le=100)] = 95
    """JPEG quality of what is re-encoded"""
    examples_per_shard: Annotated[int, Ge(1)] = 512
    """photos per shard"""
    workers: Annotated[int | None, Ge(1)] = None
    """processes of this machine (default: one per core)"""
    seed: Annotated[int, Ge(0)] = 0
    """of split and order"""
    skip_broken: bool = False
    """leave damaged photos out, all of which are listed first, instead of refusing them"""
    data_dir: Annotated[str | None, Argument("DIR", files.check_folder)] = None
    """where TensorFlow Datasets keeps its files"""
    runner: beam_runner.Runner = None
    """Apache Beam runner, then its pipeline options, at the end of the command: DirectRunner,
    FlinkRunner, SparkRunner, DataflowRunner (pip install 'kdtf[beam]')"""

    def __post_init__(self):
        limits.check(self)

    def conflicts(self):
        """(field, rule) of what one value forbids another."""
        if self.runner is not None and self.workers is not None:
            yield "workers", "is for this machine's processes: --runner has its own"
        if self.lists() and not Path(self.source).is_dir():
            yield "source", "must be a folder, from which the lists' paths start"
        beside = self.lists() | ({"class_names": self.class_names} if self.class_names else {})
        for name, path in beside.items():
            if self.lists() and not (Path(self.source) / path).is_file():
                yield name, f"no such file in {self.source}"

    def lists(self):
        """{split: list file} of those given."""
        given = {"train": self.train, "val": self.val, "test": self.test}
        return {name: path for name, path in given.items() if path}


def main(argv=None):
    """Builds a data set and sums it up."""
    (arguments,) = cli.parse(argv, "kdtf build", __doc__, BuildArguments)
    with cli.report_errors():
        info, duplicates = build(
            arguments.source,
            arguments.out,
            lists=arguments.lists(),
            class_names=arguments.class_names,
            root=arguments.root,
            split_fractions=arguments.split and parse_fractions(arguments.split),
            max_side=arguments.max_side,
            quality=arguments.quality,
            examples_per_shard=arguments.examples_per_shard,
            workers=arguments.workers,
            seed=arguments.seed,
            data_dir=arguments.data_dir,
            runner=arguments.runner,
            skip_broken=arguments.skip_broken,
            report=print,
        )
    print(summary(info, duplicates))


if __name__ == "__main__":
    main()
