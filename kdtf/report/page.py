"""A run's results.json as a page for people: report.html, report.md and report_curves.png.

The page is one file that fetches nothing, for phones, desktops and paper, light and dark.
"""

import base64
import hashlib
import json
from pathlib import Path

from kdtf import files, formatting, plotting, results, templating
from kdtf.report import (
    calibration,
    classes,
    confusion,
    learning,
    models,
    rounding,
    slices,
    verdict,
)
from kdtf.results import Metrics


def write(run_dir):
    """Writes report.html, report.md and report_curves.png beside results.json.

    Args:
      run_dir: folder with results.json and config.json, and where they were measured
        evaluation/mistakes.json (as of `confusion.confusion_section`) and
        evaluation/layer_errors.json. What results.json leaves out or holds as null is shown as
        "not measured".

    Returns:
      pathlib.Path of report.html.

    Raises:
      FileNotFoundError: one of the two files is missing.
      ValueError: one of them is not a JSON object, or results.json is not `results.read`.
    """
    run_dir = Path(run_dir)
    run = results.read(run_dir / results.FILE)
    config = results.read_object(run_dir / "config.json")
    evaluation = run_dir / "evaluation"
    mistakes, layers = (
        results.read_object(path) if path.is_file() else {}
        for path in (evaluation / "mistakes.json", evaluation / "layer_errors.json")
    )
    view = _view(run, config, mistakes, layers.get("layers"), run_dir.resolve().name)
    view["script"] = templating.render("report.js")
    view["script_hash"] = base64.b64encode(
        hashlib.sha256(view["script"].encode()).digest()
    ).decode()
    files.write_bytes(
        run_dir / "report_curves.png",
        plotting.png(learning.draw_curves, run.history),
    )
    for name in ("report.md", "report.html"):
        files.write_bytes(run_dir / name, templating.render(name, **view).encode())
    return run_dir / "report.html"


def build_sections(run, mistakes, layers):
    """The sections that a run has figures for.

    Args:
      run: a `results.Results`.
      mistakes: as of `confusion.confusion_section`, or None.
      layers: as of `rounding.rounding_section`.

    Returns:
      list of `Section`.
    """
    pair = {
        model: run.models[model]
        for model in (results.TEACHER, *run.pair)
        if run.models.get(model, Metrics()) != Metrics()
    }
    names = [each["name"] for each in run.classes]
    sections = [
        models.models_section(run),
        learning.learning_section(run.history),
        calibration.calibration_section(pair),
        calibration.selective_section(pair),
        classes.classes_section(pair, run.comparison, run.classes),
        slices.slices_section(run.comparison),
        rounding.rounding_section(run.models, layers),
        mistakes and confusion.confusion_section(mistakes, names),
        mistakes and confusion.disagreements_section(mistakes, names),
    ]
    return [section for section in sections if section]


def _view(run, config, mistakes, layers, name):
    """Everything the templates print, as text."""
    failed = [gate.name for gate in run.gates if not gate.passed]
    gains = {"8-bit files": run.verdict_int8, "float files": run.verdict}
    stages = [(stage["name"], formatting.duration(stage.get("seconds"))) for stage in run.stages]
    return {
        "run": name,
        "themes": plotting.THEMES,
        "tone": verdict.tone(run.comparison),
        "headline": verdict.headline(run.comparison),
        "verdict": verdict.verdict_text(run),
        "caution": verdict.caution_text(run),
        "gain": verdict.draw_gains(gains),
        "shipping": _shipping(run.gates, failed),
        "may_ship": bool(run.gates) and not failed,
        "cards": _cards(run),
        "gates": [_gate_row(gate) for gate in run.gates],
        "models": [model.title for model in run.models],
        "measures": models.measure_tables(run.models),
        "sections": build_sections(run, mistakes, layers),
        "has_history": bool(run.history),
        "facts": (
            ("Stages", stages),
            ("Settings", _flat(config)),
            ("Versions and machine", _flat(run.environment)),
        ),
    }


def _gate_row(gate):
    limit = formatting.quantity(gate.limit, gate.unit)
    return {
        "name": gate.name,
        "limit": " ".join(filter(None, ({">=": "≥"}.get(gate.rule, gate.rule), limit))),
        "value": formatting.quantity(gate.value, gate.unit),
        "passed": gate.passed,
    }


def _shipping(gates, failed):
    if not gates:
        return "No release gates were checked."
    if not failed:
        return f"All {len(gates)} release gates passed."
    return f"{len(failed)} of {len(gates)} release gates failed: {'; '.join(failed)}."


def _cards(run):
    model = run.pair[1]
    student, teacher = (run.models.get(each, Metrics()) for each in (model, results.TEACHER))
    gain = run.comparison and run.comparison.difference
    fraction = None if student.top1 is None or not teacher.top1 else student.top1 / teacher.top1
    device = student.benchmark.get("device")
    return [
        (
            f"Top-1 of the {model.title.lower()} student",
            formatting.quantity(student.top1, "fraction"),
            "" if gain is None else f"distillation: {formatting.points(gain)} points",
        ),
        (
            "Share of the teacher's top-1",
            formatting.quantity(fraction, "fraction"),
            "" if teacher.top1 is None else f"teacher {formatting.percent(teacher.top1)}",
        ),
        ("File size", formatting.megabytes(student.size_bytes), "TFLite"),
        (
            "p95 latency",
            formatting.milliseconds(student.latency_ms.get("p95")),
            f"on {device}" if device else "",
        ),
    ]


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
