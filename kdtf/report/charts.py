"""Pictures of how good, small and quick each model is, and of how it learned."""

import math

from kdtf import formatting
from kdtf.plotting import drawing, hint

_LINES = {"baseline": ("--", "s"), "distilled": ("-", "o")}
_MARKERS = {"": "o", "int8": "s", "ptq_int8": "D", "dynamic_range": "^", "float16": "v"}
_CURVES = (
    ("val_accuracy", "Validation accuracy", formatting.percent, 100, "accuracy, %"),
    ("label_loss", "Loss on labels", formatting.decimal, 1, "cross-entropy, nats"),
)


def draw_gains(verdicts):
    """`Drawing` of the gain in top-1 with its interval, a row for each pair of students.

    Args:
      verdicts: {which students, in words: a verdict of results.json with a difference}.
    """
    rows = [
        (name, verdict["verdict"], verdict["difference"], *verdict["interval"])
        for name, verdict in verdicts.items()
    ]
    told = "; ".join(
        f"{name} {formatting.points(difference)} points, {formatting.span(interval)}, {said}"
        for name, said, difference, *interval in rows
    )
    return drawing(
        "Gain in top-1, percentage points", f"Distilled minus baseline: {told}.", draw_forest, rows
    )


def draw_forest(figure, colours, rows):
    """Differences and their intervals, one under the other, around a line at none.

    Args:
      figure: a matplotlib figure.
      colours: {name: colour}.
      rows: list of (name, verdict, difference, low, high), the numbers fractions, the last two None
        where unknown. The colour is the verdict's: an interval that just excludes 0 is not enough
        where the test of `comparison.paired_difference` says otherwise.
    """
    figure.set_size_inches(4.6, 0.95 + 0.33 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=colours["ink"], linewidth=1, linestyle=":")
    for position, (name, verdict, difference, low, high) in enumerate(rows):
        colour = colours[{"helps": "good", "hurts": "bad"}.get(verdict, "soft")]
        text = f"{name}: {formatting.points(difference)} points"
        if low is not None:
            text += f", {formatting.span((low, high))}"
            axes.plot(
                [100 * low, 100 * high],
                [position] * 2,
                color=colour,
                linewidth=3,
                solid_capstyle="butt",
            )
        axes.plot(100 * difference, position, "o", color=colour, markersize=8, gid=hint(text))
        axes.text(
            1.02,
            position,
            formatting.points(difference),
            va="center",
            transform=axes.get_yaxis_transform(),
        )
    reach = 115 * max([0.005, *(abs(bound or 0) for row in rows for bound in row[2:])])
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [_short(name) for name, *_ in rows])
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("← baseline better\u00a0\u00a0\u00a0\u00a0 distilled better →")


def draw_tradeoffs(models, gates):
    """`Drawing`s of accuracy against file size and latency; dotted lines are the gates' limits.

    Args:
      models: "models" of results.json, in the order of the legend.
      gates: "gates" of results.json.
    """
    limits = {gate.get("unit"): gate["limit"] for gate in gates if gate.get("unit") != "fraction"}
    shares = [gate["limit"] for gate in gates if gate["name"].startswith("Top-1 accuracy")]
    drawings = []
    for heading, unit, scale, form, keys in (
        ("Accuracy and file size", "bytes", 1e-6, formatting.megabytes, ("size_bytes",)),
        ("Accuracy and latency", "ms", 1, formatting.milliseconds, ("latency_ms", "p95")),
    ):
        points = {
            name: (
                dig(model, *keys) * scale,
                100 * model["top1"],
                [100 * bound for bound in dig(model, "intervals", "top1") or ()],
                f"{formatting.title(name)}: {formatting.percent(model['top1'])}, "
                f"{form(dig(model, *keys))}",
            )
            for name, model in models.items()
            if formatting.known(dig(model, *keys)) and formatting.known(model.get("top1"))
        }
        if len(points) > 1:
            axis = "file size, MB" if unit == "bytes" else "latency p95, ms"
            limit = limits.get(unit)
            drawings.append(
                drawing(
                    heading,
                    f"{heading}. " + "; ".join(text for *_, text in points.values()) + ".",
                    _draw_tradeoff,
                    points,
                    axis,
                    limit and limit * scale,
                    100 * shares[0] if shares else None,
                    note="Up and to the left is better. Dotted: the limits of the release gates."
                    if limit or shares
                    else "Up and to the left is better.",
                )
            )
    return drawings


