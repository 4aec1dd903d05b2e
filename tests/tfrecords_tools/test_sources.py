"""Photos from folders and lists, and splits."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_folders import FRACTIONS, folder_of_photos, noise, saved

from tfrecords_tools.encoding import JpegEncoder
from tfrecords_tools.shards import Photo
from tfrecords_tools.sources import assign_splits, from_folders, from_lists


def test_folders_by_class(tmp_path):
    folder_of_photos(tmp_path, {"pear": 1, "apple": 2})
    (tmp_path / "apple" / ".hidden").write_text("")
    photos, classes = from_folders(tmp_path)
    assert classes == ("apple", "pear")
    assert [(p.id, p.split, p.label) for p in photos] == [
        ("apple/0.jpg", "", "apple"),
        ("apple/1.jpg", "", "apple"),
        ("pear/0.jpg", "", "pear"),
    ]


def test_folders_by_split_and_class(tmp_path):
    folder_of_photos(tmp_path, {"train/pear": 1, "train/fig/dried": 1, "validation/pear": 1})
    photos, classes = from_folders(tmp_path)
    assert classes == ("fig", "pear")
    assert [(p.id, p.split, p.label) for p in photos] == [
        ("train/fig/dried/0.jpg", "train", "fig"),
        ("train/pear/0.jpg", "train", "pear"),
        ("validation/pear/0.jpg", "val", "pear"),
    ]


def test_a_class_called_test_among_others_is_a_class(tmp_path):
    folder_of_photos(tmp_path, {"test": 1, "pear": 1})
    assert from_folders(tmp_path)[1] == ("pear", "test")


def test_no_folder_or_an_empty_one(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        from_folders(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no photos"):
        from_folders(tmp_path)


def photo_files(root, *names):
    for number, name in enumerate(names):
        (root / name).write_bytes(saved(noise(number), "JPEG"))


def test_lists_without_header_and_named_classes(tmp_path):
    photo_files(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "train.txt").write_text("a.jpg, 10, 4\nb.jpg, 2, 4\n\n")
    (tmp_path / "test.txt").write_text("c.jpg, 2, 4\n")
    (tmp_path / "classes.csv").write_text("Class Name,Class ID\nFig,10\nPear,2\nPlum,3\n")
    lists = {"train": tmp_path / "train.txt", "test": tmp_path / "test.txt"}
    photos, classes = from_lists(lists)
    assert classes == ("2", "10")  # by number, not by spelling
    photos, classes = from_lists(lists, class_names=tmp_path / "classes.csv")
    assert classes == ("Pear", "Plum", "Fig")
    assert [(p.id, p.split, p.label) for p in photos] == [
        ("a.jpg", "train", "Fig"),
        ("b.jpg", "train", "Pear"),
        ("c.jpg", "test", "Pear"),
    ]


def test_relative_paths_start_from_the_root(tmp_path):
    (tmp_path / "photos").mkdir()
    photo_files(tmp_path / "photos", "a.jpg")
    (tmp_path / "list.csv").write_text("path,label\na.jpg,fig\n")
    with pytest.raises(ValueError, match="1 of 1 listed photos do not exist.*--root"):
        from_lists({"": tmp_path / "list.csv"})
    photos, _ = from_lists({"": tmp_path / "list.csv"}, root=tmp_path / "photos")
    assert Path(photos[0].source) == tmp_path / "photos" / "a.jpg"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "is empty"), ("path,label\na.jpg\n", "row 2: 1 fields"), (None, "no such list")],
)
def test_bad_lists(tmp_path, text, complaint):
    photo_files(tmp_path, "a.jpg")
    if text is not None:
        (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        from_lists({"train": tmp_path / "list.csv"})


def test_class_names_must_cover_the_labels(tmp_path):
    photo_files(tmp_path, "a.jpg")
    (tmp_path / "list.txt").write_text("a.jpg, 7\n")
    (tmp_path / "classes.csv").write_text("name,number\nFig,1\n")
    with pytest.raises(ValueError, match=r"does not name the labels \['7'\]"):
        from_lists({"train": tmp_path / "list.txt"}, class_names=tmp_path / "classes.csv")


def test_grocery_lists_name_every_photo(data_dir):
    root = data_dir / "grocery"
    lists = {split: root / f"{split}.txt" for split in ("train", "val", "test")}
    photos, classes = from_lists(lists, root, root / "classes.csv")
    assert Counter(p.split for p in photos) == {"train": 2640, "val": 296, "test": 1247}
    assert len(classes) == 81 and classes[:2] == ("Golden-Delicious", "Granny-Smith")
    photo = photos[-1]
    assert JpegEncoder()(photo) == Path(photo.source).read_bytes()


def unassigned(counts):
    return [
        Photo(f"{label}-{index}", None, "", label)
        for label, count in counts.items()
        for index in range(count)
    ]


def test_assign_splits_by_hand():
    photos = assign_splits(unassigned({"a": 10, "b": 20, "c": 1}), FRACTIONS)
    found = Counter((p.label, p.split) for p in photos)
    assert found == {
        ("a", "train"): 8, ("a", "val"): 1, ("a", "test"): 1,
        ("b", "train"): 16, ("b", "val"): 2, ("b", "test"): 2,
        ("c", "train"): 1,
    }  # fmt: skip


def test_remainders_add_up_over_classes():
    """Ten classes of five photos: half a photo each for val and test, five photos together."""
    photos = assign_splits(unassigned({f"c{i}": 5 for i in range(10)}), FRACTIONS)
    assert Counter(p.split for p in photos) == {"train": 40, "val": 5, "test": 5}


def test_photos_without_a_label_are_for_training():
    for fractions in (FRACTIONS, dict(reversed(FRACTIONS.items()))):
        photos = assign_splits(unassigned({"a": 10, None: 20}), fractions)
        assert {p.split for p in photos if p.label is None} == {"train"}
        assert Counter(p.split for p in photos if p.label) == {"train": 8, "val": 1, "test": 1}


def test_photos_with_a_split_keep_it():
    photos = [replace(p, split="test") for p in unassigned({"a": 4})] + unassigned({"b": 4})
    found = assign_splits(photos, {"train": 1.0})
    assert [p.split for p in found] == ["test"] * 4 + ["train"] * 4
    assert [p.id for p in found] == [p.id for p in photos]


@settings(max_examples=80, deadline=None)
@given(
    counts=st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 40), min_size=1),
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    seed=st.integers(0, 5),
    data_=st.data(),
)
def test_assign_splits_properties(counts, weights, seed, data_):
    names = ["train", "val", "test"][: len(weights)]
    fractions = {n: w / sum(weights) for n, w in zip(names, weights, strict=True)}
    photos = unassigned(counts)
    found = assign_splits(photos, fractions, seed)
    assert [replace(p, split="") for p in found] == photos
    shuffled = data_.draw(st.permutations(photos))
    assert {p.id: p.split for p in assign_splits(shuffled, fractions, seed)} == {
        p.id: p.split for p in found
    }
    per_class = Counter((p.label, p.split) for p in found)
    for label, count in counts.items():
        assert per_class[label, "train"] >= 1
        if (
            count * fractions["train"] >= 1
        ):  # else the first split's one photo is taken from another
            for name, fraction in fractions.items():
                assert abs(per_class[label, name] - count * fraction) < 1 + 1e-9


def test_the_seed_of_the_splits_matters():
    photos = unassigned({"a": 40})
    first, second = (assign_splits(photos, FRACTIONS, seed) for seed in (0, 1))
    assert [p.split for p in first] != [p.split for p in second]


@pytest.mark.parametrize("fractions", [{"train": 0.8}, {"train": 1.2, "val": -0.2}])
def test_fractions_must_sum_to_one(fractions):
    with pytest.raises(ValueError, match="sum to 1"):
        assign_splits(unassigned({"a": 3}), fractions)
