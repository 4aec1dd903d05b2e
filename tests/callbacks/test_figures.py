"""What the pictures of an epoch count and show."""

import html
import io
import re
import tracemalloc

import markdown
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtf.callbacks import figures

NAMES = ["apple", "pear", "plum", "kiwi"]
LABELS = np.array([0, 0, 1, 1, 1, 3])
PREDICTIONS = np.array([0, 1, 1, 0, 0, 3])


def logits_of(predictions, classes=4, height=3.0):
    return height * np.eye(classes)[predictions]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1), st.integers(1, 10))
def test_confusion_counts_keep_every_photo(pairs, most):
    labels, predictions = np.array(pairs).T
    counts, shown = figures.confusion_counts(predictions, labels, 9, most)
    assert counts.sum() == len(pairs)
    assert len(shown) == min(most, 9) and len(counts) == (most + 1 if most < 9 else 9)
    for place, number in enumerate(shown):
        assert counts[place].sum() == np.sum(labels == number)
        assert counts[place, place] == np.sum((labels == number) & (predictions == number))


def test_confusion_counts_show_the_classes_in_the_most_mistakes():
    """Golden: 0 and 1 are in three mistakes, 3 in none; plum has no photo."""
    counts, shown = figures.confusion_counts(PREDICTIONS, LABELS, 4, most=2)
    np.testing.assert_array_equal(shown, [0, 1])
    np.testing.assert_array_equal(counts, [[1, 1, 0], [2, 1, 0], [0, 0, 1]])


def test_recall_table_has_the_lowest_first_and_says_what_is_left_out():
    table = figures.recall_table(logits_of(PREDICTIONS), LABELS, NAMES).splitlines()
    assert table[2:5] == [
        "| pear | 33% | 3 | apple (2) |",
        "| apple | 50% | 2 | pear (1) |",
        "| kiwi | 100% | 1 |  |",
    ]
    assert table[-1] == "Left out: 1 classes without a photo here."


def test_the_recall_table_of_many_classes_is_cut():
    labels = np.arange(60)
    table = figures.recall_table(np.eye(60), labels, [f"c{n}" for n in labels])
    assert table.count("\n| c") == 50
    assert table.endswith("Left out: 10 classes with a recall as high or higher.")


def test_the_hardest_photo_comes_first():
    logits = logits_of(np.array([0, 1, 2, 3]))
    logits[2, 2] = 9.0
    np.testing.assert_array_equal(figures.hardest(logits, np.array([0, 0, 0, 0]), 3), [2, 1, 3])


def test_measures_of_a_hand_worked_case():
    """Two classes, probabilities 0.75: two of four right, so |0.5 - 0.75| = 0.25."""
    logits = np.log([[3.0, 1.0]] * 4)
    found = figures.measures(logits, np.array([0, 0, 1, 1]), 2)
    assert found["accuracy"] == 0.5
    assert found["mean_confidence"] == pytest.approx(0.75)
    assert found["ece"] == pytest.approx(0.25)
    assert found["nll"] == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)
    assert found["macro_f1"] == pytest.approx(1 / 3)
    assert found["worst_decile_recall"] == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_not_blank(channels):
    logits = logits_of(PREDICTIONS)
    images = np.arange(6 * 8 * 8 * channels).reshape(6, 8, 8, channels).astype(np.uint8)
    for png in (
        figures.confusion_figure(logits, LABELS, NAMES),
        figures.reliability_figure(logits, LABELS),
        figures.hardest_figure(images, logits, LABELS, NAMES),
    ):
        pixels = np.asarray(PIL.Image.open(io.BytesIO(png)).convert("L"))
        assert pixels.min() < 80 and pixels.max() == 255


def test_a_name_stays_itself_in_a_table_of_markdown():
    names = ["a|b", "*x* _y_", "<b>`c`", "US$5\nbag"]
    table = figures.recall_table(logits_of(PREDICTIONS), LABELS, names)
    page = markdown.markdown(table, extensions=["tables"])
    rows = re.findall(r"<tr>\s*<td>(.*?)</td>\s*<td>(.*?)</td>", page)
    assert [(html.unescape(name), recall) for name, recall in rows] == [
        ("*x* _y_", "33%"),
        ("a|b", "50%"),
        ("US$5 bag", "100%"),
    ]


def test_thousands_of_classes_take_no_matrix_of_them_all():
    classes, photos = 20_000, 256
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, photos)
    logits = rng.normal(size=(photos, classes)).astype("float32")
    tracemalloc.start()
    try:
        figures.confusion_figure(logits, labels, [f"c{n}" for n in range(classes)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * logits.size * 8  # a matrix would take 3.2 GB
