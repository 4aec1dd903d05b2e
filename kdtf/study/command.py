"""When does distillation help? Pairs of students under many conditions, and the gain of each.

    kdtf study --data shards/ --teacher teacher.keras weak.keras \\
        --weights mobilenet_v3_small_imagenet.npz --frozen-blocks 8 --run-dir runs/when

Along each axis one thing changes: the fraction of labelled photos, the same with all other photos
added through the teacher alone, the fraction of wrong labels, the length of training, the student's
width, the teacher. A baseline student learns from the labels, a distilled one from labels and
teacher (Hinton et al., 2015, arXiv:1503.02531): same start, photos, views, order and steps. All
settings are fixed beforehand; the test photos are looked at once, to measure.

Each training is a file in `<run-dir>/jobs`; given the same command again, a killed study continues,
and more axes, seeds or teachers may be added. `study.json`, `table.md`, `gains.png` (top-1) and
`parts.png` (head, mid and tail classes) are written whenever a point is complete.

Cost: the teacher looks at `views` views of each photo once. A training costs what the printed plan
says; --frozen-blocks 8 makes it several times cheaper. What it gave: docs/when_it_helps.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MinLen

from kdtf import cli, files, limits
from kdtf.arguments import Argument
from kdtf.data import DatasetInfo
from kdtf.pipeline.config import Data, Seed
from kdtf.study import conditions
from kdtf.study.config import StudyConfig

Axis = Literal[tuple(conditions.AXES)]


def check_teacher(path):
    """Refuses what is not a `.keras` file."""
    files.check_file(path, ".keras")


@dataclass(frozen=True)
class StudyArguments:
    """What a command line says besides the configuration."""

    data: Data
    """directory with dataset.json and shards"""
    teacher: Annotated[tuple[str, ...], MinLen(1), Argument("FILE", check_teacher)]
    """.keras files; the first is the base's"""
    run_dir: Annotated[str, Argument("DIR", files.check_folder)]
    """where everything goes"""
    axes: Annotated[tuple[Axis, ...] | None, Argument("AXIS")] = None
    """label_fraction, unlabelled, label_noise, length, width, teacher (default: all that fit)"""
    seeds: Annotated[tuple[Seed, ...], MinLen(2)] = (0, 1, 2)
    """different ones"""
    allow_leaks: bool = False
    """run although photos of the test split are in train too: measures will be too good"""

    def __post_init__(self):
        limits.check(self)

    def conflicts(self):
        """(field, rule) of what one value forbids another."""
        if len(self.teacher_paths()) < len(self.teacher):
            yield "teacher", "must have different file names"
        if len(set(self.seeds)) < len(self.seeds):
            yield "seeds", "must be different ones: an interval needs trainings that differ"

    def teacher_paths(self):
        """{name: .keras file}."""
        return {Path(path).stem: path for path in self.teacher}


def parse(argv=None):
    """(`StudyArguments`, `StudyConfig`, axes) of a command line."""
    arguments, config = cli.parse(argv, "kdtf study", __doc__, StudyArguments, StudyConfig)
    if arguments.axes is None:
        unfit = {"teacher"} if len(arguments.teacher) < 2 else set()
        unfit |= {"width"} if config.weights else set()
        return arguments, config, [axis for axis in conditions.AXES if axis not in unfit]
    if "width" in arguments.axes and config.weights:
        cli.refuse(
            [
                f"--axes {' '.join(arguments.axes)}: 'width' needs students that start at random, "
                f"{config.weights} fits one width: leave out the axis or --weights"
            ]
        )
    return arguments, config, arguments.axes


def main(argv=None):
    """Runs, or continues, a study."""
    arguments, config, axes = parse(argv)
    from kdtf.study import effects
    from kdtf.study.study import Study

    with cli.report_errors():
        info = DatasetInfo.load(arguments.data)
        info.check_leaks(arguments.allow_leaks)
        study = Study(
            arguments.run_dir, info, config, arguments.teacher_paths(), axes, arguments.seeds
        )
        print(study.plan(), flush=True)
        rows = study.run()
    print(effects.table(rows))
