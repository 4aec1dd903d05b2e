"""The models beside each other: accuracy against size and latency, bars, tables of all measures."""

import math

from kdtf import formatting, results
from kdtf.plotting import drawing, hint, model_colour
from kdtf.report.table import Cell, Section, Table, interval_text

_MARKERS = {"float32": "o", "int8": "s", "ptq_int8": "D", "dynamic_range": "^", "float16": "v"}
_UP, _DOWN = "higher is better", "lower is better"


def models_section(run):
    """Section of all models of a `results.Results`."""
    return Section(
        "models",
        "Models",
        [
            "Every figure is of an exported file, on the same test photos. Small print: 95 % "
            "intervals, which cover the choice of test photos."
        ],
        draw_tradeoffs(run) + draw_bars(run.models),
        list(measure_tables(run.models).values()),
    )


def measure_tables(models):
    """{heading: Table} of all models, a row for each.

    Args:
      models: {`results.Model`: `results.Metrics`}.
    """
    titles = [model.title for model in models]
    tables = {}
    for caption, columns in (
        ("How often it is right", _accuracy_columns(models.values())),
        ("How far its confidence can be trusted", _calibration_columns(models.values())),
        ("How small and quick it is", _cost_columns(models.values())),
    ):
        heads, cells = zip(*columns, strict=True)
        rows = [
            [Cell(title, title), *row]
            for title, row in zip(titles, zip(*cells, strict=True), strict=True)
        ]
        tables[caption] = Table(caption, [("Model", ""), *heads], rows)
    return tables


def _accuracy_columns(rows):
    percent = formatting.percent
    return [
        _measure(rows, "Top-1", _UP, percent, "top1"),
        _measure(rows, "Top-5", _UP, percent, "top5"),
        _measure(rows, "Macro F1", "every class counts the same", percent, "macro_f1"),
        _measure(rows, "Head top-1", "most frequent classes", percent, "head_top1"),
        _measure(rows, "Tail top-1", "rarest classes", percent, "tail_top1"),
        _measure(
            rows, "Worst tenth", "mean recall of the worst classes", percent, "worst_decile_recall"
        ),
        _column(
            "Like the teacher",
            "same answer",
            percent,
            [row.teacher_agreement.get("top1_agreement") for row in rows],
        ),
        _measure(rows, "Test photos", "", formatting.integer, "examples"),
    ]


def _calibration_columns(rows):
    percent, decimal = formatting.percent, formatting.decimal
    return [
        _measure(rows, "Calibration error", f"ECE, {_DOWN}", percent, "ece"),
        _measure(rows, "ECE, equal bins", _DOWN, percent, "ece_equal_mass"),
        _measure(rows, "Log loss", f"NLL in nats, {_DOWN}", decimal, "nll"),
        _measure(rows, "Brier score", _DOWN, decimal, "brier"),
        _column(
            "Temperature",
            "fitted on validation photos",
            formatting.formatter("{:.2f}"),
            [row.temperature_scaling.get("temperature") for row in rows],
        ),
        _column(
            "ECE with it",
            _DOWN,
            percent,
            [row.temperature_scaling.get("ece_after") for row in rows],
        ),
    ]


def _cost_columns(rows):
    ms = formatting.milliseconds
    return [
        _measure(rows, "File size", "", formatting.megabytes, "size_bytes"),
        _measure(rows, "Parameters", "", formatting.integer, "parameters"),
        _column("Latency p50", "", ms, [row.latency_ms.get("p50") for row in rows]),
        _column("Latency p95", "", ms, [row.latency_ms.get("p95") for row in rows]),
        _column(
            "Threads",
            "of the benchmark",
            formatting.integer,
            [row.benchmark.get("threads") for row in rows],
        ),
        _load_column(rows),
        _column(
            "File against Keras",
            "same class",
            formatting.percent,
            [row.parity.get("argmax_agreement") for row in rows],
        ),
        _column(
            "File against Keras",
            "largest logit error",
            formatting.scientific,
            [row.parity.get("max_abs_error") for row in rows],
        ),
    ]


def _measure(rows, label, more, form, key):
    """Column of one of the fields of `results.Metrics`, with its intervals."""
    intervals = [row.intervals.get(key) for row in rows]
    return _column(label, more, form, [getattr(row, key) for row in rows], intervals)


def _column(label, more, form, values, intervals=None):
    """((label, small print), cells), one cell for each model."""
    return (label, more), [
        Cell(
            form(value),
            value if formatting.known(value) else None,
            interval_text(interval, form) if interval and formatting.known(value) else "",
        )
        for value, interval in zip(values, intervals or [None] * len(values), strict=True)
    ]


def _load_column(rows):
    label, cells = _column(
        "Load of the machine",
        "when measured",
        formatting.formatter("{:.2f}"),
        [row.benchmark.get("load_average") for row in rows],
    )
    notes = ["busy: latency may be too high" * bool(row.benchmark.get("busy")) for row in rows]
    return label, [cell._replace(more=note) for cell, note in zip(cells, notes, strict=True)]


