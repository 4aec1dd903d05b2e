"""A run's results.json as a page for people: report.html, report.md and report_curves.png.

The page is one file that fetches nothing, for phones, desktops and paper, light and dark.
"""

import base64
import hashlib
import json
import math
from pathlib import Path

from kdtf import files, formatting, plotting, templating
from kdtf.report import charts, sections

_ORDER = (
    "teacher",
    "baseline",
    "distilled",
    "baseline_int8",
    "distilled_int8",
    "distilled_ptq_int8",
    "distilled_dynamic_range",
    "distilled_float16",
)


def write(run_dir):
    """Writes report.html, report.md and report_curves.png beside results.json.

    Args:
      run_dir: folder with results.json and config.json, and where they were measured
        evaluation/mistakes.json (as `mistakes.choose` returns it, each photo with id and jpeg,
        base64) and evaluation/layer_errors.json. What results.json leaves out or holds as null is
        shown as "not measured".

    Returns:
      pathlib.Path of report.html.

    Raises:
      FileNotFoundError: one of the two files is missing.
      ValueError: one of them is not a JSON object, or results.json names no models.
    """
    run_dir = Path(run_dir)
    results, config = _read(run_dir / "results.json"), _read(run_dir / "config.json")
    if not results.get("models"):
        raise ValueError(
            f'{run_dir / "results.json"} has no "models", only {sorted(results)}: let the run '
            "finish its evaluation first"
        )
    evaluation = run_dir / "evaluation"
    mistakes, layers = (
        _read(path) if path.is_file() else {}
        for path in (evaluation / "mistakes.json", evaluation / "layer_errors.json")
    )
    view = _view(results, config, mistakes, layers.get("layers"), run_dir.resolve().name)
    view["script"] = templating.render("report.js")
    view["script_hash"] = base64.b64encode(
        hashlib.sha256(view["script"].encode()).digest()
    ).decode()
    files.write_bytes(
        run_dir / "report_curves.png",
        plotting.png(charts.draw_curves, results.get("history") or {}),
    )
    for name in ("report.md", "report.html"):
        files.write_bytes(run_dir / name, templating.render(name, **view).encode())
    return run_dir / "report.html"


def gates(
    models,
    student="distilled",
    top1_limit=0.92,
    teacher_share_limit=0.95,
    size_limit_bytes=20e6,
    p95_limit_ms=25.0,
    device=None,
):
    """Whether a student may ship: four limits, each with what was measured.

    Args:
      models: "models" of results.json.
      student: which of them is meant.
      top1_limit: smallest accuracy on the test split, fraction.
      teacher_share_limit: smallest share of the teacher's accuracy, fraction.
      size_limit_bytes: the file must be smaller.
      p95_limit_ms: the 95th percentile of the latency must be smaller.
      device: name of the machine that measured; by default the student's benchmark tells.

    Returns:
      list of dict of name, rule (">=" or "<"), limit, unit ("fraction", "bytes" or "ms"), value
      (None where not measured; the name then says so) and passed (False where not measured).
    """
    if student not in models:
        raise ValueError(f"no model {student!r} in the results, only {sorted(models)}")
    chosen = models[student] or {}
    top1, teacher_top1 = chosen.get("top1"), (models.get("teacher") or {}).get("top1")
    share = None if top1 is None or not teacher_top1 else top1 / teacher_top1
    bench = chosen.get("benchmark") or {}
    device = device or bench.get("device") or "a machine without a name"
    threads = bench.get("threads")
    place = device if threads is None else f"{device}, {formatting.count(threads, 'thread')}"
    return [
        _gate("Top-1 accuracy", ">=", top1_limit, "fraction", top1),
        _gate("Share of the teacher's top-1", ">=", teacher_share_limit, "fraction", share),
        _gate("File size", "<", size_limit_bytes, "bytes", chosen.get("size_bytes")),
        _gate(
            f"p95 latency on {place}",
            "<",
            p95_limit_ms,
            "ms",
            (chosen.get("latency_ms") or {}).get("p95"),
        ),
    ]


def _gate(name, rule, limit, unit, value):
    if value is None or not math.isfinite(value):
        name = f"{name} ({formatting.NOT_MEASURED})"
        return {
            "name": name,
            "rule": rule,
            "limit": limit,
            "unit": unit,
            "value": None,
            "passed": False,
        }
    passed = value >= limit if rule == ">=" else value < limit
    return {
        "name": name,
        "rule": rule,
        "limit": limit,
        "unit": unit,
        "value": value,
        "passed": passed,
    }


