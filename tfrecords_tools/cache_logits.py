"""A teacher's logits for training views, once, so that training needs no teacher.

    kdtf cache-logits --data shards/ --teacher teacher.keras \\
        --views 10 --top-k 64

Every photo of a split is drawn in `--views` views and scored; `kdtf distill` and
`kdtf.data.training_batches(cached_logits=...)` replay exactly these. Several teachers make an
ensemble, whose members' logits are stored apart. The files stand one to one beside the photos'
shards (`kdtf.teachers.cached_logits` has the format). Nothing is left half-written: a killed call
is continued by the same command. At the end a sample is scored again and compared with what was
stored.

Cost: one forward pass of each teacher for every view. `--runner` shares the shards out among the
workers of an Apache Beam runner; photos, teachers and `--out` must lie where all of them see them.
"""

import os
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval, MinLen

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kdtf import cli, data, files, limits, teachers
from kdtf.arguments import Argument
from kdtf.data import beam_runner


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


def check_teacher(path):
    """Refuses what is not a `.keras` file."""
    files.check_file(path, ".keras")


@dataclass(frozen=True)
class CacheLogitsArguments:
    """The command line."""

    data: Annotated[str, Argument("DIR", data.DatasetInfo.load)]
    """directory with dataset.json and shards"""
    teacher: Annotated[tuple[str, ...], MinLen(1), Argument("FILE", check_teacher)]
    """.keras file; several make an ensemble"""
    views: Annotated[int, Ge(1)] = 10
    """views of each photo"""
    top_k: Annotated[int, Ge(1)] = 64
    """logits to keep of each view; all, where that takes no more bytes"""
    image_size: Annotated[int | None, Ge(1)] = None
    """side of the views, pixels (default: the largest input)"""
    split: Annotated[str, Argument("NAME")] = "train"
    """the split to score"""
    out: Annotated[str | None, Argument("DIR", files.check_folder)] = None
    """where to write (default: beside the shards, named after the settings)"""
    batch_size: Annotated[int, Ge(1)] = 32
    """images a forward pass"""
    seed: Annotated[int, Interval(ge=0, le=2**32 - 1)] = 0
    """of the views"""
    mixup: Annotated[float, Ge(0)] = 0.0
    """mix each photo with another, the share drawn from this Beta parameter, for function
    matching; 0 = no mixing"""
    runner: beam_runner.Runner = None
    """Apache Beam runner, then its pipeline options, at the end of the command: DirectRunner,
    FlinkRunner, SparkRunner, DataflowRunner (pip install 'kdtf[beam]')"""

    def __post_init__(self):
        limits.check(self)


def main(argv=None):
    """Writes, continues or opens cached logits, and sums them up."""
    (arguments,) = cli.parse(argv, "kdtf cache-logits", __doc__, CacheLogitsArguments)
    info = data.DatasetInfo.load(arguments.data)
    cli.checked(f"--split {arguments.split}", info.split, arguments.split)
    with cli.report_errors():
        cached, scored = teachers.cache_logits(
            info,
            teachers.load_members(arguments.teacher, info.classes),
            views=arguments.views,
            top_k=arguments.top_k,
            image_size=arguments.image_size,
            split=arguments.split,
            out=arguments.out,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            augmentation=data.Augmentation(mixup=arguments.mixup),
            paths=arguments.teacher,
            runner=arguments.runner,
        )
    print(summary(cached, scored))


if __name__ == "__main__":
    main()
