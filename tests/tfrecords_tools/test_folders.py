"""Photos in folders: layouts, what is left out, what would be lost."""

import os
import subprocess
import sys

import pytest
from photo_folders import folder_of_photos, noise, saved

from tfrecords_tools.folders import EMPTY, SYSTEM, from_folders


def test_folders_by_class(tmp_path):
    folder_of_photos(tmp_path, {"pear": 1, "apple": 2})
    (tmp_path / "apple" / ".hidden").write_text("")
    listing = from_folders(tmp_path)
    photos, classes = listing.photos, listing.classes
    assert classes == ("apple", "pear")
    assert [(p.id, p.split, p.label) for p in photos] == [
        ("apple/0.jpg", "", "apple"),
        ("apple/1.jpg", "", "apple"),
        ("pear/0.jpg", "", "pear"),
    ]


def test_folders_by_split_and_class(tmp_path):
    folder_of_photos(tmp_path, {"train/pear": 1, "train/fig/dried": 1, "validation/pear": 1})
    listing = from_folders(tmp_path)
    photos, classes = listing.photos, listing.classes
    assert classes == ("fig", "pear")
    assert [(p.id, p.split, p.label) for p in photos] == [
        ("train/fig/dried/0.jpg", "train", "fig"),
        ("train/pear/0.jpg", "train", "pear"),
        ("validation/pear/0.jpg", "val", "pear"),
    ]


def test_a_class_called_test_among_others_is_a_class(tmp_path):
    folder_of_photos(tmp_path, {"test": 1, "pear": 1})
    assert from_folders(tmp_path).classes == ("pear", "test")


