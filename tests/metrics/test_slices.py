import json

import numpy as np
import pytest

from kdtf.metrics import comparison, intervals, slices

CORRECT = np.array([True, True, False, True, False, True])
COLUMNS = {
    "region": ["north", "south", None, "south", None, "south"],
    "camera": ["a", "a", "a", "a", "a", "a"],
}


def test_slices_golden():
    got = slices.slice_accuracy(CORRECT, COLUMNS, low_support=2)
    assert list(got) == ["region", "camera"]
    assert [
        (row["value"], row["examples"], row["top1"], row["low_support"]) for row in got["region"]
    ] == [("south", 3, 1.0, False), ("north", 1, 1.0, True), (None, 2, 0.0, False)]
    (camera,) = got["camera"]
    assert camera["top1"] == pytest.approx(4 / 6)
    assert camera["interval"] == intervals.proportion_interval(4, 6)
    assert json.loads(json.dumps(got)) == got
    assert slices.slice_accuracy(CORRECT, {}) == {}


def test_every_photo_is_in_one_slice_of_each_column():
    rng = np.random.default_rng(0)
    correct = rng.random(200) < 0.7
    column = [None if n == 3 else f"shop {n}" for n in rng.integers(0, 9, 200)]
    rows = slices.slice_accuracy(correct, {"shop": column})["shop"]
    assert sum(row["examples"] for row in rows) == 200
    assert sum(row["examples"] * row["top1"] for row in rows) == pytest.approx(correct.sum())
    assert rows[-1]["value"] is None
    assert [row["low_support"] for row in rows] == [row["examples"] < 30 for row in rows]


def test_differences_are_those_of_the_slice():
    other = np.array([True, False, True, True, True, True])
    got = slices.slice_differences(CORRECT, other, COLUMNS)["region"]
    assert [(row["value"], row["difference"]) for row in got] == [
        ("south", pytest.approx(-1 / 3)),
        ("north", 0.0),
        (None, 1.0),
    ]
    want = comparison.paired_difference(CORRECT[[1, 3, 5]], other[[1, 3, 5]])
    assert got[0] == want | {"value": "south", "examples": 3, "low_support": True}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: slices.slice_accuracy([1, 0], {}), "must be a bool vector"),
        (lambda: slices.slice_accuracy(CORRECT, {"x": ["a"]}), "'x' has 1 values for 6 photos"),
        (lambda: slices.slice_differences(CORRECT, CORRECT[:3], {}), r"correct_distilled.*\(3,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
