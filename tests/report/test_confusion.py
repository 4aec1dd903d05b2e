"""The classes confused, and the photos under their words."""

import re

from kdtf.report import confusion, page
from kdtf.results import Results

MISTAKES = {
    "student": "distilled",
    "confusion": [[0, 0, 6], [0, 1, 3], [0, 3, 1], [1, 1, 4], [2, 2, 5], [3, 3, 2]],
    "pairs": [{"label": 0, "prediction": 1, "photos": 3, "of": 10, "shown": [0], "reference": []}],
    "teacher_only": {"count": 3, "shown": [0]},
    "student_only": {"count": 2, "shown": []},
    "both": 15,
    "neither": 1,
    "photos": [
        {
            "position": 7,
            "label": 0,
            "student": 1,
            "student_confidence": 0.996,
            "teacher": 0,
            "teacher_confidence": 0.514,
            "id": "7.jpg",
            "jpeg": "AAAA",
        }
    ],
}
NAMES = ["apple", "pear", "plum", "fig"]


def test_zoom_holds_the_confused_classes_and_counts_the_rest():
    zoom = confusion.zoomed(MISTAKES, NAMES)
    assert zoom["names"] == ["apple", "pear"]
    first, second = zoom["rows"]
    assert (first["name"], first["others"]) == ("apple", 1)
    assert first["cells"] == [
        {"photos": 6, "share": 0.6, "right": True},
        {"photos": 3, "share": 0.3, "right": False},
    ]
    assert [cell["photos"] for cell in second["cells"]] == [0, 4]


def test_photos_stand_under_their_words():
    (pair,) = confusion.confused_pairs(MISTAKES, NAMES)
    (photo,) = pair["wrong"]
    assert (pair["label"], pair["answer"], pair["photos"], pair["of"]) == ("apple", "pear", 3, 10)
    assert photo["student"] == {"answer": "pear", "confidence": "99.6 %", "right": False}
    assert photo["teacher"] == {"answer": "apple", "confidence": "51 %", "right": True}
    assert photo["alt"] == "Photo of apple; the student says pear, the teacher apple"
    wrong, right = confusion.galleries(MISTAKES, NAMES)
    assert (wrong["count"], len(wrong["photos"]), right["count"], right["photos"]) == (3, 1, 2, [])


def test_only_what_was_measured_has_a_section():
    run = Results.from_json(
        {
            "models": {"distilled": {"top1": 0.8}},
            "classes": [{"name": name, "train_examples": 5, "test_examples": 5} for name in NAMES],
        }
    )
    keys = [section.key for section in page.build_sections(run, None, None)]
    assert keys == ["models", "learning"]
    built = page.build_sections(run, MISTAKES, None)
    assert [section.key for section in built] == ["models", "learning", "confusion", "examples"]
    assert built[2].words == ["The distilled student errs on 4 of 21 test photos."]
    assert (
        built[3]
        .words[0]
        .startswith(
            "Both are right on 15 photos, only the teacher on 3, only the student on 2, neither "
            "on 1."
        )
    )


def test_few_classes_are_named_on_the_axes_many_are_numbered():
    """The drawing's words are those of its alternative text in both cases."""
    few = confusion.draw_confusion(MISTAKES["confusion"], NAMES)
    many = confusion.draw_confusion(MISTAKES["confusion"], NAMES * 10)
    assert few.alt == "Confusion matrix of 4 classes: 4 mistakes in 2 cells off the diagonal."
    labels = [re.findall(r"<text[^>]*>([^<]*)</text>", each.svg) for each in (few, many)]
    assert set(NAMES) <= set(labels[0]) and not set(NAMES) & set(labels[1])
    assert "label (class number)" in labels[1] and "label" in labels[0]
