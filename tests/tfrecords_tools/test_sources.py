"""Photos from folders and lists, re-encoding, and splits."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_folders import FRACTIONS, folder_of_photos, noise, saved
from PIL import Image

from tfrecords_tools import sources
from tfrecords_tools.shards import Photo
from tfrecords_tools.sources import JpegEncoder, assign_splits, from_folders, from_lists


def gradient(width=48, height=32):
    """A smooth photo that JPEG hardly harms: red grows rightwards, green downwards."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return Image.fromarray((np.stack([x, y, 0.5 + 0 * x], -1) * 255).astype(np.uint8))


def opened(raw):
    image = Image.open(io.BytesIO(raw))
    image.load()
    return image


def pixels(image):
    return np.asarray(image, np.float64)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_upright_jpeg_passes_through_byte_for_byte(mode):
    raw = saved(noise(0).convert(mode), "JPEG", quality=61, comment=b"kept")
    assert JpegEncoder().encode(raw) == raw
    assert JpegEncoder(max_side=40).encode(raw) == raw


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_other_formats_become_jpeg_with_the_same_pixels(form):
    options = {"lossless": True} if form == "WEBP" else {}
    got = opened(JpegEncoder().encode(saved(gradient(), form, **options)))
    assert (got.format, got.mode, got.size) == ("JPEG", "RGB", (48, 32))
    np.testing.assert_allclose(pixels(got), pixels(gradient()), atol=24 if form == "GIF" else 9)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_removed(orientation):
    """The stored pixels are turned such that their viewer, obeying EXIF, sees `gradient`."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = gradient().transpose(undo[orientation]) if orientation > 1 else gradient()
    exif = Image.Exif()
    exif[sources.ORIENTATION] = orientation
    raw = saved(stored, "JPEG", quality=98, exif=exif)
    encoded = JpegEncoder().encode(raw)
    got = opened(encoded)
    assert got.size == (48, 32)
    np.testing.assert_allclose(pixels(got), pixels(gradient()), atol=8)
    assert got.getexif().get(sources.ORIENTATION, 1) == 1
    assert (encoded == raw) == (orientation == 1)


def test_transparent_pixels_become_white():
    image = gradient().convert("RGBA")
    alpha = np.full((32, 48), 255, np.uint8)
    alpha[:, :16] = 0
    image.putalpha(Image.fromarray(alpha))
    got = pixels(opened(JpegEncoder().encode(saved(image, "PNG"))))
    assert got[:, :8].min() > 250
    np.testing.assert_allclose(got[:, 24:], pixels(gradient())[:, 24:], atol=9)


def test_half_transparent_pixels_are_blended_with_white():
    raw = saved(Image.new("RGBA", (16, 16), (0, 0, 0, 51)), "PNG")
    np.testing.assert_allclose(pixels(opened(JpegEncoder().encode(raw))), 204, atol=2)


def test_transparent_palette_and_grey():
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([10, 10, 10, 200, 30, 30])
    palette.paste(1, (8, 0, 16, 16))
    got = pixels(opened(JpegEncoder().encode(saved(palette, "PNG", transparency=0))))
    assert got[:, :6].min() > 235
    np.testing.assert_allclose(got[4, 13], [200, 30, 30], atol=14)
    grey = saved(Image.new("LA", (16, 16), (40, 0)), "PNG")
    assert pixels(opened(JpegEncoder().encode(grey))).min() > 250


def test_sixteen_bits_keep_their_scale():
    ramp = np.linspace(0, 65535, 48).astype(np.uint16)[None].repeat(32, 0)
    got = opened(JpegEncoder().encode(saved(Image.fromarray(ramp), "PNG")))
    assert got.mode == "RGB"
    np.testing.assert_allclose(pixels(got)[..., 0], ramp / 257, atol=6)


def test_cmyk_becomes_rgb():
    raw = saved(gradient().convert("CMYK"), "JPEG", quality=98)
    got = opened(JpegEncoder().encode(raw))
    assert got.mode == "RGB"
    np.testing.assert_allclose(pixels(got), pixels(gradient()), atol=12)


@pytest.mark.parametrize(("size", "want"), [((400, 100), (200, 50)), ((90, 300), (60, 200))])
def test_max_side_keeps_proportions(size, want):
    got = opened(JpegEncoder(max_side=200).encode(saved(gradient(*size), "JPEG")))
    assert got.size == want
    np.testing.assert_allclose(pixels(got), pixels(gradient(*want)), atol=12)


def test_quality_sets_the_size_of_what_is_re_encoded():
    raw = saved(noise(0, (128, 128)), "PNG")
    assert len(JpegEncoder(quality=30).encode(raw)) < 0.5 * len(JpegEncoder(quality=95).encode(raw))


@pytest.mark.parametrize("bad", [{"max_side": 0}, {"quality": 0}, {"quality": 101}])
def test_encoder_refuses(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name} must be .* got {value}"):
        JpegEncoder(**bad)


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
