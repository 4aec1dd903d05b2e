"""Whether a new file may take the deployed one's place: both on the same test photos."""

from collections import Counter
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from kdtf import metrics
from kdtf.metrics import comparison, slices
from kdtf.results import Gate

# What a check is about, as `Gate.kind`.
TOP1, MACRO_F1, PART = "top1_difference", "macro_f1_difference", "part_top1_difference"


@dataclass(frozen=True)
class Tolerance:
    """How much worse than the deployed file a new one may be.

    Attributes:
      overall: of top-1 on all photos compared, fraction. What was measured decides.
      part: of top-1 in the tail and in every slice, and of macro-F1. A part is small, so that
        chance moves it by more: a larger drop is refused where it is shown, see `confidence`.
      examples: parts with fewer photos are not judged.
      confidence: that no part is refused by chance, all parts together; in (0, 1).
      strict: a part's drop is refused whether it is shown or not.
    """

    overall: float = 0.01
    part: float = 0.03
    examples: int = slices.LOW_SUPPORT
    confidence: float = 0.95
    strict: bool = False

    def __post_init__(self):
        for name in ("overall", "part"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"the {name} tolerance must be a fraction in [0, 1), got "
                    f"{getattr(self, name)!r}"
                )
        if self.examples < 1:
            raise ValueError(f"examples must be at least 1, got {self.examples!r}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must be between 0 and 1, got {self.confidence!r}")


class Answers(NamedTuple):
    """What a file answers.

    logits: float [examples, classes]; classes: their names, in order.
    """

    logits: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Check(Gate):
    """A limit of how far a measure may fall, new minus deployed.

    Attributes:
      kind: `TOP1`, `MACRO_F1`, or `PART` for the tail and the slices.
      interval: [low, high] of the value.
      p_value: of McNemar's exact test; None for macro-F1.
      examples: photos compared.
      note: why it passed below its limit, or "".
      The others: as of a `Gate`.
    """

    interval: list | None = None
    p_value: float | None = None
    examples: int | None = None
    note: str = ""


