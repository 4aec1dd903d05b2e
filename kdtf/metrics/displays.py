"""Drawings of measures on a matplotlib figure, for reports and TensorBoard alike.

plotting.png(displays.draw_confusion, counts, names)
plotting.drawing("Reliability", alt, displays.draw_reliability, curve)
"""

import numpy as np

from kdtf import formatting
from kdtf.plotting import hint

_WIDTH = 4.6  # inches, of a drawing in a report
_ROW = 0.21  # inches that a named class takes
_NAME_LENGTH = 20  # characters
# They stand out on white and on black, and text of either theme on them; opacity is the fraction.
_RIGHT, _WRONG = "#2f81c7", "#e0661a"


def draw_confusion(figure, colours, counts, names=None):
    """A confusion matrix: right answers on the diagonal in blue, mistakes off it in orange.

    The stronger a cell, the larger the fraction of its label's photos.

    Args:
      figure: a matplotlib figure.
      colours: {name: colour} as of `plotting.THEMES`.
      counts: int [classes, classes], photos by label (rows) and prediction (columns).
      names: list of str, one for each row; they and the counts are shown, and the figure grows
        with them. None: class numbers, for more classes than can be named.
    """
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(counts)
    image = np.zeros((classes, classes, 4))
    image[..., :3] = _rgb(_WRONG)
    image[np.arange(classes), np.arange(classes), :3] = _rgb(_RIGHT)
    image[..., 3] = np.where(fractions > 0, 0.25 + 0.75 * np.sqrt(fractions), 0)
    figure.set_size_inches(_WIDTH, _WIDTH - 0.2)
    axes = figure.subplots()
    axes.imshow(image, interpolation="none")
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
    for row, column in np.argwhere(counts):
        axes.text(
            column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=_size(counts)
        )
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


def _size(counts):
    """Font size at which the largest count fits its cell."""
    return 8 if counts.max() < 1000 else 6


def _rgb(colour):
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
