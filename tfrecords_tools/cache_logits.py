"""A teacher's logits for training views, once, so that training needs no teacher.

    python -m tfrecords_tools.cache_logits --data shards/ --teacher teacher.keras \\
        --views 10 --top-k 64

Every photo of a split is drawn in `--views` views and scored; `recipes/distill.py` and
`kdtf.data.training_batches(cached_logits=...)` replay exactly these. Several teachers make an
ensemble, whose members' logits are stored apart. The files stand one to one beside the photos'
shards (`kdtf.teachers.cached_logits` has the format). Nothing is left half-written: a killed call
is continued by the same command. At the end a sample is scored again and compared with what was
stored.

Cost: one forward pass of each teacher for every view. `--runner` shares the shards out among the
workers of an Apache Beam runner; photos, teachers and `--out` must lie where all of them see them.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kdtf import data, teachers
from kdtf.data import augment, beam_runner


def summary(cached, scored):
    """Text for people: what was scored, what is stored, what it weighs."""
    settings = cached.settings
    photos = sum(shard.examples for shard in cached.shards)
    size = sum(shard.bytes for shard in cached.shards)
    classes = len(settings.classes)
    what = "all" if settings.kept == classes else f"the largest {settings.kept} of"
    return "\n".join(
        [
            f"{cached.directory}: {settings.views} views of {photos:,} photos ({settings.split}) "
            f"by {len(settings.teachers)} teacher(s), {what} {classes} logits each",
            f"  {size / 1e6:,.1f} MB, {size / photos / settings.views:,.0f} bytes an image; "
            f"{scored:,} images scored now",
        ]
    )


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m tfrecords_tools.cache_logits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", required=True, help="directory with dataset.json and shards")
    add("--teacher", required=True, nargs="+", help=".keras file; several make an ensemble")
    add("--views", type=int, default=10, help="views of each photo (default %(default)s)")
    add(
        "--top-k",
        type=int,
        default=64,
        help="logits to keep of each view; all, where that takes no more bytes (default 64)",
    )
    add("--image-size", type=int, help="side of the views, pixels (default: the largest input)")
    add("--split", default="train", help="the split to score (default %(default)s)")
    add("--out", help="where to write (default: beside the shards, named after the settings)")
    add("--batch-size", type=int, default=32, help="images a forward pass (default %(default)s)")
    add("--seed", type=int, default=0, help="of the views (default %(default)s)")
    add(
        "--mixup",
        type=float,
        default=0.0,
        help="mix each photo with another, the share drawn from this Beta parameter, for function "
        "matching (default %(default)s: no mixing)",
    )
    add("--runner", **beam_runner.ARGUMENT)
    args = parser.parse_args(argv)
    try:
        info = data.DatasetInfo.load(args.data)
        cached, scored = teachers.cache_logits(
            info,
            teachers.load_members(args.teacher, info.classes),
            views=args.views,
            top_k=args.top_k,
            image_size=args.image_size,
            split=args.split,
            out=args.out,
            batch_size=args.batch_size,
            seed=args.seed,
            augmentation=augment.Augmentation(mixup=args.mixup),
            paths=args.teacher,
            runner=args.runner,
        )
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(summary(cached, scored))


if __name__ == "__main__":
    main()
