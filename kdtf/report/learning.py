"""How the students learned: their curves, training in 8 bits behind the other."""

import math

from kdtf import formatting, results
from kdtf.plotting import drawing, model_colour
from kdtf.report.table import Section

_LINES = {results.BASELINE: ("--", "s"), results.DISTILLED: ("-", "o")}
_CURVES = (
    ("val_accuracy", "Validation accuracy", formatting.percent, 100, "accuracy, %"),
    ("label_loss", "Label loss", formatting.decimal, 1, "cross-entropy, nats"),
)


def learning_section(history):
    """Section of the learning curves.

    Args:
      history: as of `results.Results`.
    """
    drawings = draw_learning(history)
    words = [] if drawings else [f"Learning curves: {formatting.NOT_MEASURED}."]
    return Section("learning", "Learning curves", words, drawings)


def draw_learning(history):
    """`Drawing`s of the learning curves of both students, training in 8 bits behind the other."""
    drawings = []
    for key, heading, form, *axis in _CURVES:
        curves = _curves(history, key)
        if curves:
            ends = ", ".join(
                f"{student.title} ends at {form((floats + eights)[-1])}"
                for student, (floats, eights) in curves.items()
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
    for student, (floats, eights) in curves.items():
        dash, marker = _LINES[student]
        values = [value * scale for value in floats + eights]
        axes.plot(
            range(1, len(values) + 1),
            values,
            dash,
            marker=marker,
            markersize=4,
            color=model_colour(colours, student),
            label=student.title,
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

    A baseline's whole loss is that of its labels, if not told apart.
    """
    curves = {}
    for student in _LINES:
        parts = []
        for model in (student, student.at("int8")):
            epochs = history.get(model) or {}
            values = epochs.get(key)
            if not values and key == "label_loss" and student == results.BASELINE:
                values = epochs.get("loss")
            parts.append([math.nan if value is None else value for value in values or ()])
        if any(parts):
            curves[student] = tuple(parts)
    return curves