def draw_tradeoffs(run):
    """`Drawing`s of accuracy against file size and latency; dotted lines are the gates' limits.

    Args:
      run: a `results.Results`, its models in the order of the legend.
    """
    least = run.gate(results.TOP1)
    drawings = []
    for heading, axis, kind, scale, form, cost in (
        (
            "Accuracy and file size",
            "file size, MB",
            results.FILE_SIZE,
            1e-6,
            formatting.megabytes,
            lambda row: row.size_bytes,
        ),
        (
            "Accuracy and latency",
            "latency p95, ms",
            results.LATENCY,
            1,
            formatting.milliseconds,
            lambda row: row.latency_ms.get("p95"),
        ),
    ):
        points = {
            model: (
                cost(row) * scale,
                100 * row.top1,
                [100 * bound for bound in row.intervals.get("top1") or ()],
                f"{model.title}: {formatting.percent(row.top1)}, {form(cost(row))}",
            )
            for model, row in run.models.items()
            if formatting.known(cost(row)) and formatting.known(row.top1)
        }
        if len(points) < 2:
            continue
        gate = run.gate(kind)
        limit = gate and gate.limit
        note = "Up and to the left is better."
        if limit or least:
            note += " Dotted: the limits of the release gates."
        drawings.append(
            drawing(
                heading,
                f"{heading}. " + "; ".join(text for *_, text in points.values()) + ".",
                _draw_tradeoff,
                points,
                axis,
                limit and limit * scale,
                100 * least.limit if least else None,
                note=note,
            )
        )
    return drawings


def _draw_tradeoff(figure, colours, points, axis, limit, least):
    figure.set_size_inches(4.6, 2.9 + 0.22 * math.ceil(len(points) / 2))
    axes = figure.subplots()
    for model, (x, y, interval, text) in points.items():
        colour = model_colour(colours, model)
        if interval:
            axes.plot([x, x], interval, color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(
            x,
            y,
            _MARKERS.get(model.precision, "P"),
            color=colour,
            markersize=8,
            markeredgecolor=colours["ink"],
            markeredgewidth=0.5,
            label=model.title,
            linestyle="none",
            gid=hint(text),
        )
    if limit:
        axes.axvline(limit, color=colours["ink"], linewidth=1, linestyle=":")
    if least:
        axes.axhline(least, color=colours["ink"], linewidth=1, linestyle=":")
    axes.set_xscale("log")
    low, high = min(x for x, *_ in points.values()), max(x for x, *_ in points.values())
    shown = [
        value
        for value in (1, 2, 5, 10, 20, 50, 100, 0.5, 0.2, 0.1, 200, 500, 1000)
        if low / 1.5 <= value <= max(high, limit or 0) * 1.5
    ]
    axes.set_xticks(shown, [f"{value:g}" for value in shown])
    axes.minorticks_off()
    axes.grid(color=colours["grid"], linewidth=0.6)
    axes.set_xlabel(axis)
    axes.set_ylabel("top-1, %")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9.5)


def draw_bars(models):
    """`Drawing`s of accuracy, size and latency, a bar for each model."""
    drawings = []
    for heading, form, scale, measure, interval in (
        (
            "Top-1 accuracy, %",
            formatting.percent,
            100,
            lambda row: row.top1,
            lambda row: row.intervals.get("top1"),
        ),
        (
            "File size, MB",
            formatting.megabytes,
            1e-6,
            lambda row: row.size_bytes,
            lambda _: None,
        ),
        (
            "Latency p95, ms",
            formatting.milliseconds,
            1,
            lambda row: row.latency_ms.get("p95"),
            lambda _: None,
        ),
    ):
        bars = {model: (measure(row), interval(row)) for model, row in models.items()}
        if any(formatting.known(value) for value, _ in bars.values()):
            text = ", ".join(f"{model.title} {form(value)}" for model, (value, _) in bars.items())
            drawings.append(drawing(heading, f"{heading}: {text}.", _draw_bars, bars, form, scale))
    return drawings


def _draw_bars(figure, colours, bars, form, scale):
    figure.set_size_inches(4.6, 0.4 + 0.36 * len(bars))
    axes = figure.subplots()
    longest = max(value for value, _ in bars.values() if formatting.known(value)) * scale
    for position, (model, (value, interval)) in enumerate(bars.items()):
        length = end = value * scale if formatting.known(value) else 0
        axes.barh(position, length, 0.62, color=model_colour(colours, model))
        if interval:
            low, end = (bound * scale for bound in interval)
            axes.plot([low, end], [position] * 2, color=colours["ink"], linewidth=1.2)
        axes.text(end + 0.015 * longest, position, form(value), va="center", fontsize=10)
    axes.set_yticks(range(len(bars)), [formatting.shortened(model.title) for model in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, longest * 1.35)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(left=False)
