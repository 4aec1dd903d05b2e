"""Whether a student may ship: four limits, each with what was measured."""

import math

from kdtf import formatting, results
from kdtf.results import Gate, Metrics


def check_gates(
    models,
    student=results.SHIPPED,
    top1_limit=0.92,
    teacher_fraction_limit=0.95,
    size_limit_bytes=20e6,
    p95_limit_ms=25.0,
    device=None,
):
    """The release gates of a student.

    Args:
      models: {`results.Model`: `results.Metrics`}.
      student: which of them is meant.
      top1_limit: smallest accuracy on the test split, fraction.
      teacher_fraction_limit: smallest fraction of the teacher's accuracy.
      size_limit_bytes: the file must be smaller.
      p95_limit_ms: the 95th percentile of the latency must be smaller.
      device: name of the machine that measured; by default the student's benchmark tells.

    Returns:
      tuple of `results.Gate`, of the kinds `results.TOP1`, `TEACHER_FRACTION`, `FILE_SIZE` and
      `LATENCY`. What was not measured has not passed, and the name says so.

    Raises:
      ValueError: the student is not among the models.
    """
    if student not in models:
        raise ValueError(
            f"no model {student.key!r} in the results, only {sorted(each.key for each in models)}"
        )
    chosen = models[student]
    teacher_top1 = models.get(results.TEACHER, Metrics()).top1
    fraction = None if chosen.top1 is None or not teacher_top1 else chosen.top1 / teacher_top1
    device = device or chosen.benchmark.get("device") or "a machine without a name"
    threads = chosen.benchmark.get("threads")
    place = device if threads is None else f"{device}, {formatting.count(threads, 'thread')}"
    return (
        _gate(results.TOP1, "Top-1 accuracy", ">=", top1_limit, "fraction", chosen.top1),
        _gate(
            results.TEACHER_FRACTION,
            "Share of the teacher's top-1",
            ">=",
            teacher_fraction_limit,
            "fraction",
            fraction,
        ),
        _gate(results.FILE_SIZE, "File size", "<", size_limit_bytes, "bytes", chosen.size_bytes),
        _gate(
            results.LATENCY,
            f"p95 latency on {place}",
            "<",
            p95_limit_ms,
            "ms",
            chosen.latency_ms.get("p95"),
        ),
    )


def _gate(kind, name, rule, limit, unit, value):
    if value is None or not math.isfinite(value):
        return Gate(kind, f"{name} ({formatting.NOT_MEASURED})", rule, limit, unit)
    passed = value >= limit if rule == ">=" else value < limit
    return Gate(kind, name, rule, limit, unit, value, passed)
