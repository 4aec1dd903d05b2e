"""Drawings of measures on a matplotlib figure, for reports and TensorBoard alike.

plotting.png(displays.draw_confusion, counts, names)
plotting.drawing("Reliability", alt, displays.draw_reliability, curve)
"""

import numpy as np
import scipy.sparse

from kdtf import formatting
from kdtf.plotting import hint

_WIDTH = 4.6  # inches, of a drawing in a report
_ROW = 0.21  # inches that a named class takes
_NAME_LENGTH = 20  # characters
_MOST_CELLS = 1000  # of a row: more than the picture has pixels
# They stand out on white and on black, and text of either theme on them; opacity is the fraction.
_RIGHT, _WRONG = "#2f81c7", "#e0661a"


def draw_confusion(figure, colours, counts, names=None):
    """A confusion matrix: right answers on the diagonal in blue, mistakes off it in orange.

    The stronger a cell, the larger the fraction of its label's photos.

    Args:
      figure: a matplotlib figure.
      colours: {name: colour} as of `plotting.THEMES`.
      counts: int [classes, classes], photos by label (rows) and prediction (columns); an array or,
        for thousands of classes, a sparse one of SciPy. Above a thousand classes a cell stands for
        several, and shows the strongest of them.
      names: list of str, one for each row; they and the counts are shown, and the figure grows
        with them. None: class numbers, for more classes than can be named.
    """
    counts = scipy.sparse.coo_array(counts)
    classes = counts.shape[0]
    figure.set_size_inches(_WIDTH, _WIDTH - 0.2)
    axes = figure.subplots()
    # Cells are numbered by class, however many classes one stands for.
    extent = (-0.5, classes - 0.5, classes - 0.5, -0.5)
    axes.imshow(_confusion_image(counts), interpolation="none", extent=extent)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    if names is None:
        axes.set_xlabel("predicted (class number)")
        axes.set_ylabel("label (class number)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)
        return
    side = max(_WIDTH, 2.0 + _ROW * classes)
    figure.set_size_inches(side, side - 0.2)
    for row, column, photos in zip(counts.row, counts.col, counts.data, strict=True):
        axes.text(column, row, f"{photos}", ha="center", va="center", fontsize=_size(counts.data))
    shown = [_shortened(name) for name in names]
    axes.set_xticks(range(classes), shown, rotation=90, fontsize=8)
    axes.set_yticks(range(classes), shown, fontsize=8)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")


def draw_reliability(figure, colours, curve, colour="other"):
    """A reliability diagram: how often a model is right at each confidence it states.

    Args:
      figure, colours: as of `draw_confusion`.
      curve: as `metrics.reliability_curve` returns it.
      colour: name of one of the colours.
    """
    figure.set_size_inches(_WIDTH, 3.9)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    colour = colours[colour]
    axes.plot([0, 100], [0, 100], ":", color=colours["ink"], linewidth=1)
    stated = [100 * row["confidence"] for row in curve]
    axes.plot(stated, [100 * row["accuracy"] for row in curve], "-", color=colour, linewidth=1)
    for x, row in zip(stated, curve, strict=True):
        axes.plot(
            [x, x],
            [100 * bound for bound in row["interval"]],
            color=colour,
            linewidth=1.5,
            alpha=0.6,
        )
        axes.plot(
            x,
            100 * row["accuracy"],
            "o",
            color=colour,
            markersize=6,
            gid=hint(
                f"says {row['confidence']:.0%}, right {row['accuracy']:.0%}, "
                f"{formatting.count(row['examples'], 'photo')}"
            ),
        )
    axes.set_ylim(-2, 102)
    axes.set_ylabel("right, %")
    axes.grid(color=colours["grid"], linewidth=0.6)
    below.bar(stated, [row["examples"] for row in curve], 5, color=colour)
    below.set_ylabel("photos")
    below.set_xlabel("confidence, %")
    below.set_xlim(0, 102)


def _shortened(name):
    """Both ends of a long name: similar classes often differ in the last word."""
    half = _NAME_LENGTH // 2
    return name if len(name) <= _NAME_LENGTH else f"{name[: half - 1]}…{name[-half:]}"


def _size(photos):
    """Font size at which the largest count fits its cell."""
    return 8 if photos.max() < 1000 else 6


def _confusion_image(counts):
    """Float [cells, cells, 4] of a sparse matrix of counts [classes, classes]."""
    cells = min(counts.shape[0], _MOST_CELLS)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    opacity = 0.25 + 0.75 * np.sqrt(counts.data / totals[counts.row])
    strength = np.zeros((2, cells, cells))
    places = (each * cells // counts.shape[0] for each in (counts.row, counts.col))
    np.maximum.at(strength, (np.int64(counts.row == counts.col), *places), opacity)
    wrong, right = strength
    blue = (right > wrong) | np.eye(cells, dtype=bool) & (wrong == 0)
    colours = np.where(blue[..., None], _rgb(_RIGHT), _rgb(_WRONG))
    return np.dstack([colours, np.maximum(wrong, right)])


def _rgb(colour):
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