def _view(results, config, mistakes, layers, run):
    """Everything the templates print, as text."""
    models = {name: results["models"][name] or {} for name in _names(results["models"])}
    results = results | {"models": models}
    verdict = sections.shipped_verdict(results)
    rows = results.get("gates") or []
    failed = [gate["name"] for gate in rows if not gate["passed"]]
    return {
        "run": run,
        "themes": plotting.THEMES,
        "tone": {"helps": "good", "hurts": "bad"}.get(verdict.get("verdict"), "neutral"),
        "headline": {
            "helps": "Distillation helped",
            "hurts": "Distillation made the student worse",
            "no difference shown": "No difference shown",
        }.get(verdict.get("verdict"), "Not compared"),
        "verdict": _verdict_text(verdict, models),
        "caution": _caution(verdict, results.get("environment") or {}),
        "gain": _gain(results),
        "shipping": _shipping(rows, failed),
        "may_ship": bool(rows) and not failed,
        "cards": _cards(models, verdict),
        "gates": [
            {
                "name": gate["name"],
                "limit": " ".join(
                    filter(
                        None,
                        (
                            {">=": "≥"}.get(gate.get("rule"), gate.get("rule")),
                            formatting.quantity(gate["limit"], gate.get("unit")),
                        ),
                    )
                ),
                "value": formatting.quantity(gate["value"], gate.get("unit")),
                "passed": gate["passed"],
            }
            for gate in rows
        ],
        "models": [formatting.title(name) for name in models],
        "measures": sections.measures(models),
        "sections": sections.build(results, mistakes, layers),
        "has_history": bool(results.get("history")),
        "facts": (
            (
                "Stages",
                [
                    (stage["name"], formatting.duration(stage.get("seconds")))
                    for stage in results.get("stages") or []
                ],
            ),
            ("Settings", _flat(config)),
            ("Versions and machine", _flat(results.get("environment") or {})),
        ),
    }


def _verdict_text(verdict, models):
    if not verdict or verdict.get("difference") is None:
        return "The run holds no paired comparison of the distilled student with the baseline."
    baseline, distilled = (
        formatting.percent(models.get(name, {}).get("top1")) for name in sections.compared(models)
    )
    bits = " 8-bit" if sections.compared(models)[1].endswith("int8") else ""
    numbers = (
        f"On the same {verdict['test_examples']:,} test photos the distilled{bits} student gets "
        f"{distilled} right, the baseline student {baseline}: a difference of "
        f"{formatting.points(verdict['difference'])} percentage points "
        f"({formatting.confidence(verdict)} {formatting.span(verdict['interval'])}, exact McNemar "
        f"p {formatting.p_value(verdict['p_value'])})."
    )
    meaning = {
        "helps": "With the teacher's help the same small model recognises more products.",
        "hurts": "With the teacher's help the same small model recognises fewer products.",
    }.get(
        verdict["verdict"],
        "This test set cannot tell the two apart: any difference inside the "
        "interval may be the true one.",
    )
    return f"{numbers} {meaning}"


def _caution(verdict, environment):
    if not verdict:
        return ""
    seeds = verdict.get("seeds", 1)
    words = f"{seeds} training runs ({seeds} seeds) of each student."
    if seeds == 1:
        words = (
            "One training run (1 seed) of each student. The interval covers which photos "
            "happened to be in the test set, not how much results vary from seed to seed."
        )
    needed = verdict.get("needed_test_examples")
    if verdict.get("verdict") == "no difference shown" and needed:
        words += (
            f" If the difference seen were the true one, about {needed:,} test photos would "
            f"be needed to show it, with a chance of {formatting.share(verdict['power'])}."
        )
    photos, labels = (environment.get(f"training_{what}") for what in ("photos", "labels"))
    if None not in (photos, labels) and labels < photos:
        words += (
            f" Of {photos:,} training photos {labels:,} have a label: from the others the "
            "distilled student learned through the teacher, the baseline not at all."
        )
    return words


def _gain(results):
    """Drawing of the gain of the 8-bit and of the float students, or None."""
    verdicts = {"8-bit files": results.get("verdict_int8"), "float files": results.get("verdict")}
    measured = {
        name: verdict
        for name, verdict in verdicts.items()
        if verdict and verdict.get("difference") is not None
    }
    return charts.draw_gains(measured) if measured else None


def _shipping(rows, failed):
    if not rows:
        return "No release gates were checked."
    if not failed:
        return f"All {len(rows)} release gates passed."
    return f"{len(failed)} of {len(rows)} release gates failed: {'; '.join(failed)}."


def _cards(models, verdict):
    name = sections.compared(models)[1]
    student = models.get(name, {})
    top1, teacher = student.get("top1"), models.get("teacher", {}).get("top1")
    gain = verdict.get("difference")
    share = None if top1 is None or not teacher else top1 / teacher
    device = (student.get("benchmark") or {}).get("device")
    return [
        (
            f"Top-1 of the {name.replace('_', ' ')} student",
            formatting.quantity(top1, "fraction"),
            "" if gain is None else f"distillation: {formatting.points(gain)} points",
        ),
        (
            "Share of the teacher's top-1",
            formatting.quantity(share, "fraction"),
            "" if teacher is None else f"teacher {formatting.percent(teacher)}",
        ),
        ("File size", formatting.megabytes(student.get("size_bytes")), "TFLite"),
        (
            "p95 latency",
            formatting.milliseconds((student.get("latency_ms") or {}).get("p95")),
            f"on {device}" if device else "",
        ),
    ]


def _names(models):
    return [name for name in _ORDER if name in models] + sorted(set(models) - set(_ORDER))


def _flat(tree, prefix=""):
    """Nested settings as rows (dotted name, text)."""
    rows = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            rows += _flat(value, f"{name}.")
        else:
            rows.append((name, value if isinstance(value, str) else json.dumps(value)))
    return rows


def _read(path):
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}: is this a finished run?")
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a JSON object")
    return content
