from kdtf.report import charts, photos, sections

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
    zoom = photos.zoomed(MISTAKES, NAMES)
    assert zoom["names"] == ["apple", "pear"]
    first, second = zoom["rows"]
    assert (first["name"], first["others"]) == ("apple", 1)
    assert first["cells"] == [
        {"photos": 6, "share": 0.6, "right": True},
        {"photos": 3, "share": 0.3, "right": False},
    ]
    assert [cell["photos"] for cell in second["cells"]] == [0, 4]


def test_photos_stand_under_their_words():
    (pair,) = photos.confused_pairs(MISTAKES, NAMES)
    (photo,) = pair["wrong"]
    assert (pair["label"], pair["answer"], pair["photos"], pair["of"]) == ("apple", "pear", 3, 10)
    assert photo["student"] == {"answer": "pear", "confidence": "99.6 %", "right": False}
    assert photo["teacher"] == {"answer": "apple", "confidence": "51 %", "right": True}
    assert photo["alt"] == "Photo of apple; the student says pear, the teacher apple"
    wrong, right = photos.galleries(MISTAKES, NAMES)
    assert (wrong["count"], len(wrong["photos"]), right["count"], right["photos"]) == (3, 1, 2, [])


def test_only_what_was_measured_has_a_section():
    results = {
        "models": {"distilled": {"top1": 0.8}},
        "classes": [{"name": name, "train_examples": 5, "test_examples": 5} for name in NAMES],
    }
    keys = [section.key for section in sections.build(results, None, None)]
    assert keys == ["models", "learning"]
    built = sections.build(results, MISTAKES, None)
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


def slices_of(verdict, examples, small):
    return {
        "value": None,
        "examples": examples,
        "small": small,
        "difference": -0.1,
        "interval": [-0.2, -0.01],
        "verdict": verdict,
    }


def test_slices_that_got_worse_are_named_unless_they_are_small():
    results = {
        "models": {"distilled": {}},
        "verdict": {
            "slices": {
                "shop": [slices_of("hurts", 300, False)],
                "light": [slices_of("hurts", 9, True)],
            }
        },
    }
    (section,) = [each for each in sections.build(results, None, None) if each.key == "slices"]
    assert section.words[-1] == "Worse in: shop: missing."
    results["verdict"]["slices"]["shop"][0]["verdict"] = "no difference shown"
    (section,) = [each for each in sections.build(results, None, None) if each.key == "slices"]
    assert section.words[-1] == "No group with enough photos got worse beyond chance."


def test_report_is_about_what_ships():
    both = {"verdict": {"difference": 0.1}, "verdict_int8": {"difference": 0.2}}
    assert sections.shipped_verdict(both) == {"difference": 0.2}
    assert sections.shipped_verdict({"verdict": both["verdict"]}) == {"difference": 0.1}
    names = ["baseline", "distilled", "baseline_int8", "distilled_int8"]
    assert sections.compared(dict.fromkeys(names)) == ("baseline_int8", "distilled_int8")
    assert sections.compared(dict.fromkeys(names[:2])) == ("baseline", "distilled")


def test_a_gain_has_the_colour_of_its_verdict():
    found = {"verdict": "no difference shown", "difference": 0.023, "interval": [0.0001, 0.046]}
    assert "--chart-good" not in charts.draw_gains({"8-bit files": found}).svg
    assert "--chart-good" in charts.draw_gains({"8-bit files": found | {"verdict": "helps"}}).svg
