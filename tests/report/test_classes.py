"""Frequent and rare classes."""

from kdtf import results
from kdtf.report import classes
from kdtf.results import Comparison, Metrics

CLASSES = [
    {"name": name, "train_examples": count, "test_examples": 4}
    for name, count in (("apple", 60), ("pear", 30), ("plum", 10))
]


def test_classes_are_listed_the_worst_first_those_without_photos_last():
    models = {
        results.TEACHER: Metrics(tail_top1=0.9),
        results.BASELINE: Metrics(recall=[0.5, None, 0.75], tail_top1=0.75),
        results.DISTILLED: Metrics(recall=[0.75, None, 0.25], tail_top1=0.25),
    }
    differences = {"tail_top1": {"difference": -0.5, "interval": [-0.8, -0.1]}}
    section = classes.classes_section(models, Comparison(differences=differences), CLASSES)
    (words,) = section.words
    assert words.endswith("changed top-1 by −50.0 points (interval −80.0 to −10.0).")
    (table,) = section.tables
    assert [row[0].text for row in table.rows] == ["plum", "apple", "pear"]
    assert table.rows[2][5].text == "not measured"
    assert section.drawings[1].note.startswith("1 of 2 classes gained, 1 lost.")


def test_nothing_measured_is_no_section():
    assert classes.classes_section({results.DISTILLED: Metrics()}, None, []) is None
