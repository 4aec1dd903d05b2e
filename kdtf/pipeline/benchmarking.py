"""Latency of a run's TFLite files."""

from dataclasses import asdict

from kdtf import benchmark, files


def measure_latency(run, config, model):
    """Benchmarks an exported file, one thread, here or on the phone that is named, unless done.

    Args:
      run: `RunDirectory`.
      config: `DistillConfig`.
      model: `kdtf.results.Model`.
    """
    if run.latency(model).exists():
        return
    measured = benchmark.benchmark(
        run.tflite(model),
        binary=config.benchmark_binary,
        adb=config.adb,
        taskset=config.taskset,
    )
    files.write_json(run.latency(model), asdict(measured))
