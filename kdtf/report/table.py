"""What a page is made of: sections, each of words, drawings and tables."""

from typing import NamedTuple


class Cell(NamedTuple):
    """Text of a table's cell, the value it is sorted by (None: last), and small print."""

    text: str
    value: float | str | None = None
    more: str = ""


class Table(NamedTuple):
    """A table: caption, heads as (label, small print), rows of `Cell`s, the first one its name."""

    caption: str
    heads: list[tuple[str, str]]
    rows: list[list[Cell]]
    folded: bool = False


class Section(NamedTuple):
    """A part of the page; key is its anchor.

    zoom, pairs and galleries are those of `confusion`.
    """

    key: str
    heading: str
    words: list[str]
    drawings: list = []
    tables: list = []
    zoom: dict | None = None
    pairs: list = []
    galleries: list = []


def interval_text(interval, form):
    """The ends of an interval as small print, "80.1 to 84.2 %"; "" where there is none."""
    if interval is None:
        return ""
    low, high = map(form, interval)
    return f"{low.removesuffix(' %')} to {high}"
