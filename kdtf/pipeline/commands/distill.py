"""The whole job: photos to a distilled, exported, measured student, and a report.

    kdtf distill                                  # drawn shelf photos, no download
    kdtf distill --data shards/ --teacher teacher.keras --run-dir runs/2026-w47

A baseline student learns from labels, a distilled one from labels and the teacher (Hinton et al.,
2015, arXiv:1503.02531): same initial weights, batches, steps and schedule. Both are exported to
TFLite, and the exported files are what is evaluated and benchmarked. Everything lands in the run
directory; a killed run continues when the same command is given again.

The teacher scores `--views` views of each training photo once, and both students are trained on
these views, float and int8; later runs with the same teacher and data find them scored. With
`--online-teacher` it scores a new view of every photo in every epoch. Training photos without a
label are the distilled student's, which learns them from the teacher; the baseline takes as many
steps on the others, in views of its own.

Cost: with no arguments 11 minutes on two cores. On 2,640 photos at 224 px four to six
minutes a student plus the teacher's forward passes. What it gave: docs/grocery.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from kdtf import cli, files
from kdtf.arguments import Argument
from kdtf.benchmark import native
from kdtf.pipeline.config import PRESET, DistillConfig

PROGRAM = "kdtf distill"


@dataclass(frozen=True)
class DistillArguments:
    """What a command line says besides the configuration."""

    run_dir: Annotated[str | None, Argument("DIR", files.check_folder)] = None
    """where everything goes (default: runs/<data>-<seed>)"""


def read(argv):
    """((run directory, `DistillConfig`), []) of a command line; (None, lines) where it is wrong."""
    parts, problems = cli.read(
        argv, PROGRAM, __doc__, DistillArguments, DistillConfig, preset=PRESET
    )
    if problems:
        return None, problems
    arguments, config = parts
    if config.benchmark_binary and config.adb is None:  # a phone's tool need not run here
        cli.checked(
            f"--benchmark-binary {config.benchmark_binary}",
            native.check_executable,
            config.benchmark_binary,
        )
    source = Path(config.data).resolve().name if config.data else "embedded"
    return (arguments.run_dir or f"runs/{source}-{config.seed}", config), []


def parse(argv=None):
    """(run directory, `DistillConfig`) of a command line."""
    parsed, problems = read(argv)
    cli.refuse(problems)
    return parsed


def main(argv=None):
    """Runs, or continues, the whole job."""
    run_dir, config = parse(argv)
    from kdtf.pipeline import distill, reporting

    with cli.report_errors():
        results, page = distill.distill(run_dir, config)
    print(reporting.summary(results, page))
