import io
import tracemalloc

import numpy as np
import PIL.Image
import pytest

from kdtf.metrics import error_analysis


def logits_of(answers, sure, classes=3):
    """Logits whose softmax gives each photo's answer the probability sure."""
    rest = (1 - np.asarray(sure)) / (classes - 1)
    probs = np.repeat(rest[:, None], classes, axis=1)
    probs[np.arange(len(answers)), answers] = sure
    return np.log(probs)


LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
STUDENT = logits_of([0, 1, 1, 2, 1, 0, 2, 2], [0.9, 0.5, 0.8, 0.7, 0.6, 0.5, 0.9, 0.8])
TEACHER = logits_of([0, 0, 0, 1, 1, 2, 1, 2], [0.9, 0.9, 0.7, 0.6, 0.8, 0.7, 0.9, 0.8])


def shown(found, part):
    return [found["photos"][place]["position"] for place in part["shown"]]


def test_choose_golden():
    found = error_analysis.summarize(TEACHER, STUDENT, LABELS, pairs=2)
    assert found["confusion"] == [[0, 0, 1], [0, 1, 2], [0, 2, 1], [1, 0, 1], [1, 1, 1], [2, 2, 2]]
    first, second = found["pairs"]
    assert (first["label"], first["prediction"], first["photos"], first["of"]) == (0, 1, 2, 4)
    # One photo each: that of two is the larger share than that of four.
    assert (second["label"], second["prediction"]) == (1, 0)
    assert shown(found, first) == [2, 1]  # the most confident first
    assert [found["photos"][place]["position"] for place in first["reference"]] == [4]
    assert found["teacher_only"]["count"] == 2 and shown(found, found["teacher_only"]) == [2, 1]
    assert found["student_only"]["count"] == 1 and shown(found, found["student_only"]) == [6]
    assert (found["both"], found["neither"]) == (3, 2)
    photo = found["photos"][found["student_only"]["shown"][0]]
    assert (photo["label"], photo["student"], photo["teacher"]) == (2, 2, 1)
    assert photo["student_confidence"] == pytest.approx(0.9)
    assert photo["teacher_confidence"] == pytest.approx(0.9)


def test_few_are_shown_of_many_and_each_photo_once():
    labels = np.zeros(50, int)
    answers = np.where(np.arange(50) < 40, 1, 2)
    sure = np.linspace(0.5, 0.9, 50)
    found = error_analysis.summarize(
        logits_of(labels, sure), logits_of(answers, sure), labels, photos_each=4, disagreements=3
    )
    assert found["teacher_only"]["count"] == 50
    # Two of a kind at most, however confident the third one is.
    assert shown(found, found["teacher_only"]) == [49, 48, 39]
    assert shown(found, found["pairs"][0]) == [39, 38, 37, 36]
    assert found["pairs"][0]["reference"] == [] == found["student_only"]["shown"]
    assert len(found["photos"]) == 8


def test_models_of_other_classes_are_refused():
    with pytest.raises(ValueError, match=r"\(8, 2\), student_logits \(8, 3\)"):
        error_analysis.summarize(TEACHER[:, :2], STUDENT, LABELS)


def test_thumbnail_is_small_and_keeps_its_shape():
    file = io.BytesIO()
    PIL.Image.new("RGBA", (400, 200), (200, 30, 30, 255)).save(file, "PNG")
    with PIL.Image.open(io.BytesIO(error_analysis.thumbnail(file.getvalue(), 100))) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (100, 50))
        assert abs(image.getpixel((50, 25))[0] - 200) < 8
    with PIL.Image.open(io.BytesIO(error_analysis.thumbnail(file.getvalue(), 1000))) as image:
        assert image.size == (400, 200)


def test_thousands_of_classes_take_no_matrix_of_them_all():
    classes = 20_000
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, classes)).astype("float32")
    labels = rng.integers(0, classes, 50)
    tracemalloc.start()
    try:
        summary = error_analysis.summarize(logits, logits, labels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(photos for *_, photos in summary["confusion"]) == 50
    assert peak < 10 * logits.size * 8  # a matrix would take 3.2 GB
