"""What a source holds: photos, classes, and whatever was left out, each with a reason."""

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

from tfrecords_tools.shards import Photo

SHOWN = 5


class LeftOut(NamedTuple):
    """A file or folder that gives no photo: its name, relative to the source, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
      photos: in order; the split of one is "" where the source does not say.
      classes: class names in label order.
      left_out: what gave no photo.
      notes: lines of what looks odd, but may be right.
    """

    photos: tuple[Photo, ...]
    classes: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


def first_few(items, shown=SHOWN):
    """Text: the first of some names, and how many more there are."""
    items = list(items)
    text = ", ".join(map(str, items[:shown]))
    return text + (f" and {len(items) - shown} more" if len(items) > shown else "")


def left_out_lines(left_out):
    """A line for each reason: how many were left out, and the first few."""
    by_reason = defaultdict(list)
    for each in left_out:
        by_reason[each.reason].append(each.name)
    return [
        f"left out, {reason}: {len(members)} ({first_few(map(repr, members))})"
        for reason, members in by_reason.items()
    ]
