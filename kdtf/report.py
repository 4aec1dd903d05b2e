"""A run's results.json as a page for people: report.html, report.md and report_curves.png.

The page is one file that fetches nothing, for phones and desktops, light and dark.
"""

import base64
import io
import json
import math
import os
from pathlib import Path

import jinja2
import matplotlib
from matplotlib.figure import Figure

_ORDER = ("teacher", "baseline", "distilled", "baseline_int8", "distilled_int8")
_NOT_MEASURED = "not measured"

# Okabe and Ito's colours, told apart by people with any colour vision, and by marker and dash.
_THEMES = {
    "light": {"ink": "#1b1f24", "grid": "#d5d9de", "teacher": "#6b7280", "baseline": "#c44e00",
              "distilled": "#0072b2", "other": "#009e73", "paper": "#ffffff"},
    "dark": {"ink": "#e6e8eb", "grid": "#3a4048", "teacher": "#a3a9b3", "baseline": "#f0a35e",
             "distilled": "#56b4e9", "other": "#2ecfa0", "paper": "#1b1f24"},
}
_LINES = {"baseline": ("--", "s"), "distilled": ("-", "o")}


def write(run_dir):
    """Writes report.html, report.md and report_curves.png beside results.json.

    Args:
      run_dir: folder with results.json and config.json. What results.json leaves out or holds as
        null is shown as "not measured".

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
            f"{run_dir / 'results.json'} has no \"models\", only {sorted(results)}: let the run "
            "finish its evaluation first")
    view = _view(results, config, run_dir.resolve().name)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=lambda name: name.endswith(".html"), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    templates.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    _replace(run_dir / "report_curves.png", _render(
        _draw_curves, "light", "png", results.get("history") or {}))
    for name in ("report.md", "report.html"):
        _replace(run_dir / name, templates.get_template(name).render(view).encode())
    return run_dir / "report.html"


def gates(models, student="distilled", top1_limit=0.92, teacher_share_limit=0.95,
          size_limit_bytes=20e6, p95_limit_ms=25.0, device=None):
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
    place = device if threads is None else f"{device}, {_count(threads, 'thread')}"
    return [
        _gate("Top-1 accuracy", ">=", top1_limit, "fraction", top1),
        _gate("Share of the teacher's top-1", ">=", teacher_share_limit, "fraction", share),
        _gate("File size", "<", size_limit_bytes, "bytes", chosen.get("size_bytes")),
        _gate(f"p95 latency on {place}", "<", p95_limit_ms, "ms",
              (chosen.get("latency_ms") or {}).get("p95")),
    ]


def _gate(name, rule, limit, unit, value):
    if value is None or not math.isfinite(value):
        return {"name": f"{name} ({_NOT_MEASURED})", "rule": rule, "limit": limit, "unit": unit,
                "value": None, "passed": False}
    passed = value >= limit if rule == ">=" else value < limit
    return {"name": name, "rule": rule, "limit": limit, "unit": unit, "value": value,
            "passed": passed}


def _view(results, config, run):
    """Everything the templates print, as text."""
    models = {name: results["models"][name] or {} for name in _names(results["models"])}
    history = results.get("history") or {}
    verdict = results.get("verdict") or {}
    rows = results.get("gates") or []
    failed = [gate["name"] for gate in rows if not gate["passed"]]
    return {
        "run": run,
        "tone": {"helps": "good", "hurts": "bad"}.get(verdict.get("verdict"), "neutral"),
        "headline": {
            "helps": "Distillation helped",
            "hurts": "Distillation made the student worse",
            "no difference shown": "No difference shown",
        }.get(verdict.get("verdict"), "Not compared"),
        "verdict": _verdict_text(verdict, models),
        "caution": _caution(verdict),
        "shipping": _shipping(rows, failed),
        "may_ship": bool(rows) and not failed,
        "cards": _cards(models, verdict),
        "gates": [{
            "name": gate["name"],
            "limit": " ".join(filter(None, (
                {">=": "≥"}.get(gate.get("rule"), gate.get("rule")),
                _quantity(gate["limit"], gate.get("unit"))))),
            "value": _quantity(gate["value"], gate.get("unit")),
            "passed": gate["passed"],
        } for gate in rows],
        "models": [_title(name) for name in models],
        "measures": _measures(models),
        "charts": _charts(models, history, verdict),
        "has_history": bool(history),
        "settings": _flat(config),
        "environment": _flat(results.get("environment") or {}),
        "stages": [(stage["name"], _duration(stage.get("seconds")))
                   for stage in results.get("stages") or []],
    }


def _verdict_text(verdict, models):
    if not verdict or verdict.get("difference") is None:
        return "The run holds no paired comparison of the distilled student with the baseline."
    low, high = verdict["interval"]
    distilled, baseline = (
        _percent(models.get(name, {}).get("top1")) for name in ("distilled", "baseline"))
    numbers = (
        f"On the same {verdict['test_examples']:,} test photos the distilled student gets "
        f"{distilled} right, the baseline student {baseline}: a difference of "
        f"{_points(verdict['difference'])} percentage points "
        f"({_confidence(verdict)} interval {_points(low)} to {_points(high)}, exact McNemar "
        f"p {_p_value(verdict['p_value'])}).")
    meaning = {
        "helps": "With the teacher's help the same small model recognises more products.",
        "hurts": "With the teacher's help the same small model recognises fewer products.",
    }.get(verdict["verdict"], "This test set cannot tell the two apart: any difference inside the "
                              "interval may be the true one.")
    return f"{numbers} {meaning}"


def _caution(verdict):
    if not verdict:
        return ""
    seeds = verdict.get("seeds", 1)
    if seeds == 1:
        return ("One training run (1 seed) of each student. The interval covers which photos "
                "happened to be in the test set, not how much results vary from seed to seed.")
    return f"{seeds} training runs ({seeds} seeds) of each student."


def _shipping(rows, failed):
    if not rows:
        return "No release gates were checked."
    if not failed:
        return f"All {len(rows)} release gates passed."
    return f"{len(failed)} of {len(rows)} release gates failed: {'; '.join(failed)}."


def _cards(models, verdict):
    student = models.get("distilled", {})
    top1, teacher = student.get("top1"), models.get("teacher", {}).get("top1")
    gain = verdict.get("difference")
    share = None if top1 is None or not teacher else top1 / teacher
    device = (student.get("benchmark") or {}).get("device")
    return [
        ("Top-1 of the distilled student", _percent(top1),
         "" if gain is None else f"{_points(gain)} points against the baseline"),
        ("Share of the teacher's top-1", _percent(share),
         "" if teacher is None else f"teacher {_percent(teacher)}"),
        ("File size", _megabytes(student.get("size_bytes")), "TFLite"),
        ("p95 latency", _milliseconds((student.get("latency_ms") or {}).get("p95")),
         f"on {device}" if device else ""),
    ]


def _measures(models):
    """Rows of the table of models: (measure, unit or direction, one cell for each model)."""
    def row(label, hint, form, *keys):
        cells = []
        for model in models.values():
            value = model
            for key in keys:
                value = (value or {}).get(key)
            cells.append(form(value))
        return label, hint, cells

    return [
        row("Top-1", "higher is better", _percent, "top1"),
        row("Top-5", "higher is better", _percent, "top5"),
        row("Macro F1", "every class counts the same", _percent, "macro_f1"),
        row("Head top-1", "most frequent classes", _percent, "head_top1"),
        row("Tail top-1", "rarest classes", _percent, "tail_top1"),
        row("Calibration error", "ECE, lower is better", _percent, "ece"),
        row("Log loss", "NLL in nats, lower is better", _decimal, "nll"),
        row("Test photos", "", _integer, "examples"),
        row("Parameters", "", _integer, "parameters"),
        row("File size", "", _megabytes, "size_bytes"),
        row("Latency p50", "", _milliseconds, "latency_ms", "p50"),
        row("Latency p95", "", _milliseconds, "latency_ms", "p95"),
        row("Threads", "of the benchmark", _integer, "benchmark", "threads"),
        row("Load of the machine", "when measured", _text("{:.2f}"), "benchmark", "load_average"),
        row("File against Keras", "same class", _percent, "parity", "argmax_agreement"),
        row("File against Keras", "largest logit error", _scientific, "parity", "max_abs_error"),
    ]


def _charts(models, history, verdict):
    """Charts of the page: heading, alternative text, and one image for each theme."""
    def chart(heading, alt, draw, *data):
        images = {
            theme: "data:image/svg+xml;base64," + base64.b64encode(
                _render(draw, theme, "svg", *data)).decode()
            for theme in _THEMES}
        return {"heading": heading, "alt": alt, **images}

    def told(form, *keys):
        def value(model):
            for key in keys:
                model = (model or {}).get(key)
            return model
        values = {name: value(model) for name, model in models.items()}
        return values, ", ".join(f"{_title(name)} {form(v)}" for name, v in values.items())

    charts = []
    if verdict.get("difference") is not None:
        low, high = (_points(bound) for bound in verdict["interval"])
        charts.append(chart(
            "Gain in top-1, percentage points",
            f"Distilled minus baseline: {_points(verdict['difference'])} points, interval {low} to "
            f"{high}.", _draw_interval, verdict))
    for key, heading, form in (
            ("val_accuracy", "Validation accuracy", _percent),
            ("hard_loss", "Hard loss", _decimal)):
        curves = _curves(history, key)
        if curves:
            ends = ", ".join(f"{_title(name)} ends at {form(c[-1])}" for name, c in curves.items())
            charts.append(chart(
                f"{heading} by epoch", f"{heading} by epoch: {ends}.", _draw_curve, curves, key))
    for heading, form, scale, keys in (
            ("Top-1 accuracy, %", _percent, 100, ("top1",)),
            ("File size, MB", _megabytes, 1e-6, ("size_bytes",)),
            ("Latency p95, ms", _milliseconds, 1, ("latency_ms", "p95"))):
        values, text = told(form, *keys)
        if any(_known(value) for value in values.values()):
            charts.append(chart(heading, f"{heading}: {text}.", _draw_bars, values, form, scale))
    return charts


def _draw_curves(figure, colours, history):
    """Both learning curves side by side, for report_curves.png."""
    figure.set_size_inches(10, 3.6)
    for axes, key, heading in zip(
            figure.subplots(1, 2), ("hard_loss", "val_accuracy"),
            ("Hard loss", "Validation accuracy, %"), strict=True):
        curves = _curves(history, key)
        _plot(axes, colours, curves, key)
        axes.set_title(heading if curves else f"{heading}: {_NOT_MEASURED}")


def _draw_curve(figure, colours, curves, key):
    figure.set_size_inches(4.6, 2.9)
    _plot(figure.subplots(), colours, curves, key)


def _plot(axes, colours, curves, key):
    scale = 100 if key == "val_accuracy" else 1
    for name, values in curves.items():
        dash, marker = _LINES[name]
        axes.plot(range(1, len(values) + 1), [value * scale for value in values], dash,
                  marker=marker, markersize=4, color=colours[name], label=_title(name))
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy, %" if key == "val_accuracy" else "cross-entropy with the labels")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(color=colours["grid"], linewidth=0.6)
    if curves:
        axes.legend(frameon=False)


def _draw_bars(figure, colours, values, form, scale):
    figure.set_size_inches(4.6, 0.4 + 0.4 * len(values))
    axes = figure.subplots()
    longest = max(value for value in values.values() if _known(value)) * scale
    for position, (name, value) in enumerate(values.items()):
        length = value * scale if _known(value) else 0
        family = name.removesuffix("_int8")
        axes.barh(position, length, 0.62, color=colours.get(family, colours["other"]))
        axes.text(length + 0.015 * longest, position, form(value), va="center")
    axes.set_yticks(range(len(values)), [_title(name) for name in values])
    axes.invert_yaxis()
    axes.set_xlim(0, longest * 1.3)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(left=False)


def _draw_interval(figure, colours, verdict):
    figure.set_size_inches(4.6, 1.25)
    axes = figure.subplots()
    low, high = (100 * bound for bound in verdict["interval"])
    difference = 100 * verdict["difference"]
    axes.axvline(0, color=colours["ink"], linewidth=1, linestyle=":")
    axes.plot([low, high], [0, 0], color=colours["distilled"], linewidth=3, solid_capstyle="butt")
    axes.plot(difference, 0, "o", color=colours["distilled"], markersize=9)
    axes.text(difference, 0.25, _points(verdict["difference"]), ha="center", va="bottom")
    reach = 1.15 * max(abs(low), abs(high), 0.5)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-0.4, 0.9)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("← baseline better        distilled better →")


def _curves(history, key):
    """Curves of the two students; a baseline's whole loss is its hard loss, if not told apart."""
    found = {}
    for name in _LINES:
        epochs = history.get(name) or {}
        values = epochs.get(key)
        if not values and key == "hard_loss" and name == "baseline":
            values = epochs.get("loss")
        if values:
            found[name] = [math.nan if value is None else value for value in values]
    return found


