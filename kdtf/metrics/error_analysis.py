"""What a student gets wrong: classes it confuses, photos its teacher knew, and the reverse.

NumPy and Pillow only. Photos are named by their position in the split.
"""

import collections
import io

import numpy as np
import PIL.Image
import scipy.sparse

from kdtf.metrics.predictions import check_same_photos, checked, top_label

_THUMBNAIL_SIDE = 112  # pixels
_OF_A_KIND = 2  # photos of one label and answer among the disagreements


def summarize(teacher_logits, student_logits, labels, pairs=8, photos_each=3, disagreements=12):
    """The mistakes that tell most, and which photos show them.

    Args:
      teacher_logits: float [examples, classes].
      student_logits: float [examples, classes], the same photos in the same order.
      labels: int [examples].
      pairs: most confused pairs of classes to show.
      photos_each: photos of each pair at most.
      disagreements: photos at most that one of the two alone got right, for each of them.

    Returns:
      dict of
        confusion: list of [label, predicted class, photos] of the student, all that occur.
        pairs: list as `most_confused` returns it, each with shown (the photos confused, the most
          confident first) and reference (photos of the predicted class that the student knew).
        teacher_only, student_only: dict of count (photos that this one alone got right) and shown,
          those on which the other was most confident first, two of one label and answer at most.
        both, neither: counts of the photos left.
        photos: list of dict of position, label, and of each model's answer and its probability:
          teacher, teacher_confidence, student, student_confidence.
      Positions in shown and reference are those of the list photos.

    Raises:
      ValueError: logits and labels do not belong together, or the two models' shapes differ.
    """
    check_same_photos(teacher_logits=teacher_logits, student_logits=student_logits)
    student_logits, labels = checked(student_logits, labels)
    answers = np.argmax(student_logits, axis=1)
    sure, right = top_label(student_logits, labels)
    teacher_sure, teacher_right = top_label(teacher_logits, labels)
    confusion = _confusion(labels, answers, student_logits.shape[1])
    listed = {}

    def listing(mask, order, count, wrong=None):
        places = np.flatnonzero(mask)
        places = places[np.argsort(-order[places], kind="stable")]
        if wrong is not None:
            places = _few_of_a_kind(places, labels, wrong)
        return [listed.setdefault(int(place), len(listed)) for place in places[:count]]

    confused = []
    for pair in most_confused(confusion, pairs):
        label, answer = pair["label"], pair["prediction"]
        confused.append(
            pair
            | {
                "shown": listing((labels == label) & (answers == answer), sure, photos_each),
                "reference": listing((labels == answer) & right, sure, photos_each),
            }
        )
    teacher_answers = np.argmax(teacher_logits, axis=1)
    teacher_only, student_only = teacher_right & ~right, right & ~teacher_right
    summary = {
        "confusion": np.stack([confusion.row, confusion.col, confusion.data], axis=1).tolist(),
        "pairs": confused,
        "teacher_only": {
            "count": int(teacher_only.sum()),
            "shown": listing(teacher_only, sure, disagreements, answers),
        },
        "student_only": {
            "count": int(student_only.sum()),
            "shown": listing(student_only, teacher_sure, disagreements, teacher_answers),
        },
        "both": int((right & teacher_right).sum()),
        "neither": int((~right & ~teacher_right).sum()),
    }
    return summary | {
        "photos": [
            {
                "position": place,
                "label": int(labels[place]),
                "teacher": int(teacher_answers[place]),
                "teacher_confidence": float(teacher_sure[place]),
                "student": int(answers[place]),
                "student_confidence": float(sure[place]),
            }
            for place in listed
        ]
    }


def most_confused(confusion, count):
    """Pairs of classes with the most photos of one taken for the other, most first.

    Args:
      confusion: int [classes, classes], photos by label (rows) and predicted class; an array or a
        sparse one.
      count: pairs at most.

    Returns:
      list of dict of label, prediction (class numbers), photos (confused so) and of (the photos
      of the label). Of equal counts the larger share of the label's photos goes first, then the
      lower class numbers.
    """
    confusion = scipy.sparse.coo_array(confusion)
    totals = np.asarray(confusion.sum(axis=1)).ravel()
    wrong = [
        (int(label), int(answer), int(photos))
        for label, answer, photos in zip(confusion.row, confusion.col, confusion.data, strict=True)
        if label != answer
    ]
    wrong.sort(key=lambda cell: (-cell[2], -cell[2] / totals[cell[0]], cell[:2]))
    return [
        {
            "label": label,
            "prediction": answer,
            "photos": photos,
            "of": int(totals[label]),
        }
        for label, answer, photos in wrong[:count]
    ]


def _confusion(labels, answers, classes):
    """Sparse int64 [classes, classes], by label and answer, its cells in that order."""
    cells, photos = np.unique(labels.astype(np.int64) * classes + answers, return_counts=True)
    return scipy.sparse.coo_array((photos, np.divmod(cells, classes)), (classes, classes))


def _few_of_a_kind(places, labels, answers):
    kinds, kept = collections.Counter(), []
    for place in places:
        kind = labels[place], answers[place]
        kinds[kind] += 1
        if kinds[kind] <= _OF_A_KIND:
            kept.append(place)
    return kept


def thumbnail(encoded, side=_THUMBNAIL_SIDE):
    """A small JPEG of a photo.

    Args:
      encoded: bytes of an image file.
      side: longest side, pixels; smaller photos keep their size.

    Returns:
      bytes of a JPEG file, some kilobytes.
    """
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        small = image.convert("RGB")
    small.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80, optimize=True)
    return file.getvalue()
