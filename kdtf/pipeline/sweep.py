"""One job over several seeds: mean and interval of every figure, of gains and of int8's cost."""

from dataclasses import replace

from kdtf import files
from kdtf.metrics import comparison, intervals
from kdtf.pipeline import distill
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


def run_seeds(folder, config, seeds):
    """Runs, or continues, the job with each seed; returns the table that it writes.

    Args:
      folder: pathlib.Path; "seed-<n>", "summary.json" and "summary.md" go into it.
      config: a `DistillConfig`, whose seed is replaced.
      seeds: ints, at least two different ones.
    """
    runs = []
    for seed in seeds:
        run = RunDirectory(folder / f"seed-{seed}")
        if not run.results.exists():
            print(f"\n=== seed {seed}: {run.path} ===", flush=True)
            distill.distill(run.path, replace(config, seed=seed))
        runs.append(files.read_json(run.results))
    summary = summarise(runs)
    files.write_json(folder / "summary.json", summary)
    files.write_text(folder / "summary.md", table(summary))
    return table(summary)
