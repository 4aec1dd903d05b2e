"""Shops, cameras, light: in which groups of photos does distillation change something?"""

from kdtf import formatting
from kdtf.plotting import drawing
from kdtf.report.table import Cell, Section, Table
from kdtf.report.verdict import draw_forest


def slices_section(comparison):
    """Section of the gain in every slice, or None where nothing is known about the photos.

    Args:
      comparison: a `results.Comparison`, or None.
    """
    columns = comparison and comparison.slices
    if not columns:
        return None
    rows, worse = [], []
    for column, slices in columns.items():
        for each in slices:
            name = f"{column}: {each['value'] or 'missing'}"
            if each["verdict"] == "hurts" and not each["low_support"]:
                worse.append(name)
            rows.append(_row(name, each))
    words = [
        f"Distilled against baseline within each of {len(rows)} groups of test photos. By chance "
        "alone about one group in twenty seems to differ: a difference is a reason to look.",
        f"Worse in: {'; '.join(worse)}."
        if worse
        else "No group with enough photos got worse beyond chance.",
    ]
    return Section(
        "slices",
        "Shops, cameras, light: where does it change?",
        words,
        [draw_slices(column, slices) for column, slices in columns.items()],
        [
            Table(
                "All groups",
                [("Group", ""), ("Test photos", ""), ("Gain", "points, interval"), ("Verdict", "")],
                rows,
                folded=True,
            )
        ],
    )


def _row(name, each):
    return [
        Cell(name, name),
        Cell(
            f"{each['examples']:,}",
            each["examples"],
            "few photos" if each["low_support"] else "",
        ),
        Cell(
            formatting.points(each["difference"]),
            each["difference"],
            formatting.span(each["interval"]),
        ),
        Cell(each["verdict"], each["verdict"]),
    ]


def draw_slices(column, rows, most=14):
    """`Drawing` of the gain in each of a column's largest slices.

    Args:
      column: name of the metadata column.
      rows: as `slices.slice_differences` returns them for the column.
      most: slices at most.
    """
    shown = [
        (
            f"{row['value'] or 'missing'} ({row['examples']:,})",
            row["verdict"],
            row["difference"],
            *row["interval"],
        )
        for row in rows[:most]
    ]
    text = "; ".join(f"{name} {formatting.points(difference)}" for name, _, difference, *_ in shown)
    left = "" if len(rows) <= most else f" The {most} largest of {len(rows)}."
    return drawing(
        f"Gain by {column}",
        f"Gain in top-1 by {column}, points: {text}.",
        draw_forest,
        shown,
        note=f"In brackets: test photos. Bars: 95 % intervals.{left}",
    )
