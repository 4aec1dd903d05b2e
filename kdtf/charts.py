"""Pictures of a report: learning curves, bars, the interval of the gain, in light and dark."""

import base64
import io
import math

import matplotlib
from matplotlib.figure import Figure

from kdtf import wording

# Okabe and Ito's colours, told apart by people with any colour vision, and by marker and dash.
_THEMES = {
    "light": {"ink": "#1b1f24", "grid": "#d5d9de", "teacher": "#6b7280", "baseline": "#c44e00",
              "distilled": "#0072b2", "other": "#009e73", "paper": "#ffffff"},
    "dark": {"ink": "#e6e8eb", "grid": "#3a4048", "teacher": "#a3a9b3", "baseline": "#f0a35e",
             "distilled": "#56b4e9", "other": "#2ecfa0", "paper": "#1b1f24"},
}
_LINES = {"baseline": ("--", "s"), "distilled": ("-", "o")}


def draw_charts(models, history, verdict):
    """Charts of the page: heading, alternative text, and one image for each theme."""
    def chart(heading, alt, draw, *data):
        images = {
            theme: "data:image/svg+xml;base64," + base64.b64encode(
                render(draw, theme, "svg", *data)).decode()
            for theme in _THEMES}
        return {"heading": heading, "alt": alt, **images}

    def told(form, *keys):
        def value(model):
            for key in keys:
                model = (model or {}).get(key)
            return model
        values = {name: value(model) for name, model in models.items()}
        return values, ", ".join(f"{wording.title(name)} {form(v)}" for name, v in values.items())

    charts = []
    if verdict.get("difference") is not None:
        low, high = (wording.points(bound) for bound in verdict["interval"])
        charts.append(chart(
            "Gain in top-1, percentage points",
            f"Distilled minus baseline: {wording.points(verdict['difference'])} points, "
            f"interval {low} to "
            f"{high}.", _draw_interval, verdict))
    for key, heading, form in (
            ("val_accuracy", "Validation accuracy", wording.percent),
            ("hard_loss", "Hard loss", wording.decimal)):
        curves = _curves(history, key)
        if curves:
            ends = ", ".join(
                f"{wording.title(name)} ends at {form(c[-1])}" for name, c in curves.items())
            charts.append(chart(
                f"{heading} by epoch", f"{heading} by epoch: {ends}.", _draw_curve, curves, key))
    for heading, form, scale, keys in (
            ("Top-1 accuracy, %", wording.percent, 100, ("top1",)),
            ("File size, MB", wording.megabytes, 1e-6, ("size_bytes",)),
            ("Latency p95, ms", wording.milliseconds, 1, ("latency_ms", "p95"))):
        values, text = told(form, *keys)
        if any(wording.known(value) for value in values.values()):
            charts.append(chart(heading, f"{heading}: {text}.", _draw_bars, values, form, scale))
    return charts


def draw_curves(figure, colours, history):
    """Both learning curves side by side, for report_curves.png."""
    figure.set_size_inches(10, 3.6)
    for axes, key, heading in zip(
            figure.subplots(1, 2), ("hard_loss", "val_accuracy"),
            ("Hard loss", "Validation accuracy, %"), strict=True):
        curves = _curves(history, key)
        _plot(axes, colours, curves, key)
        axes.set_title(heading if curves else f"{heading}: {wording.NOT_MEASURED}")


def _draw_curve(figure, colours, curves, key):
    figure.set_size_inches(4.6, 2.9)
    _plot(figure.subplots(), colours, curves, key)


def _plot(axes, colours, curves, key):
    scale = 100 if key == "val_accuracy" else 1
    for name, values in curves.items():
        dash, marker = _LINES[name]
        axes.plot(range(1, len(values) + 1), [value * scale for value in values], dash,
                  marker=marker, markersize=4, color=colours[name], label=wording.title(name))
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy, %" if key == "val_accuracy" else "cross-entropy with the labels")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(color=colours["grid"], linewidth=0.6)
    if curves:
        axes.legend(frameon=False)


def _draw_bars(figure, colours, values, form, scale):
    figure.set_size_inches(4.6, 0.4 + 0.4 * len(values))
    axes = figure.subplots()
    longest = max(value for value in values.values() if wording.known(value)) * scale
    for position, (name, value) in enumerate(values.items()):
        length = value * scale if wording.known(value) else 0
        family = name.removesuffix("_int8")
        axes.barh(position, length, 0.62, color=colours.get(family, colours["other"]))
        axes.text(length + 0.015 * longest, position, form(value), va="center")
    axes.set_yticks(range(len(values)), [wording.title(name) for name in values])
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
    axes.text(difference, 0.25, wording.points(verdict["difference"]), ha="center", va="bottom")
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


def render(draw, theme, kind, *data):
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
