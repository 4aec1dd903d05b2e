"""The verdict in words, and its drawing."""

from dataclasses import replace

import pytest
from report_example import example, written

from kdtf.report import verdict as verdict_module
from kdtf.results import Comparison


@pytest.mark.parametrize(
    "verdict, headline, meaning",
    [
        ("hurts", "Distillation made the student worse", "recognises fewer products"),
        ("no difference shown", "No difference shown", "cannot tell the two apart"),
    ],
)
def test_other_verdicts(tmp_path, verdict, headline, meaning):
    results = example()
    results["verdict"] |= {"verdict": verdict, "difference": -0.004, "p_value": 0.4217}
    for text in written(tmp_path, results):
        assert headline in text and meaning in text
        assert "−0.4 percentage points" in text and "p = 0.422" in text


def test_students_that_learned_from_different_photos_are_said_to_have(tmp_path):
    results = example()
    for labels in (264, 2640):
        results["environment"] = {"training_photos": 2640, "training_labels": labels}
        for text in written(tmp_path, results):
            told = "Of 2,640 training photos 264 have a label" in text
            assert told == (labels == 264) == ("the baseline not at all" in text)


def test_a_gain_has_the_colour_of_its_verdict():
    comparison = Comparison(
        verdict="no difference shown", difference=0.023, interval=[0.0001, 0.046]
    )
    drawing = verdict_module.draw_gains({"8-bit files": comparison, "float files": None})
    assert "--chart-good" not in drawing.svg
    helping = replace(comparison, verdict="helps")
    assert "--chart-good" in verdict_module.draw_gains({"8-bit files": helping}).svg
    assert verdict_module.draw_gains({"float files": None}) is None