def _draw_tradeoff(figure, colours, points, axis, limit, least):
    figure.set_size_inches(4.6, 2.9 + 0.22 * math.ceil(len(points) / 2))
    axes = figure.subplots()
    for name, (x, y, interval, text) in points.items():
        colour, marker = _look(name, colours)
        if interval:
            axes.plot([x, x], interval, color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(
            x,
            y,
            marker,
            color=colour,
            markersize=8,
            markeredgecolor=colours["ink"],
            markeredgewidth=0.5,
            label=formatting.title(name),
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
    for heading, form, scale, keys in (
        ("Top-1 accuracy, %", formatting.percent, 100, ("top1",)),
        ("File size, MB", formatting.megabytes, 1e-6, ("size_bytes",)),
        ("Latency p95, ms", formatting.milliseconds, 1, ("latency_ms", "p95")),
    ):
        values = {name: dig(model, *keys) for name, model in models.items()}
        if any(formatting.known(value) for value in values.values()):
            ranges = {name: dig(model, "intervals", *keys) for name, model in models.items()}
            told = ", ".join(f"{formatting.title(name)} {form(v)}" for name, v in values.items())
            drawings.append(
                drawing(heading, f"{heading}: {told}.", _draw_bars, values, ranges, form, scale)
            )
    return drawings


def _draw_bars(figure, colours, values, ranges, form, scale):
    figure.set_size_inches(4.6, 0.4 + 0.36 * len(values))
    axes = figure.subplots()
    longest = max(value for value in values.values() if formatting.known(value)) * scale
    for position, (name, value) in enumerate(values.items()):
        length = end = value * scale if formatting.known(value) else 0
        axes.barh(position, length, 0.62, color=_look(name, colours)[0])
        if ranges[name]:
            low, end = (bound * scale for bound in ranges[name])
            axes.plot([low, end], [position] * 2, color=colours["ink"], linewidth=1.2)
        axes.text(end + 0.015 * longest, position, form(value), va="center", fontsize=10)
    axes.set_yticks(range(len(values)), [_short(formatting.title(name)) for name in values])
    axes.invert_yaxis()
    axes.set_xlim(0, longest * 1.35)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(left=False)


def draw_learning(history):
    """`Drawing`s of the learning curves of both students, training in 8 bits behind the other."""
    drawings = []
    for key, heading, form, *axis in _CURVES:
        curves = _curves(history, key)
        if curves:
            ends = ", ".join(
                f"{formatting.title(name)} ends at {form(joined[-1])}"
                for name, joined in (
                    (name, floats + eights) for name, (floats, eights) in curves.items()
                )
            )
            both = any(floats and eights for floats, eights in curves.values())
            drawings.append(
                drawing(
                    f"{heading} by epoch",
                    f"{heading} by epoch: {ends}.",
                    _draw_curve,
                    curves,
                    *axis,
                    note="Behind the dotted line: training in 8 bits." if both else "",
                )
            )
    return drawings


def draw_curves(figure, colours, history):
    """Both learning curves side by side, for report_curves.png."""
    figure.set_size_inches(10, 3.6)
    panels = figure.subplots(1, 2)
    for axes, (key, heading, _, *axis) in zip(panels, _CURVES[::-1], strict=True):
        curves = _curves(history, key)
        _plot(axes, colours, curves, *axis)
        axes.set_title(heading if curves else f"{heading}: {formatting.NOT_MEASURED}")


def _draw_curve(figure, colours, curves, scale, label):
    figure.set_size_inches(4.6, 2.9)
    _plot(figure.subplots(), colours, curves, scale, label)


def _plot(axes, colours, curves, scale, label):
    for name, (floats, eights) in curves.items():
        dash, marker = _LINES[name]
        values = [value * scale for value in floats + eights]
        axes.plot(
            range(1, len(values) + 1),
            values,
            dash,
            marker=marker,
            markersize=4,
            color=colours[name],
            label=formatting.title(name),
        )
    borders = {len(floats) + 0.5 for floats, eights in curves.values() if floats and eights}
    for border in sorted(borders):
        axes.axvline(border, color=colours["soft"], linewidth=1, linestyle=":")
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(color=colours["grid"], linewidth=0.6)
    if curves:
        axes.legend(frameon=False)


def _curves(history, key):
    """{student: (values of its training, of that in 8 bits)}, where there are any.

    A baseline's whole loss is its loss on labels, if not told apart.
    """
    found = {}
    for name in _LINES:
        parts = []
        for part in (name, f"{name}_int8"):
            epochs = history.get(part) or {}
            values = epochs.get(key)
            if not values and key == "label_loss" and name == "baseline":
                values = epochs.get("loss")
            parts.append([math.nan if value is None else value for value in values or ()])
        if any(parts):
            found[name] = tuple(parts)
    return found


def dig(model, *keys):
    """A value in nested dicts, or None where one of the keys leads nowhere."""
    for key in keys:
        model = (model or {}).get(key)
    return model


def _look(name, colours):
    """(colour, marker) of a model: its student decides the colour, its weights the marker."""
    student, _, weights = name.partition("_")
    return colours.get(student, colours["other"]), _MARKERS.get(weights, "P")


def _short(name, most=22):
    return name if len(name) <= most else name[: most - 1] + "…"