def test_no_folder_or_an_empty_one(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        from_folders(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no photos"):
        from_folders(tmp_path)


SYSTEM_NAMES = (".git", "__MACOSX", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN", ".Trash-1000")


@pytest.mark.parametrize("name", SYSTEM_NAMES)
@pytest.mark.parametrize("depth", ["", "train", "train/fig"])
def test_hidden_and_system_folders_are_no_classes_and_give_no_photos(name, depth, tmp_path):
    below = f"{depth}/" if depth else ""
    folder_of_photos(tmp_path, {"train/fig": 2, "test/fig": 1, f"{below}{name}/copy": 1})
    (tmp_path / depth / "Thumbs.db").write_bytes(b"thumbs")
    listing = from_folders(tmp_path)
    assert listing.classes == ("fig",)
    assert [(p.id, p.split) for p in listing.photos] == [
        ("train/fig/0.jpg", "train"), ("train/fig/1.jpg", "train"), ("test/fig/0.jpg", "test")
    ]  # fmt: skip
    assert set(listing.left_out) == {(f"{below}{name}", SYSTEM), (f"{below}Thumbs.db", SYSTEM)}


@pytest.mark.parametrize(
    "folders",
    [("Train", "Valid", "TEST"), ("training", "val", "testing"), ("train ", "validation")],
)
def test_splits_in_any_spelling(folders, tmp_path):
    folder_of_photos(tmp_path, {f"{name}/fig": 1 for name in folders})
    listing = from_folders(tmp_path)
    assert [p.split for p in listing.photos] == ["train", "val", "test"][: len(folders)]
    assert listing.classes == ("fig",)


@pytest.mark.parametrize("extra", ["extra/pear", "extra", "unlabelled"])
def test_photos_beside_the_splits_are_refused_by_name(extra, tmp_path):
    folder_of_photos(tmp_path, {"train/fig": 1, "test/fig": 1, extra: 1})
    with pytest.raises(ValueError, match=f"splits test, train and beside them '{extra[:5]}"):
        from_folders(tmp_path)


def test_one_split_with_classes_beside_a_folder_of_photos_is_refused(tmp_path):
    folder_of_photos(tmp_path, {"train/fig": 1, "train/pear": 1, "more": 1})
    with pytest.raises(ValueError, match="beside them 'more'"):
        from_folders(tmp_path)


def test_folders_without_photos_beside_the_splits_are_left_out(tmp_path):
    folder_of_photos(tmp_path, {"train/fig": 1, "test/fig": 1})
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "notes.txt").write_text("ripe")
    (tmp_path / "labels.csv").write_text("path,label")
    listing = from_folders(tmp_path)
    assert [p.split for p in listing.photos] == ["train", "test"]
    assert {each.name for each in listing.left_out} == {"docs", "labels.csv"}


def test_two_folders_of_one_split_are_refused(tmp_path):
    folder_of_photos(tmp_path, {"train/fig": 1, "val/fig": 1, "valid/fig": 1})
    with pytest.raises(ValueError, match="'val' and 'valid', both of the split val"):
        from_folders(tmp_path)


@pytest.mark.parametrize("above", ["set", "set/photos"])
def test_splits_inside_of_a_folder_are_refused(above, tmp_path):
    """As a class, that folder would hold train and test photos alike."""
    folder_of_photos(tmp_path, {f"{above}/train/fig": 1, f"{above}/test/fig": 1})
    folder = tmp_path if above == "set" else tmp_path / "set"
    with pytest.raises(ValueError, match="holds the folders test, train: splits go above classes"):
        from_folders(folder)


@pytest.mark.parametrize("place", ["", "test"])
@pytest.mark.parametrize("name", ["a.jpg", "A.JPEG", "photo", "iphone.heic"])
def test_photos_outside_of_the_class_folders_are_refused(name, place, tmp_path):
    folder_of_photos(tmp_path, {"train/fig": 1, "test/fig": 1} if place else {"fig": 1})
    (tmp_path / place / name).write_bytes(saved(noise(0), "JPEG"))
    with pytest.raises(ValueError, match=rf"1 files or folders would be lost: .*{name}"):
        from_folders(tmp_path)


def test_links_are_followed(tmp_path):
    folder_of_photos(tmp_path / "store", {"kiwi": 2, "ripe": 1})
    root = folder_of_photos(tmp_path / "in", {"fig": 1})
    (root / "kiwi").symlink_to(tmp_path / "store" / "kiwi")
    (root / "fig" / "ripe").symlink_to(tmp_path / "store" / "ripe")
    (root / "fig" / "9.jpg").symlink_to(tmp_path / "store" / "kiwi" / "0.jpg")
    listing = from_folders(root)
    assert [p.id for p in listing.photos] == [
        "fig/0.jpg", "fig/9.jpg", "fig/ripe/0.jpg", "kiwi/0.jpg", "kiwi/1.jpg"
    ]  # fmt: skip


def test_links_that_lead_nowhere_or_in_a_circle_are_refused(tmp_path):
    folder_of_photos(tmp_path, {"fig": 1})
    (tmp_path / "fig" / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "fig" / "again").symlink_to(tmp_path / "fig")
    (tmp_path / "class").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="3 files or folders would be lost") as refusal:
        from_folders(tmp_path)
    for text in ("fig/gone.jpg (a link that leads nowhere)", "fig/again (a link to", "class (a l"):
        assert text in str(refusal.value)


def test_empty_classes_are_named(tmp_path):
    folder_of_photos(tmp_path, {"fig": 1})
    (tmp_path / "kiwi" / "ripe").mkdir(parents=True)
    listing = from_folders(tmp_path)
    assert listing.classes == ("fig",)
    assert listing.left_out == (("kiwi", EMPTY),)


def test_one_name_in_two_spellings_of_unicode_is_one_class(tmp_path):
    folder_of_photos(tmp_path, {"train/K\u00e4se": 1, "test/Ka\u0308se": 1})
    listing = from_folders(tmp_path)
    assert listing.classes == ("K\u00e4se",)
    assert {p.label for p in listing.photos} == {"K\u00e4se"}


def test_classes_that_differ_in_case_only_are_told(tmp_path):
    folder_of_photos(tmp_path, {"Fig": 1, "fig": 1})
    assert from_folders(tmp_path).notes == ("classes that differ in case only: 'Fig', 'fig'",)


def test_a_file_name_that_is_not_utf8_is_named(tmp_path):
    folder_of_photos(tmp_path, {"fig": 1})
    path = os.fsencode(tmp_path / "fig") + b"/K\xe4se.jpg"
    try:
        os.rename(os.fsencode(tmp_path / "fig" / "0.jpg"), path)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    with pytest.raises(ValueError, match=r"K\\xe4se.jpg' is not UTF-8"):
        from_folders(tmp_path)


def test_shards_inside_of_the_source_are_no_class(tmp_path):
    folder_of_photos(tmp_path, {"fig": 1, "shards": 1})
    assert from_folders(tmp_path, leave_out=[tmp_path / "shards"]).classes == ("fig",)


LISTED = """
import sys
from tfrecords_tools.folders import from_folders
from tfrecords_tools.lists import from_lists
assert sys.getfilesystemencoding() == "ascii", sys.getfilesystemencoding()
for listing in (from_folders(sys.argv[1]), from_lists({"": sys.argv[2]})):
    for photo in listing.photos:
        with open(photo.source, "rb"):
            print(ascii((photo.id, photo.label)))
"""


def test_names_are_the_same_under_every_locale(tmp_path):
    folder_of_photos(tmp_path / "in", {"Käse": 1})
    text = "path,label\nin/Käse/0.jpg,Käse\n"
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", LISTED, str(tmp_path / "in"), str(tmp_path / "list.csv")],
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = [("Käse/0.jpg", "Käse"), ("in/Käse/0.jpg", "Käse")]
    assert done.stdout.split("\n")[:2] == [ascii(each) for each in wanted]
