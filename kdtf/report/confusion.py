"""What is taken for what, and where student and teacher differ, photo by photo."""

import numpy as np
import scipy.sparse

from kdtf import formatting, results
from kdtf.metrics import displays
from kdtf.plotting import drawing
from kdtf.report.table import Section

_MOST_NAMED = 12  # classes whose names the axes of the whole matrix have room for
_MOST_ZOOMED = 10  # classes of the zoomed matrix


def confusion_section(mistakes, names):
    """Section of the confusion matrix and the most confused pairs.

    Args:
      mistakes: as `error_analysis.summarize` returns it, with student (key of its model), its
        photos with id and jpeg (base64).
      names: list of str, the classes.
    """
    wrong = mistakes["teacher_only"]["count"] + mistakes["neither"]
    count = sum(photos for *_, photos in mistakes["confusion"])
    pairs = confused_pairs(mistakes, names)
    student = results.Model.from_key(mistakes["student"])
    return Section(
        "confusion",
        "What is taken for what",
        [f"The {student.title.lower()} student errs on {wrong:,} of {count:,} test photos."],
        [draw_confusion(mistakes["confusion"], names)],
        zoom=zoomed(mistakes, names) if pairs else None,
        pairs=pairs,
    )


def disagreements_section(mistakes, names):
    """Section of the photos that one of student and teacher alone got right.

    Args:
      mistakes, names: as of `confusion_section`.
    """
    teacher, student = (mistakes[key]["count"] for key in ("teacher_only", "student_only"))
    return Section(
        "examples",
        "Student against teacher, photo by photo",
        [
            f"Both are right on {mistakes['both']:,} photos, only the teacher on {teacher:,}, only "
            f"the student on {student:,}, neither on {mistakes['neither']:,}. Shown are the "
            "mistakes made with most confidence, two of a kind at most."
        ],
        galleries=galleries(mistakes, names),
    )


def draw_confusion(confusion, names):
    """`Drawing` of the whole confusion matrix: right answers on the diagonal, mistakes off it.

    Args:
      confusion: list of [label, predicted class, photos].
      names: list of str, the classes; few enough of them are on the axes.
    """
    classes = len(names)
    labels, answers, photos = np.reshape(np.asarray(confusion, np.int64), (-1, 3)).T
    counts = scipy.sparse.coo_array((photos, (labels, answers)), (classes, classes))
    mistaken = labels != answers
    wrong, cells = int(photos[mistaken].sum()), int(np.count_nonzero(photos[mistaken]))
    return drawing(
        "Confusion matrix",
        f"Confusion matrix of {classes} classes: {formatting.count(wrong, 'mistake')} in "
        f"{formatting.count(cells, 'cell')} off the diagonal.",
        displays.draw_confusion,
        counts,
        names if classes <= _MOST_NAMED else None,
        note="Row: the label. Column: the answer. The stronger a cell, the more of its label's "
        "photos; mistakes are orange.",
    )


def confused_pairs(mistakes, names):
    """The most confused pairs, each with its photos.

    Args:
      mistakes: as `error_analysis.summarize` returns it, its photos with id and jpeg (base64).
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
    photo = mistakes["photos"][place]
    answers = {
        who: {
            "answer": names[photo[who]],
            "confidence": formatting.share(photo[f"{who}_confidence"]),
            "right": photo[who] == photo["label"],
        }
        for who in ("student", "teacher")
    }
    label = names[photo["label"]]
    return answers | {
        "id": photo["id"],
        "jpeg": photo["jpeg"],
        "label": label,
        "alt": f"Photo of {label}; the student says {answers['student']['answer']}, the teacher "
        f"{answers['teacher']['answer']}",
    }
