"""Settings and measures of each model of a run, for TensorBoard's tab of HParams."""

from dataclasses import asdict

from kdtf.callbacks import tensorboard
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.results import MODELS

MEASURES = ("top1", "top5", "macro_f1", "tail_top1", "worst_decile_recall", "ece", "nll", "brier")


def write_hparams(run, config, rows):
    """Writes a row for each model: settings, and measures of the exported file.

    Args:
      run: `RunDirectory`.
      config: `DistillConfig`.
      rows: {model's key: row} as in `results.json`.
    """
    run = RunDirectory(run.path.resolve())
    settings = {
        key: ", ".join(value) if isinstance(value, (tuple, list)) else value
        for key, value in asdict(config).items()
    }
    for model in MODELS:
        row = rows[model.key]
        measures = {f"test/{measure}": row.get(measure) for measure in MEASURES}
        measures["file/megabytes"] = row["size_bytes"] / 1e6
        for quantile, milliseconds in row["latency_ms"].items():
            measures[f"latency_ms/{quantile}"] = milliseconds
        # The folder above tells apart the seeds of several sweeps.
        trial = f"{run.path.name} {model.key} ({run.path.parent.name})"
        tensorboard.write_hparams(
            run.tensorboard(model), trial, {"model": model.key} | settings, measures
        )
