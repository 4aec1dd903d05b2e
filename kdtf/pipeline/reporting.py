"""What a run ends with: results.json, the deploy folder, TensorBoard's table and the report."""

import os
import platform
import time
from dataclasses import replace
from importlib.metadata import version

import keras
import tensorflow as tf
import tf_keras

import kdtf
from kdtf import benchmark, files, release, report, results, teachers
from kdtf.pipeline import hparams
from kdtf.pipeline.initial_student import describe_inputs
from kdtf.release import bundle
from kdtf.results import INT8, MODELS, SHIPPED, STUDENTS

PACKAGES = ("kdtf", "tensorflow", "keras", "tf_keras", "tensorflow_model_optimization")


def environment(info):
    """What a run's figures depend on besides its settings: versions, machine, data."""
    return {
        "kdtf": kdtf.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "tf_keras": tf_keras.__version__,
        "tensorflow_model_optimization": version("tensorflow-model-optimization"),
        "device": benchmark.device_name(),
        "cores": os.cpu_count(),
        "data": str(info.directory),
        "data_sha256": info.sha256(),
        "training_photos": info.split("train").examples,
        "training_labels": info.split("train").labelled,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }


def assemble(run, info, teacher, evaluation):
    """`results.Results` of what the stages left.

    Args:
      run: `RunDirectory`.
      info: `data.DatasetInfo`.
      teacher: `Teacher`.
      evaluation: `Evaluation`, of which all models are measured.
    """
    rows, history = {}, {}
    for model in MODELS:
        latency = files.read_json(run.latency(model))
        rows[model.key] = {
            **evaluation.row(model),
            **files.read_json(run.export_facts(model)),
            "size_bytes": run.tflite(model).stat().st_size,
            "latency_ms": {"p50": latency["p50_ms"], "p95": latency["p95_ms"]},
            "benchmark": latency,
        }
        if run.training_facts(model).exists():
            history[model.key] = files.read_json(run.training_facts(model))["history"]
    measured = {
        "models": rows,
        "classes": evaluation.classes(),
        "verdict": evaluation.compare(*STUDENTS),
        "verdict_int8": evaluation.compare(*INT8),
        "environment": environment(info) | {"teacher_sha256": teachers.fingerprint(teacher.model)},
        "history": history,
        "cached_logits": files.read_json(run.cache_facts) if run.cache_facts.exists() else None,
        "stages": [{"name": name, "seconds": s} for name, s in run.elapsed().items()],
    }
    typed = results.Results.from_json(measured)
    return replace(typed, gates=release.check_gates(typed.models))


def write_report(run, config, info, measured):
    """Writes results.json, the deploy folder, TensorBoard's table and the report.

    Args:
      run: `RunDirectory`.
      config: `DistillConfig`.
      info: `data.DatasetInfo`.
      measured: `results.Results` that `assemble` returned.

    Returns:
      path of `report.html`.
    """
    results.write(run.results, measured)
    environment = measured.environment
    facts = {
        "model": measured.models[SHIPPED],
        "gates": measured.gates,
        "metadata": describe_inputs(info, config)["metadata"],
        "data_sha256": environment["data_sha256"],
        "teacher_sha256": environment["teacher_sha256"],
        "versions": {name: environment[name] for name in PACKAGES},
    }
    bundle.write(run.deploy, run.tflite(SHIPPED), info.classes, facts)
    hparams.write_hparams(run, config, measured.to_json()["models"])
    return report.write(run.path)


def summary(results, page):
    """Text for the terminal: the table of models, the gates, the verdict."""
    heads = ("top-1", "macro-F1", "ECE", "MB", "p50 ms", "p95 ms")
    lines = ["", f"{'':<23} " + " ".join(f"{head:>8}" for head in heads)]
    for name, row in results["models"].items():
        latency = row["latency_ms"]
        lines.append(
            f"{name:<23} {row['top1']:>8.1%} {row['macro_f1']:>8.3f} {row['ece']:>8.3f} "
            f"{row['size_bytes'] / 1e6:>8.2f} {latency['p50']:>8.2f} {latency['p95']:>8.2f}"
        )
    lines.append("")
    for gate in results["gates"]:
        value = "not measured" if gate["value"] is None else f"{gate['value']:,.4g}"
        mark = "pass" if gate["passed"] else "FAIL"
        lines.append(f"{mark}  {gate['name']}: {value} (limit {gate['rule']} {gate['limit']:,.4g})")
    lines.append("")
    for label, key in (("float", "verdict"), ("int8", "verdict_int8")):
        verdict = results[key]
        low, high = verdict["interval"]
        lines.append(
            f"Distillation, {label} students: {verdict['verdict']} ({verdict['difference']:+.1%} "
            f"top-1, 95 % interval {low:+.1%} to {high:+.1%} over {verdict['test_examples']:,} "
            "test photos, one seed)"
        )
    return "\n".join([*lines, f"Report: {page}"])