@dataclass(frozen=True)
class CompareResult:
    """What `compare` found.

    Attributes:
      checks: list of `Check`.
      examples: photos compared.
      new_class_examples, seen_examples: photos left out: of classes that the deployed file does
        not know, and trained on.
      not_judged: list of dict of name and examples, parts with too few photos.
      differences: as `comparison.paired_bootstrap`; None where the classes have changed.
    """

    checks: list
    examples: int
    new_class_examples: int
    seen_examples: int
    not_judged: list
    differences: dict | None

    def to_json(self):
        """Dict of plain values, for promotion.json."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {"checks": [check.to_json() for check in self.checks]}


def compare(deployed, candidate, labels, train_counts, columns, seen=None, tolerance=None):
    """Checks of a new file against the deployed one, on the same photos.

    Compared are the photos whose class both know (those of a new class would only count for the
    new file) and on which neither was trained: splits that were drawn anew may have moved some.

    Top-1 on all of them must not fall by more than `tolerance.overall`. A part (the tail, each
    slice of each metadata column with enough photos, macro-F1) is refused where it falls by more
    than `tolerance.part` and the interval of its difference excludes 0. The intervals are
    Newcombe's, for macro-F1 the bootstrap's, at a confidence that holds for all parts together
    (Bonferroni): of twenty slices one would otherwise fall at 95 % by chance alone.

    Args:
      deployed: `Answers` of the deployed file.
      candidate: `Answers` of the new file.
      labels: int [examples], positions in candidate.classes.
      train_counts: int [classes], training photos of each of candidate.classes.
      columns: {metadata column: list of str or None, one for each example}.
      seen: bool [examples], photos that one of the two was trained on; None where there are none.
      tolerance: a `Tolerance`; the default one where None.

    Returns:
      `CompareResult`.

    Raises:
      ValueError: the numbers of photos differ, or no photo is left to compare.
    """
    tolerance = tolerance or Tolerance()
    labels = np.asarray(labels)
    seen = np.zeros(len(labels), bool) if seen is None else np.asarray(seen)
    known = _known(deployed, candidate, labels, seen)
    kept = known & ~seen
    names = np.asarray(candidate.classes)[labels[kept]]
    right = [
        np.asarray(answers.classes)[answers.logits[kept].argmax(axis=1)] == names
        for answers in (deployed, candidate)
    ]
    parts = _parts(
        labels[kept],
        train_counts,
        {
            column: [value for value, keep in zip(values, kept, strict=True) if keep]
            for column, values in columns.items()
        },
    )
    judged = {name: part for name, part in parts.items() if part.sum() >= tolerance.examples}
    same_classes = set(deployed.classes) == set(candidate.classes)
    confidence = 1 - (1 - tolerance.confidence) / max(len(judged) + same_classes, 1)
    checks = [_overall(comparison.paired_difference(*right, tolerance.confidence), tolerance)]
    differences = None
    if same_classes:
        position = {name: number for number, name in enumerate(deployed.classes)}
        order = [position[name] for name in candidate.classes]
        differences = comparison.paired_bootstrap(
            deployed.logits[kept][:, order],
            candidate.logits[kept],
            labels[kept],
            train_counts,
            confidence,
        )
        difference = differences["macro_f1"] | {"test_examples": int(kept.sum()), "p_value": None}
        checks.append(_part(MACRO_F1, "Macro-F1", difference, tolerance))
    for name, part in judged.items():
        difference = comparison.paired_difference(*(each[part] for each in right), confidence)
        checks.append(_part(PART, f"Top-1, {name}", difference, tolerance))
    return CompareResult(
        checks=checks,
        examples=int(kept.sum()),
        new_class_examples=int((~known).sum()),
        seen_examples=int((known & seen).sum()),
        not_judged=[
            {"name": name, "examples": int(part.sum())}
            for name, part in parts.items()
            if name not in judged
        ],
        differences=differences,
    )


def _known(deployed, candidate, labels, seen):
    """Bool [examples]: whether both files know a photo's class; ValueError where none is left."""
    for name, length in (
        ("deployed", len(deployed.logits)),
        ("candidate", len(candidate.logits)),
        ("seen", len(seen)),
    ):
        if length != len(labels):
            raise ValueError(
                f"{name} is about {length} photos, labels about {len(labels)}: pass the same ones"
            )
    known = np.isin(candidate.classes, deployed.classes)[labels]
    if not (known & ~seen).any():
        raise ValueError(
            f"none of {len(labels)} test photos is left to compare: {int((~known).sum())} are of "
            f"classes that the deployed file does not know, {int(seen.sum())} were trained on"
        )
    return known


def _parts(labels, train_counts, columns):
    """{name: bool [examples]} of the tail and every slice."""
    parts = {"tail": np.isin(labels, metrics.tail_classes(train_counts))}
    for column, values in columns.items():
        for value, _ in Counter(values).most_common():
            name = f"{column} = {'missing' if value is None else repr(value)}"
            parts[name] = np.asarray([each == value for each in values])
    return parts


def _overall(difference, tolerance):
    passed = difference["difference"] >= -tolerance.overall - 1e-12
    return _check(TOP1, "Top-1", difference, tolerance.overall, passed)


def _part(kind, name, difference, tolerance):
    within = difference["difference"] >= -tolerance.part - 1e-12
    shown = difference["interval"][1] < 0
    passed = within or not (shown or tolerance.strict)
    note = "" if within or shown else "below the limit, but so few photos do not show a drop"
    return _check(kind, name, difference, tolerance.part, passed, note)


def _check(kind, name, difference, tolerance, passed, note=""):
    return Check(
        kind=kind,
        name=f"{name}, new minus deployed",
        rule=">=",
        limit=-tolerance,
        unit="fraction",
        value=difference["difference"],
        passed=bool(passed),
        interval=list(difference["interval"]),
        p_value=difference["p_value"],
        examples=difference["test_examples"],
        note=note,
    )
