"""One job over several seeds: mean and interval of every figure, of gains and of what int8 costs.

    kdtf sweep --seeds 0 1 2 --run-dir runs/grocery -- --data shards/ --teacher t.keras

Everything after `--` goes to `kdtf distill`. Each seed has its own run directory
`<run-dir>/seed-<n>`; `summary.md` and `summary.json` beside them hold the table. The interval is
Student's t over seeds; differences are taken seed by seed, since both students of a seed share
their start and batches. A killed sweep continues when the same command is given again.
TensorBoard's tab of HParams has a row for each model of each seed (`tensorboard --logdir
<run-dir>`).

Cost: the number of seeds times that of `kdtf distill`; each seed has views of its own, which the
teacher scores.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from kdtf import cli, files, limits
from kdtf.arguments import Argument
from kdtf.pipeline.commands import distill
from kdtf.pipeline.config import Seed


@dataclass(frozen=True)
class SweepArguments:
    """What is before `--` on the command line."""

    run_dir: Annotated[str, Argument("DIR", files.check_folder)]
    """one sub-directory per seed goes here"""
    seeds: Annotated[tuple[Seed, ...], MinLen(2)] = (0, 1, 2)
    """different ones"""

    def __post_init__(self):
        limits.check(self)

    def conflicts(self):
        """(field, rule) of what one value forbids another."""
        if len(set(self.seeds)) < len(self.seeds):
            yield "seeds", "must be different ones: an interval needs runs that differ"


def parse(argv=None):
    """(`SweepArguments`, `DistillConfig` of any seed) of a command line."""
    own, rest = cli.split(argv)
    parts, problems = cli.read(own, "kdtf sweep", __doc__, SweepArguments)
    rest = rest or []
    for flag, instead in (
        ("--run-dir", "goes before `--`"),
        ("--seed", "is given by --seeds"),
        ("--logits", "is for one seed: each draws its own views, and finds its logits by itself"),
    ):
        if any(token.split("=")[0].replace("_", "-") == flag for token in rest):
            problems.append(f"{flag}: {instead}")
    parsed, more = distill.read(rest)
    cli.refuse(problems + more)
    return parts[0], parsed[1]


def main(argv=None):
    """Runs, or continues, the job with each seed, and sums up."""
    arguments, config = parse(argv)
    from kdtf.pipeline import sweep

    with cli.report_errors():
        print(sweep.run_seeds(Path(arguments.run_dir), config, arguments.seeds))
