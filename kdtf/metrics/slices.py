"""Accuracy by what is known about a photo: the shop, the camera, the light.

A photo whose column is empty belongs to a slice of its own, "missing".
"""

import numpy as np

from kdtf.metrics.comparison import paired_difference
from kdtf.metrics.intervals import proportion_interval

LOW_SUPPORT = 30  # photos, below which a slice's interval is wider than most differences


def slice_accuracy(correct, columns, low_support=LOW_SUPPORT, confidence=0.95):
    """Top-1 of every slice of every column.

    Args:
      correct: bool [examples], prediction == label.
      columns: {column: list of str or None, one for each example}; None is missing.
      low_support: slices with fewer photos are marked: their accuracy says little.
      confidence: of the intervals, in (0, 1).

    Returns:
      {column: list of slices, the largest first, the missing one last}; a slice is a dict of value
      (str, None where missing), examples (int), top1 (float), interval ([low, high], Wilson's)
      and low_support (bool).
    """
    (correct,), parts = _parts(columns, correct=correct)
    return {
        column: [
            _described(value, inside, low_support)
            | {
                "top1": float(correct[inside].mean()),
                "interval": proportion_interval(correct[inside].sum(), len(inside), confidence),
            }
            for value, inside in slices
        ]
        for column, slices in parts.items()
    }


def slice_differences(
    correct_baseline, correct_distilled, columns, low_support=LOW_SUPPORT, confidence=0.95
):
    """`comparison.paired_difference` within every slice of every column.

    Of twenty slices one differs by chance at 95 %: a slice's verdict is a reason to look.

    Args:
      correct_baseline: bool [examples], whether the baseline was right.
      correct_distilled: bool [examples], the same photos in the same order.
      columns: as of `slice_accuracy`.
      low_support: as of `slice_accuracy`.
      confidence: of the intervals, in (0, 1).

    Returns:
      {column: list of dict of value, examples, low_support and all that `paired_difference`
      returns}, in the order of `slice_accuracy`.
    """
    (baseline, distilled), parts = _parts(
        columns, correct_baseline=correct_baseline, correct_distilled=correct_distilled
    )
    return {
        column: [
            _described(value, inside, low_support)
            | paired_difference(baseline[inside], distilled[inside], confidence)
            for value, inside in slices
        ]
        for column, slices in parts.items()
    }


def _parts(columns, **correct):
    """Checked bool vectors, and {column: [(value, positions)]} in the order of the report."""
    vectors = [np.asarray(values) for values in correct.values()]
    for name, values in zip(correct, vectors, strict=True):
        if values.dtype != bool or values.shape != vectors[0].shape or values.ndim != 1:
            raise ValueError(
                f"{name} must be a bool vector (prediction == label) over the same photos, got "
                f"{values.dtype} of shape {values.shape}"
            )
    parts = {}
    for column, values in columns.items():
        if len(values) != len(vectors[0]):
            raise ValueError(
                f"column {column!r} has {len(values)} values for {len(vectors[0])} photos: pass "
                "one for each, None where missing"
            )
        positions = {}
        for index, value in enumerate(values):
            positions.setdefault(value, []).append(index)
        parts[column] = sorted(
            positions.items(), key=lambda item: (item[0] is None, -len(item[1]), item[0] or "")
        )
    return vectors, parts


def _described(value, inside, low_support):
    return {"value": value, "examples": len(inside), "low_support": len(inside) < low_support}
