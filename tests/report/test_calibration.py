"""Calibration, and when to ask a person."""

from kdtf import results
from kdtf.report import calibration
from kdtf.results import Metrics

CURVE = [
    {"confidence": 0.3, "accuracy": 0.5, "interval": [0.2, 0.8], "examples": 10},
    {"confidence": 0.9, "accuracy": 0.6, "interval": [0.5, 0.7], "examples": 30},
]
SELECTIVE = {
    "curve": {"coverage": [0.5, 1.0], "risk": [0.1, 0.2], "threshold": [0.9, 0.1]},
    "thresholds": [
        {
            "target_accuracy": 0.9,
            "threshold": 0.7,
            "coverage": 0.8,
            "accuracy": 0.91,
            "interval": [0.88, 0.93],
        },
        {"target_accuracy": 0.99, "threshold": None},
    ],
}


def test_a_model_that_is_too_sure_is_said_to_be():
    """By hand: (10 * -0.2 + 30 * 0.3) / 40 = 17.5 points."""
    section = calibration.calibration_section(
        {results.TEACHER: Metrics(), results.SHIPPED: Metrics(reliability=CURVE, ece=0.275)}
    )
    (drawing,) = section.drawings
    assert drawing.heading == "Reliability: Distilled int8"
    assert drawing.note == (
        "Calibration error 27.5 %; on average it is too sure of itself by 17.5 points."
    )
    assert calibration.calibration_section({results.TEACHER: Metrics()}) is None


def test_thresholds_that_nothing_reaches_are_named():
    section = calibration.selective_section({results.SHIPPED: Metrics(selective=SELECTIVE)})
    (table,) = section.tables
    assert table.caption == "Thresholds of Distilled int8"
    reached, missed = table.rows
    assert [cell.text for cell in reached] == ["90 %", "70 %", "80.0 %", "91.0 %"]
    assert reached[3].more == "88.0 to 93.0 %"
    assert [cell.text for cell in missed] == ["99 %", "none reaches it", "none", "none"]
    # Halfway between 10 % and 20 % of errors, at 80 % answered: 16 %.
    assert "Distilled int8 84.0 %" in section.drawings[0].alt
    assert calibration.selective_section({results.SHIPPED: Metrics()}) is None
