"""Drawings of measures."""

import io

import numpy as np
import PIL.Image
import pytest
import scipy.sparse
from matplotlib.figure import Figure

from kdtf import metrics, plotting
from kdtf.metrics import displays

COUNTS = np.array([[6, 3, 1], [0, 4, 0], [0, 0, 0]])
NAMES = ["apple", "pear", "a plum with quite a long name"]
COLOURS = plotting.THEMES["light"]


def confusion_axes(*data):
    figure = Figure()
    displays.draw_confusion(figure, COLOURS, *data)
    (axes,) = figure.axes
    return axes


def test_strength_is_the_fraction_of_the_label_and_colour_says_right_or_wrong():
    """Golden: opacity 0.25 + 0.75 sqrt(fraction); nothing where there are no photos."""
    (image,) = confusion_axes(COUNTS).images
    opacity = np.asarray(image.get_array())[..., 3]
    np.testing.assert_allclose(
        opacity, [[0.25 + 0.75 * np.sqrt(f) for f in (0.6, 0.3, 0.1)], [0, 1, 0], [0, 0, 0]]
    )
    colours = np.asarray(image.get_array())[..., :3]
    red, blue = colours[..., 0], colours[..., 2]
    np.testing.assert_array_equal(blue > red, np.eye(3, dtype=bool))


def test_named_classes_have_counts_in_their_cells():
    axes = confusion_axes(COUNTS, NAMES)
    shown = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "6", (0, 1): "3", (0, 2): "1", (1, 1): "4"}
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == ["apple", "pear", "a plum wi… long name"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "label")


def test_unnamed_classes_are_numbered():
    axes = confusion_axes(np.eye(40, dtype=int))
    assert not axes.texts and axes.get_xlabel() == "predicted (class number)"


def test_the_figure_grows_with_its_names():
    sizes = []
    for classes in (4, 21):
        figure = Figure()
        displays.draw_confusion(figure, COLOURS, np.eye(classes, dtype=int), ["x"] * classes)
        sizes.append(figure.get_size_inches()[0])
    assert sizes[0] == pytest.approx(4.6) and sizes[1] > 6


def test_reliability_shows_each_bin_with_its_interval():
    logits = np.log([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 2)
    curve = metrics.reliability_curve(logits, np.array([0, 0, 0, 1, 0, 1]))
    figure = Figure()
    displays.draw_reliability(figure, COLOURS, curve, "distilled")
    axes, below = figure.axes
    diagonal, joined = axes.lines[:2]
    assert diagonal.get_xdata()[-1] == diagonal.get_ydata()[-1] == 100
    np.testing.assert_allclose(joined.get_xdata(), [60, 90])
    np.testing.assert_allclose(joined.get_ydata(), [50, 75])
    np.testing.assert_allclose(axes.lines[2].get_ydata(), np.multiply(curve[0]["interval"], 100))
    assert joined.get_color() == COLOURS["distilled"]
    assert [bar.get_height() for bar in below.patches] == [2, 4]


@pytest.mark.parametrize("names", [None, NAMES])
def test_pictures_are_not_blank(names):
    png = plotting.png(displays.draw_confusion, COUNTS, names)
    pixels = np.asarray(PIL.Image.open(io.BytesIO(png)).convert("L"))
    assert pixels.min() < 80 and pixels.max() == 255


def test_a_cell_of_thousands_of_classes_shows_the_strongest_of_those_it_stands_for():
    classes = 2500  # 2.5 classes a cell
    counts = scipy.sparse.coo_array(
        ([4, 1, 3, 9], ([0, 0, 7, 2499], [0, 2400, 7, 2499])), (classes, classes)
    )
    axes = confusion_axes(counts)
    (image,) = axes.images
    drawn = np.asarray(image.get_array())
    assert drawn.shape == (1000, 1000, 4)
    shown = {tuple(map(int, place)) for place in np.argwhere(drawn[..., 3])}
    assert shown == {(0, 0), (0, 960), (2, 2), (999, 999)}
    assert drawn[0, 960, 3] == pytest.approx(0.25 + 0.75 * np.sqrt(1 / 5))
    blue = drawn[..., 2] > drawn[..., 0]
    assert not blue[0, 960] and blue[0, 0] and blue[999, 999]
    assert axes.get_xlim() == (-0.5, classes - 0.5)


def test_sparse_and_dense_counts_are_drawn_alike():
    for names in (None, NAMES):
        dense = plotting.png(displays.draw_confusion, COUNTS, names)
        assert plotting.png(displays.draw_confusion, scipy.sparse.csr_array(COUNTS), names) == dense
