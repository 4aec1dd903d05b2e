"""One job over several seeds: mean and interval of every figure, of gains and of what 8 bits cost.

    python recipes/sweep.py --seeds 0 1 2 --run-dir runs/grocery -- --data shards/ --teacher t.keras

Everything after `--` goes to recipes/distill.py. Each seed has its own run directory
`<run-dir>/seed-<n>`; `summary.md` and `summary.json` beside them hold the table. The interval is
Student's t over seeds; differences are taken seed by seed, since both students of a seed share
their start and batches. A killed sweep continues when the same command is given again.
TensorBoard's tab of HParams has a row for each model of each seed (`tensorboard --logdir
<run-dir>`).

Cost: the number of seeds times that of recipes/distill.py.
"""

import argparse
import sys
from pathlib import Path

from kdtf import files
from kdtf.metrics import comparison, intervals
from kdtf.pipeline import distill, teacher_training
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.results import INT8, STUDENTS

FIGURES = ("top1", "top5", "macro_f1", "head_top1", "tail_top1", "ece", "nll")
# What distillation brings, to float students and to 8-bit ones, and what 8 bits cost each of them.
PAIRS = (STUDENTS, INT8, *zip(STUDENTS, INT8, strict=True))


def summarise(runs):
    """Means and 95 % intervals over runs that differ in their seed only.

    Args:
      runs: list of results as in `results.json`, at least two.

    Returns:
      {"seeds", "models": {model: {figure: {"mean", "interval", "values"}}},
       "differences": {"distilled - baseline" and so on, for each of `PAIRS` that was measured:
       {"figures": {figure: the same of the difference, seed by seed}, and of that in top-1 what
       `comparison.seed_difference` returns: "verdict", "p_value", "needed_seeds" and so on}}}. A
       figure that a run did not measure is left out.
    """
    models = {
        model: _figures([run["models"][model] for run in runs]) for model in runs[0]["models"]
    }
    pairs = [tuple(model.key for model in pair) for pair in PAIRS]
    differences = {
        f"{second} - {first}": {"figures": _figures(_differences(runs, first, second))}
        | comparison.seed_difference(*(models[name]["top1"]["values"] for name in (first, second)))
        for first, second in pairs
        if first in models and second in models
    }
    return {"seeds": len(runs), "models": models, "differences": differences}


def table(summary):
    """Markdown: a row per model and per difference; mean ± half the interval."""
    lines = [
        f"{summary['seeds']} seeds; mean ± half width of the 95 % interval (Student's t).",
        "",
        "| | " + " | ".join(FIGURES) + " |",
        "|---" * (len(FIGURES) + 1) + "|",
    ]
    differences = summary["differences"]
    rows = summary["models"] | {name: gain["figures"] for name, gain in differences.items()}
    for name, figures in rows.items():
        cells = []
        for figure in FIGURES:
            if figure not in figures:
                cells.append("not measured")
                continue
            mean, (low, high) = figures[figure]["mean"], figures[figure]["interval"]
            scale, digits = (1, 3) if figure in ("nll", "ece") else (100, 2)
            spread = f" ± {(high - low) / 2 * scale:.{digits}f}" if high > low else ""
            cells.append(f"{mean * scale:.{digits}f}{spread}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Top-1 by seed, and the verdict over seeds:", ""]
    for name, gain in differences.items():
        values = ", ".join(f"{100 * v:+.2f}" for v in gain["figures"]["top1"]["values"])
        line = f"- {name}: {values}. **{gain['verdict']}** (p = {gain['p_value']:.3f})."
        if gain["needed_seeds"]:
            line += (
                f" A difference of this size and spread is told in {gain['power']:.0%} of the "
                f"sweeps with {gain['needed_seeds']:,} seeds."
            )
        lines.append(line)
    return "\n".join(lines) + "\n"


def _differences(runs, first, second):
    """For each run the second model's figures minus the first's."""
    pairs = [(run["models"][first], run["models"][second]) for run in runs]
    return [
        {
            figure: after[figure] - before[figure]
            for figure in FIGURES
            if None not in (before[figure], after[figure])
        }
        for before, after in pairs
    ]


def _figures(rows):
    return {
        figure: intervals.mean_interval([row[figure] for row in rows])
        | {"values": [row[figure] for row in rows]}
        for figure in FIGURES
        if all(row.get(figure) is not None for row in rows)
    }


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--run-dir", required=True, help="one sub-directory per seed goes here")
    parser.add_argument("rest", nargs="*", metavar="-- ARGUMENT", help="for recipes/distill.py")
    args = parser.parse_args(argv)
    if len(set(args.seeds)) < 2:
        sys.exit(f"error: an interval needs at least 2 different seeds, got {args.seeds}")
    folder = Path(args.run_dir)
    runs = []
    for seed in args.seeds:
        run = RunDirectory(folder / f"seed-{seed}")
        # The last one wins on the command line: no argument of the rest can change the seed.
        _, config = distill.parse([*args.rest, "--seed", str(seed)])
        if not run.results.exists():
            print(f"\n=== seed {seed}: {run.path} ===", flush=True)
            with teacher_training.report_errors():
                distill.distill(run.path, config)
        runs.append(files.read_json(run.results))
    summary = summarise(runs)
    files.write_json(folder / "summary.json", summary)
    files.write_text(folder / "summary.md", table(summary))
    print(table(summary))


if __name__ == "__main__":
    main()