def _render(draw, theme, kind, *data):
    """One drawing as bytes; the same data always gives the same bytes."""
    colours = _THEMES[theme]
    ink = {key: colours["ink"] for key in (
        "text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")}
    with matplotlib.rc_context({
            **ink, "font.size": 11, "axes.spines.top": False, "axes.spines.right": False,
            "axes.facecolor": "none", "svg.hashsalt": "kdtf"}):
        figure = Figure(layout="constrained")
        draw(figure, colours, *data)
        file = io.BytesIO()
        if kind == "svg":
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        else:
            figure.savefig(file, format=kind, dpi=120, facecolor=colours["paper"])
    return file.getvalue()


def _names(models):
    return [name for name in _ORDER if name in models] + sorted(set(models) - set(_ORDER))


def _title(name):
    return name.replace("_", " ").capitalize()


def _known(value):
    return value is not None and math.isfinite(value)


def _text(pattern, scale=1):
    def form(value):
        return pattern.format(value * scale) if _known(value) else _NOT_MEASURED
    return form


_percent = _text("{:.1f} %", 100)
_decimal = _text("{:.3f}")
_integer = _text("{:,.0f}")
_megabytes = _text("{:.2f} MB", 1e-6)
_milliseconds = _text("{:.2f} ms")
_scientific = _text("{:.1e}")


def _quantity(value, unit):
    # A digit more than elsewhere: 94.96 % fails a limit of 95 % and must not read "95.0 %".
    forms = {"fraction": _text("{:.2f} %", 100), "bytes": _megabytes, "ms": _milliseconds}
    return forms.get(unit, _text("{:g}"))(value)


def _points(fraction):
    return f"{100 * fraction:+.1f}".replace("-", "−")


def _confidence(verdict):
    return f"{100 * verdict.get('confidence', 0.95):g} %"


def _p_value(value):
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _count(number, noun):
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _duration(seconds):
    if not _known(seconds):
        return _NOT_MEASURED
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


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


def _replace(path, content):
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
