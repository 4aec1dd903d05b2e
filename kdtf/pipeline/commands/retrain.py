"""Every week: train on from the deployed student, compare with it, promote only what is no worse.

    kdtf retrain --registry registry/ --run-dir runs/2026-w48 \\
        -- --data shards/ --teacher teacher.keras
    kdtf retrain --registry registry/ --rollback       # to the version before
    kdtf retrain --registry registry/ --list           # checks every hash too

Everything after `--` goes to `kdtf distill`. Both its students start from the deployed one,
class by class by name (`--cold-start`: from --weights), so its verdict is about this week's
training only. The new 8-bit file and the deployed one then answer the same test photos. It is
promoted, copied into the registry with its hashes, if all release gates pass and neither top-1, nor
the tail, nor any slice, nor macro-F1 falls by more than the tolerance. Test photos that one of the
two files was trained on, because splits were drawn anew, are left out of the comparison: this needs
photo ids that mean the same photo every week.

Exit status: 0 promoted, or deployed already by an earlier call; 3 trained and measured, but not
promoted; 4 another retraining of this registry is under way; 1 an error, 2 a wrong command line. A
killed run continues when the same command is given again. `<run-dir>/promotion.json` holds the
checks.

Cost: that of `kdtf distill`, and one more file on the test photos.
"""

import sys
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval

from kdtf import cli, files, limits
from kdtf.arguments import Argument
from kdtf.pipeline.commands import distill
from kdtf.pipeline.config import Count
from kdtf.release.registry import BusyError, Registry

BUSY = 4
Fraction = Annotated[float, Interval(ge=0, lt=1)]


@dataclass(frozen=True)
class RetrainArguments:
    """What is before `--` on the command line."""

    registry: Annotated[str, Argument("DIR", files.check_folder)]
    """folder of the promoted versions"""
    run_dir: Annotated[str | None, Argument("DIR", files.check_folder)] = None
    """train, compare, promote; a new directory every week"""
    rollback: Annotated[int | None, Ge(0), Argument("VERSION", bare=0)] = None
    """deploy an earlier version again (without VERSION: the one before)"""
    list: bool = False
    """show and check all versions"""
    tolerance: Fraction = 0.01
    """largest drop of top-1, fraction"""
    slice_tolerance: Fraction = 0.03
    """largest drop in the tail, a slice and macro-F1, where it is shown"""
    min_slice_size: Count = 30
    """the tail and slices with fewer images are not judged"""
    strict: bool = False
    """refuse a larger drop in a slice even where chance explains it"""
    cold_start: bool = False
    """start from --weights, not the deployed student"""

    def __post_init__(self):
        limits.check(self)

    def conflicts(self):
        """(field, rule) of what one value forbids another."""
        asked = {
            "run_dir": self.run_dir is not None,
            "rollback": self.rollback is not None,
            "list": self.list,
        }
        given = [name for name, is_asked in asked.items() if is_asked]
        if not given:
            yield "run_dir", "one of --run-dir, --rollback and --list is required"
        for name in given[1:]:
            yield name, f"not allowed with --{given[0].replace('_', '-')}"


def parse(argv=None):
    """(`RetrainArguments`, `DistillConfig` or None where no run is asked for)."""
    own, rest = cli.split(argv)
    parts, problems = cli.read(own, "kdtf retrain", __doc__, RetrainArguments)
    arguments, config = parts[0] if parts else None, None
    if any(token.split("=")[0].replace("_", "-") == "--run-dir" for token in rest or []):
        problems.append("--run-dir: goes before `--`, it is this program's too")
    elif arguments and arguments.run_dir is None and rest:
        problems.append(f"{' '.join(rest)}: only --run-dir takes arguments for kdtf distill")
    elif rest or arguments and arguments.run_dir is not None:
        parsed, more = distill.read(rest or [])
        problems += more
        config = parsed and parsed[1]
    if arguments and arguments.cold_start and config and config.warm_start:
        problems.append(f"--cold-start and --warm-start {config.warm_start}: give one")
    cli.refuse(problems)
    return arguments, config


def main(argv=None):
    """Exit status of a command line."""
    arguments, config = parse(argv)
    store = Registry(arguments.registry)
    from kdtf.pipeline import retrain
    from kdtf.release import promotion

    with cli.report_errors():
        if arguments.list:
            text, whole = retrain.listed(store)
            print(text)
            return 0 if whole else 1
        if arguments.rollback is not None:
            entry = store.roll_back(arguments.rollback or None)
            print(f"Deployed: version {entry['version']}, {store.folder / entry['folder']}")
            return 0
        tolerance = promotion.Tolerance(
            arguments.tolerance,
            arguments.slice_tolerance,
            arguments.min_slice_size,
            strict=arguments.strict,
        )
        try:
            return retrain.retrain(
                store, arguments.run_dir, config, tolerance, arguments.cold_start
            )
        except BusyError as error:
            print(f"error: {error}", file=sys.stderr)
            return BUSY
