"""The photos of a report: which to show under which words."""

from kdtf import formatting

_MOST_ZOOMED = 10  # classes of the zoomed matrix


def confused_pairs(mistakes, names):
    """The most confused pairs, each with its photos.

    Args:
      mistakes: as `mistakes.choose` returns it, its photos with id and jpeg (base64).
      names: list of str, the classes.

    Returns:
      list of dict of label, answer (names), photos, of (counts), wrong and reference (lists of
      photos as `galleries` has them).
    """
    return [
        {
            "label": names[pair["label"]],
            "answer": names[pair["prediction"]],
            "photos": pair["photos"],
            "of": pair["of"],
            "wrong": [_photo(mistakes, names, place) for place in pair["shown"]],
            "reference": [_photo(mistakes, names, place) for place in pair["reference"]],
        }
        for pair in mistakes["pairs"]
    ]


def zoomed(mistakes, names):
    """The part of the confusion matrix where the most confused pairs are.

    Args:
      mistakes: as of `confused_pairs`.
      names: list of str, the classes.

    Returns:
      dict of names (of the classes shown) and rows, one for each: dict of name, others (photos
      taken for a class that is not shown) and cells, one for each class shown: dict of photos,
      share (of the label's photos, 0 to 1) and right (bool).
    """
    shown = []
    for pair in mistakes["pairs"]:
        new = [each for each in (pair["label"], pair["prediction"]) if each not in shown]
        if len(shown) + len(new) <= _MOST_ZOOMED:
            shown += new
    shown.sort()
    counts, totals = {}, {}
    for label, answer, photos in mistakes["confusion"]:
        counts[label, answer] = photos
        totals[label] = totals.get(label, 0) + photos
    rows = []
    for label in shown:
        inside = [counts.get((label, answer), 0) for answer in shown]
        total = totals.get(label, 0)
        rows.append(
            {
                "name": names[label],
                "others": total - sum(inside),
                "cells": [
                    {"photos": photos, "share": photos / max(total, 1), "right": answer == label}
                    for answer, photos in zip(shown, inside, strict=True)
                ],
            }
        )
    return {"names": [names[label] for label in shown], "rows": rows}


def galleries(mistakes, names):
    """Photos that one of the two models alone got right.

    Args:
      mistakes: as of `confused_pairs`.
      names: list of str, the classes.

    Returns:
      list of dict of heading, count (photos in all) and photos (those shown): dict of id, jpeg
      (base64), label, alt, and student and teacher: dict of answer, confidence and right.
    """
    return [
        {
            "heading": heading,
            "count": mistakes[key]["count"],
            "photos": [_photo(mistakes, names, place) for place in mistakes[key]["shown"]],
        }
        for key, heading in (
            ("teacher_only", "The student is wrong, the teacher right"),
            ("student_only", "The teacher is wrong, the student right"),
        )
    ]


def _photo(mistakes, names, place):
    found = mistakes["photos"][place]
    answers = {
        who: {
            "answer": names[found[who]],
            "confidence": formatting.share(found[f"{who}_confidence"]),
            "right": found[who] == found["label"],
        }
        for who in ("student", "teacher")
    }
    label = names[found["label"]]
    return answers | {
        "id": found["id"],
        "jpeg": found["jpeg"],
        "label": label,
        "alt": f"Photo of {label}; the student says {answers['student']['answer']}, the teacher "
        f"{answers['teacher']['answer']}",
    }
