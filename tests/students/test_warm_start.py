"""A student that goes on from last week's, whatever classes and words there were then."""

import json

import keras
import numpy as np
import pytest

from kdtf import students
from kdtf.students import warm_start

BEFORE = ("milk", "juice", "melon")
NOW = ("juice", "plum", "milk", "kiwi")
REGIONS = {"region": ("north", "south")}
MOVED = {"region": ("east", "south", "north")}


def build(classes, metadata=None):
    sizes = {name: len(words) for name, words in metadata.items()} if metadata else None
    return students.mobilenet_v3_small(len(classes), 32, width=0.35, metadata=sizes)


def saved(folder, classes=BEFORE, metadata=None, student=None):
    """A trained student's two files: every weight is random, the zero starts of metadata too."""
    student = student or build(classes, metadata)
    rng = np.random.default_rng(1)
    student.set_weights([rng.uniform(0.1, 1, array.shape) for array in student.get_weights()])
    path = folder / "student.keras"
    student.save(path)
    path.with_suffix(".json").write_text(json.dumps({"classes": classes, "metadata": metadata}))
    return path, student


def batch(regions=None):
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype("float32")
    if regions is None:
        return images
    return {"image": images, "meta/region": np.asarray(regions, "int32")}


def column(logits, classes, name):
    return np.asarray(logits)[:, classes.index(name)]


def test_logits_follow_their_class_by_name(tmp_path):
    path, last_week = saved(tmp_path)
    student = build(NOW)
    fresh = [array.copy() for array in student.get_layer("logits").get_weights()]
    mapped = warm_start.load(student, path, NOW)
    assert mapped == (("juice", "milk"), ("plum", "kiwi"), ("melon",))
    assert mapped.summary() == (
        "2 classes taken over by name, 2 new ('plum', 'kiwi'), 1 gone ('melon')"
    )
    before, now = last_week(batch()), student(batch())
    for name in mapped.kept:
        np.testing.assert_allclose(column(now, NOW, name), column(before, BEFORE, name), rtol=1e-5)
    kernel, bias = student.get_layer("logits").get_weights()
    for position in (1, 3):
        np.testing.assert_array_equal(kernel[..., position], fresh[0][..., position])
        assert bias[position] == fresh[1][position]


def test_metadata_follows_its_words(tmp_path):
    path, last_week = saved(tmp_path, metadata=REGIONS)
    student = build(NOW, MOVED)
    fresh = student.get_layer("embedding_region").get_weights()[0].copy()
    warm_start.load(student, path, NOW, MOVED)
    # Missing, north, south: rows 0, 1, 2 then, and 0, 3, 2 now.
    before, now = last_week(batch([0, 1, 2])), student(batch([0, 3, 2]))
    for name in ("juice", "milk"):
        np.testing.assert_allclose(column(now, NOW, name), column(before, BEFORE, name), rtol=1e-5)
    table = student.get_layer("embedding_region").get_weights()[0]
    np.testing.assert_array_equal(table[1], fresh[1])


def test_a_metadata_branch_may_be_new(tmp_path):
    path, last_week = saved(tmp_path)
    student = build(BEFORE, REGIONS)
    warm_start.load(student, path, BEFORE, REGIONS)
    np.testing.assert_allclose(student(batch([0, 1, 2])), last_week(batch()), rtol=1e-5)


@pytest.mark.parametrize(
    "classes, vocabularies, message",
    [
        (("a", "b"), None, r"knows 'milk', 'juice', 'melon', the data set has 'a', 'b': no class"),
        (BEFORE, None, r"takes metadata \['region'\], this student none"),
        (BEFORE, {"camera": ("x",)}, r"takes metadata \['region'\], this student \['camera'\]"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_loaded(tmp_path, classes, vocabularies, message):
    path, _ = saved(tmp_path, metadata=REGIONS)
    student = build(classes, vocabularies)
    before = student.get_weights()
    with pytest.raises(ValueError, match=message):
        warm_start.load(student, path, classes, vocabularies)
    for one, two in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_other_files_are_refused(tmp_path):
    path, student = saved(tmp_path)
    with pytest.raises(ValueError, match="expanded_conv.*only the number of classes may differ"):
        wide = students.mobilenet_v3_small(3, 32, width=0.75)
        warm_start.load(wide, path, BEFORE)
    path.with_suffix(".json").write_text(json.dumps({"classes": ["milk", "juice"]}))
    with pytest.raises(ValueError, match="has 3 classes, .*json names 2"):
        warm_start.load(student, path, BEFORE)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(ValueError, match="names no classes: --weights"):
        warm_start.load(student, path, BEFORE)
    path.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match="student.json, which names the classes"):
        warm_start.load(student, path, BEFORE)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        warm_start.load(student, tmp_path / "nowhere.keras", BEFORE)


def test_any_student_with_a_head_of_this_name_will_do(tmp_path):
    keras.utils.set_random_seed(0)
    path, last_week = saved(tmp_path, student=students.cifar_cnn(3))
    student = students.cifar_cnn(4)
    warm_start.load(student, path, NOW)
    np.testing.assert_allclose(
        column(student(batch()), NOW, "milk"), column(last_week(batch()), BEFORE, "milk"), rtol=1e-5
    )
