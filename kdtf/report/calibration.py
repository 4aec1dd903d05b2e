"""Can a model's confidence be trusted, and when should a person be asked instead?"""

import numpy as np

from kdtf import formatting, results
from kdtf.metrics import displays
from kdtf.plotting import THEMES, drawing, model_colour
from kdtf.report.table import Cell, Section, Table, interval_text

_LINES = {results.BASELINE.role: "--", results.TEACHER.role: ":"}


def calibration_section(models):
    """Section of reliability diagrams, or None where nothing was measured.

    Args:
      models: {`results.Model`: `results.Metrics`} of the teacher and the pair of students.
    """
    drawings = [
        draw_reliability(model, measured.reliability, measured.ece)
        for model, measured in models.items()
        if measured.reliability
    ]
    if not drawings:
        return None
    return Section(
        "calibration",
        "Can its confidence be trusted?",
        [
            "When a model says 80 %, it should be right in 80 % of such cases: on the dotted line. "
            "Below it the model is too sure of itself. A temperature, fitted on validation photos, "
            "corrects that without changing any answer."
        ],
        drawings,
    )


def selective_section(models):
    """Section of thresholds below which a person is asked, or None where nothing was measured.

    Args:
      models: as of `calibration_section`; the thresholds are those of the last one.
    """
    models = {model: measured for model, measured in models.items() if measured.selective}
    if not models:
        return None
    model, measured = list(models.items())[-1]
    return Section(
        "ask",
        "When to ask a person",
        [
            "Below a threshold the answer is not given and a person looks. Thresholds were chosen "
            "on validation photos; what they give was measured on test photos."
        ],
        [draw_selective(models)],
        [
            Table(
                f"Thresholds of {model.title}",
                [
                    ("To be right in", "aim"),
                    ("Answer from", "calibrated confidence"),
                    ("Answered", "of the test photos"),
                    ("Right among these", "measured"),
                ],
                [_threshold_row(each) for each in measured.selective["thresholds"]],
            )
        ],
    )


def _threshold_row(each):
    reached = each["threshold"] is not None
    coverage, accuracy = each.get("coverage"), each.get("accuracy")
    return [
        Cell(formatting.share(each["target_accuracy"]), each["target_accuracy"]),
        Cell(
            formatting.share(each["threshold"]) if reached else "none reaches it",
            each["threshold"],
        ),
        Cell(formatting.percent(coverage) if reached else "none", coverage),
        Cell(
            formatting.percent(accuracy) if reached else "none",
            accuracy,
            interval_text(each.get("interval"), formatting.percent),
        ),
    ]


def draw_reliability(model, curve, ece):
    """`Drawing` of how often a model is right at each confidence it states.

    Args:
      model: a `results.Model`.
      curve: as `metrics.reliability_curve` returns it.
      ece: fraction, or None.
    """
    gap = sum(row["examples"] * (row["confidence"] - row["accuracy"]) for row in curve)
    photos = sum(row["examples"] for row in curve)
    text = (
        f"calibration error {formatting.percent(ece)}; on average it is too "
        f"{'sure' if gap > 0 else 'unsure'} of itself by {abs(100 * gap / photos):.1f} points."
    )
    return drawing(
        f"Reliability: {model.title}",
        f"Reliability of {model.title}: {text}",
        displays.draw_reliability,
        curve,
        model.role if model.role in THEMES["light"] else "other",
        note=text[0].upper() + text[1:],
    )


def draw_selective(models):
    """`Drawing` of how often answers are right when a person gets the least confident photos.

    Args:
      models: {`results.Model`: `results.Metrics` with selective}.
    """
    curves = {model: measured.selective["curve"] for model, measured in models.items()}
    text = []
    for model, curve in curves.items():
        risk = np.interp(0.8, curve["coverage"], curve["risk"])
        text.append(f"{model.title} {formatting.percent(1 - risk)}")
    return drawing(
        "Right answers when the model may pass",
        f"Share of right answers when the most confident 80 % of the photos are answered: "
        f"{', '.join(text)}.",
        _draw_selective,
        curves,
        note="From right to left: the less confident photos go to a person.",
    )


def _draw_selective(figure, colours, curves):
    figure.set_size_inches(4.6, 3.3)
    axes = figure.subplots()
    for model, curve in curves.items():
        axes.plot(
            100 * np.asarray(curve["coverage"]),
            100 - 100 * np.asarray(curve["risk"]),
            _LINES.get(model.role, "-"),
            linewidth=2,
            color=model_colour(colours, model),
            label=model.title,
        )
    axes.set_xlim(0, 100)
    axes.set_xlabel("photos answered, %")
    axes.set_ylabel("right among them, %")
    axes.grid(color=colours["grid"], linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9.5)
