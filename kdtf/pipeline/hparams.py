"""What came of each model of a run, for TensorBoard's tab of HParams, where runs are compared."""

from kdtf.callbacks import tensorboard

MEASURES = ("top1", "top5", "macro_f1", "tail_top1", "worst_decile_recall", "ece", "nll", "brier")


def folder(run_dir, name):
    """Where TensorBoard finds the model `name` of a run: what it shows is called after it."""
    return run_dir / "tensorboard" / name


def write(run_dir, config, models):
    """Writes a row for each model: settings, and measures of the exported file.

    Args:
      run_dir: pathlib.Path of the run.
      config: {setting: value} as in `config.json`.
      models: {name: row} as in `results.json`.
    """
    run_dir = run_dir.resolve()
    settings = {
        key: ", ".join(value) if isinstance(value, (tuple, list)) else value
        for key, value in config.items()
    }
    for name, row in models.items():
        measures = {f"test/{measure}": row.get(measure) for measure in MEASURES}
        measures["file/megabytes"] = row["size_bytes"] / 1e6
        for quantile, milliseconds in row["latency_ms"].items():
            measures[f"latency_ms/{quantile}"] = milliseconds
        # The folder above tells apart the seeds of several sweeps.
        trial = f"{run_dir.name} {name} ({run_dir.parent.name})"
        tensorboard.write_hparams(
            folder(run_dir, name), trial, {"model": name} | settings, measures
        )
