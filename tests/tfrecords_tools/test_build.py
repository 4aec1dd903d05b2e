"""From photos on disk to shards: sources, re-encoding, splits, resuming, duplicates."""

import io
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_folders import SHARES, contents, folder_of_photos, noise, saved
from PIL import Image

from kdtf import data
from tfrecords_tools import build, shards, sources, validate
from tfrecords_tools.shards import Photo, difference_hash, find_duplicates, write_dataset
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


def examples(info, split):
    return list(data.read_examples(info, split))


# --- re-encoding ---------------------------------------------------------------------------------


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


def test_truncated_photo_is_named(tmp_path):
    folder_of_photos(tmp_path / "in", {"apple": 2, "pear": 2})
    broken = tmp_path / "in" / "pear" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"pear/1\.jpg cannot be read as a photo.*truncated"):
        build.build(tmp_path / "in", tmp_path / "out", split_shares=SHARES, workers=1)
    assert not (tmp_path / "out" / data.MANIFEST).exists()
    assert not list((tmp_path / "out").glob(".partial*"))


def test_a_file_that_is_no_photo_is_named(tmp_path):
    folder_of_photos(tmp_path / "in", {"apple": 2})
    (tmp_path / "in" / "apple" / "notes.txt").write_text("ripe")
    with pytest.raises(ValueError, match=r"apple/notes\.txt is not a photo that Pillow knows"):
        build.build(tmp_path / "in", tmp_path / "out", split_shares=SHARES, workers=1)


@pytest.mark.parametrize("bad", [{"max_side": 0}, {"quality": 0}, {"quality": 101}])
def test_encoder_refuses(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name} must be .* got {value}"):
        JpegEncoder(**bad)


# --- folders and lists ---------------------------------------------------------------------------


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


def test_csv_with_metadata_and_byte_order_mark(tmp_path):
    photo_files(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    text = (
        "path,label,split,store_region,camera_type\n"
        'a.jpg,"Crisps, salted",train,north,phone\n'
        "b.jpg,Café,test,,tablet\n"
        "c.jpg,,train,,\n"
    )
    (tmp_path / "photos.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    info, _ = build.build(tmp_path / "photos.csv", tmp_path / "out", workers=1)
    assert info.classes == ("Café", "Crisps, salted")
    assert info.metadata == {"camera_type": ("phone", "tablet"), "store_region": ("north",)}
    found = {e.id: e for split in info.splits for e in examples(info, split)}
    assert found["a.jpg"].metadata == {"store_region": "north", "camera_type": "phone"}
    assert found["b.jpg"].metadata == {"camera_type": "tablet"}
    assert found["c.jpg"].metadata == {} and found["c.jpg"].label is None
    assert (found["a.jpg"].label, found["b.jpg"].label) == (1, 0)
    assert info.splits["train"].class_counts == (0, 1)
    assert info.splits["train"].missing == {"camera_type": 1, "store_region": 1}
    assert info.splits["test"].missing == {"camera_type": 0, "store_region": 1}
    assert validate.validate(info.directory) == []


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


def test_a_source_without_splits_needs_shares(tmp_path):
    folder_of_photos(tmp_path / "in", {"fig": 2})
    with pytest.raises(ValueError, match="does not say which split.*--split train=0.8"):
        build.build(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ValueError, match="neither a folder, a CSV file nor tfds:NAME"):
        build.build(tmp_path / "absent", tmp_path / "out")


def test_grocery_lists_name_every_photo(data_dir):
    root = data_dir / "grocery"
    lists = {split: root / f"{split}.txt" for split in ("train", "val", "test")}
    photos, classes = from_lists(lists, root, root / "classes.csv")
    assert Counter(p.split for p in photos) == {"train": 2640, "val": 296, "test": 1247}
    assert len(classes) == 81 and classes[:2] == ("Golden-Delicious", "Granny-Smith")
    photo = photos[-1]
    assert JpegEncoder()(photo) == Path(photo.source).read_bytes()


def test_tensorflow_datasets(tmp_path):
    """A set prepared offline from photos of our own: undecoded bytes, names, splits."""
    import tensorflow_datasets as tfds

    colours = {"blue": (0, 0, 200), "red": (200, 0, 0)}

    class Swatches(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tmp_path

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(16, 16, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=sorted(colours)),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(3), "validation": self._generate_examples(1)}

        def _generate_examples(self, count):
            for name, colour in colours.items():
                for index in range(count):
                    image = np.full((16, 16, 3), colour, np.uint8)
                    yield f"{name}{index}", {"image": image, "label": name}

    Swatches(data_dir=str(tmp_path / "tfds")).download_and_prepare()
    info, _ = build.build(
        "tfds:swatches", tmp_path / "out", data_dir=str(tmp_path / "tfds"), workers=1
    )
    assert info.classes == ("blue", "red")
    assert {name: split.class_counts for name, split in info.splits.items()} == {
        "train": (3, 3),
        "val": (1, 1),
    }
    for example in examples(info, "train"):
        middle = pixels(opened(example.encoded))[8, 8]
        np.testing.assert_allclose(middle, colours[info.classes[example.label]], atol=4)
    assert not (info.directory / ".photos").exists()
    assert validate.validate(info.directory) == []


# --- splits --------------------------------------------------------------------------------------


def unassigned(counts):
    return [
        Photo(f"{label}-{index}", None, "", label)
        for label, count in counts.items()
        for index in range(count)
    ]


def test_assign_splits_by_hand():
    photos = assign_splits(unassigned({"a": 10, "b": 20, "c": 1}), SHARES)
    found = Counter((p.label, p.split) for p in photos)
    assert found == {
        ("a", "train"): 8, ("a", "val"): 1, ("a", "test"): 1,
        ("b", "train"): 16, ("b", "val"): 2, ("b", "test"): 2,
        ("c", "train"): 1,
    }  # fmt: skip


def test_remainders_add_up_over_classes():
    """Ten classes of five photos: half a photo each for val and test, five photos together."""
    photos = assign_splits(unassigned({f"c{i}": 5 for i in range(10)}), SHARES)
    assert Counter(p.split for p in photos) == {"train": 40, "val": 5, "test": 5}


def test_photos_without_a_label_are_for_training():
    for shares in (SHARES, dict(reversed(SHARES.items()))):
        photos = assign_splits(unassigned({"a": 10, None: 20}), shares)
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
    shares = {n: w / sum(weights) for n, w in zip(names, weights, strict=True)}
    photos = unassigned(counts)
    found = assign_splits(photos, shares, seed)
    assert [replace(p, split="") for p in found] == photos
    shuffled = data_.draw(st.permutations(photos))
    assert {p.id: p.split for p in assign_splits(shuffled, shares, seed)} == {
        p.id: p.split for p in found
    }
    per_class = Counter((p.label, p.split) for p in found)
    for label, count in counts.items():
        assert per_class[label, "train"] >= 1
        if count * shares["train"] >= 1:  # else the first split's one photo is taken from another
            for name, share in shares.items():
                assert abs(per_class[label, name] - count * share) < 1 + 1e-9


def test_the_seed_of_the_splits_matters():
    photos = unassigned({"a": 40})
    first, second = (assign_splits(photos, SHARES, seed) for seed in (0, 1))
    assert [p.split for p in first] != [p.split for p in second]


@pytest.mark.parametrize("shares", [{"train": 0.8}, {"train": 1.2, "val": -0.2}])
def test_shares_must_sum_to_one(shares):
    with pytest.raises(ValueError, match="sum to 1"):
        assign_splits(unassigned({"a": 3}), shares)


# --- writing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flaky:
    """Encodes noise; refuses one photo while a file of that name exists; notes what it did."""

    folder: str
    fails: str = ""
    quality: int = 90

    def __repr__(self):
        return f"Flaky({self.quality})"

    def __call__(self, photo):
        with open(Path(self.folder) / "encoded.txt", "a") as log:
            log.write(photo.id + "\n")
        if photo.id == self.fails:
            raise KeyboardInterrupt
        return saved(noise(photo.source), "JPEG", quality=self.quality)


def numbered(count, split="train"):
    return [Photo(f"{split}-{i:02d}", i, split, "ab"[i % 2]) for i in range(count)]


def write(out, tmp_path, photos=None, **options):
    settings_ = {"classes": ["a", "b"], "examples_per_shard": 4, "workers": 1}
    encode = options.pop("encode", None) or Flaky(str(tmp_path))
    return write_dataset(out, photos or numbered(12), encode, **settings_ | options)


def encoded_since(tmp_path):
    log = tmp_path / "encoded.txt"
    lines = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def test_what_is_written_is_read(tmp_path):
    info, duplicates = write(tmp_path / "set", tmp_path, numbered(10) + numbered(3, "test"))
    assert duplicates != []  # train-00 and test-00 are the same noise
    assert [shard.examples for shard in info.splits["train"].shards] == [4, 3, 3]
    assert [shard.file for shard in info.splits["train"].shards] == [
        f"train-0000{index}-of-00003.tfrecord" for index in range(3)
    ]
    for split, count in (("train", 10), ("test", 3)):
        found = sorted(examples(info, split))
        assert [e.id for e in found] == [f"{split}-{i:02d}" for i in range(count)]
        assert [e.label for e in found] == [i % 2 for i in range(count)]
        assert [e.encoded for e in found] == [
            saved(noise(i), "JPEG", quality=90) for i in range(count)
        ]
    assert data.DatasetInfo.load(tmp_path / "set") == info
    assert validate.validate(tmp_path / "set") == []


def test_photos_are_shuffled_within_their_split(tmp_path):
    first, _ = write(tmp_path / "a", tmp_path, numbered(24))
    ids = [e.id for e in examples(first, "train")]
    assert ids != sorted(ids)
    second, _ = write(tmp_path / "b", tmp_path, numbered(24)[::-1])
    assert ids == [e.id for e in examples(second, "train")]  # whatever the order given
    third, _ = write(tmp_path / "c", tmp_path, numbered(24), seed=1)
    assert ids != [e.id for e in examples(third, "train")]


def test_worker_count_does_not_change_a_byte(tmp_path):
    root = folder_of_photos(tmp_path / "in", {"fig": 7, "pear": 5})
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        build.build(root, out, split_shares=SHARES, workers=workers, examples_per_shard=3)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


def test_interrupted_build_continues_to_the_same_bytes(tmp_path):
    whole, _ = write(tmp_path / "whole", tmp_path)
    order = encoded_since(tmp_path)
    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        write(broken, tmp_path, encode=Flaky(str(tmp_path), fails=order[6]))
    assert encoded_since(tmp_path) == order[:7]
    assert not (broken / data.MANIFEST).exists()
    with pytest.raises(FileNotFoundError):
        data.DatasetInfo.load(broken)
    finished = [path.name for path in broken.glob("*.tfrecord")]
    assert finished == ["train-00000-of-00003.tfrecord"]
    assert not list(broken.glob(".partial*"))
    write(broken, tmp_path)
    assert encoded_since(tmp_path) == order[4:]  # the finished shard is not made again
    assert contents(broken) == contents(tmp_path / "whole")


def test_a_killed_process_leaves_nothing_that_counts(tmp_path):
    """What kill -9 leaves: a shard without its facts, a half-written one, half-written facts."""
    whole, _ = write(tmp_path / "whole", tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    name = whole.splits["train"].shards[0].file
    raw = (tmp_path / "whole" / name).read_bytes()
    (broken / name).write_bytes(raw[:100])
    (broken / f".partial-4242-{name}").write_bytes(raw[:50])
    (broken / f".partial-4242-.{name}.json").write_text("{")
    (broken / "train-00000-of-00099.tfrecord").write_bytes(raw)  # of another plan
    (broken / ".train-00000-of-00099.tfrecord.json").write_text("{}")
    (broken / "notes.txt").write_text("not ours")
    write(broken, tmp_path)
    assert contents(broken) == contents(tmp_path / "whole") | {"notes.txt": b"not ours"}


def interrupt_after_one_shard(out, tmp_path):
    write(tmp_path / "whole", tmp_path)
    order = encoded_since(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(out, tmp_path, encode=Flaky(str(tmp_path), fails=order[4]))
    encoded_since(tmp_path)
    return order


def test_finished_shard_is_made_again_when_settings_change(tmp_path):
    interrupt_after_one_shard(tmp_path / "set", tmp_path)
    write(tmp_path / "set", tmp_path, encode=Flaky(str(tmp_path), quality=50))
    assert len(encoded_since(tmp_path)) == 12
    write(tmp_path / "fresh", tmp_path, encode=Flaky(str(tmp_path), quality=50))
    assert contents(tmp_path / "set") == contents(tmp_path / "fresh")


def test_finished_shard_is_made_again_when_its_file_was_damaged(tmp_path):
    interrupt_after_one_shard(tmp_path / "set", tmp_path)
    shard = tmp_path / "set" / "train-00000-of-00003.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    write(tmp_path / "set", tmp_path)
    assert len(encoded_since(tmp_path)) == 12
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_finished_set_is_not_overwritten(tmp_path):
    write(tmp_path / "set", tmp_path)
    before = contents(tmp_path / "set")
    with pytest.raises(FileExistsError, match="already holds a data set"):
        write(tmp_path / "set", tmp_path, numbered(3))
    assert contents(tmp_path / "set") == before


def test_writing_refuses(tmp_path):
    with pytest.raises(ValueError, match="no photos to write"):
        write_dataset(tmp_path / "set", [], Flaky(""), classes=["a"])
    with pytest.raises(ValueError, match="1 ids occur more than once, the first is 'train-03'"):
        write(tmp_path / "set", tmp_path, numbered(5) + numbered(4)[3:])
    with pytest.raises(ValueError, match=r"labels \['b'\] are not among the 1 classes"):
        write(tmp_path / "set", tmp_path, classes=["a"])
    with pytest.raises(ValueError, match="examples_per_shard must be at least 1, got 0"):
        write(tmp_path / "set", tmp_path, examples_per_shard=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 3))
def test_shards_are_nearly_equal_and_hold_every_photo_once(count, per_shard, seed):
    plan = shards._plan_shards(numbered(count), per_shard, seed)
    sizes = [len(chunk) for chunk in plan.values()]
    assert len(sizes) == -(-count // per_shard)
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= per_shard
    held = Counter(p.id for chunk in plan.values() for p in chunk)
    assert held == Counter(p.id for p in numbered(count))


# --- duplicates ----------------------------------------------------------------------------------


def test_difference_hash_by_hand():
    rising = np.tile(np.arange(9, dtype=np.uint8) * 20, (8, 1))
    assert difference_hash(Image.fromarray(rising)) == 2**64 - 1
    assert difference_hash(Image.fromarray(rising[:, ::-1])) == 0
    one = np.zeros((8, 9), np.uint8)
    one[0, 1] = 255  # the first cell of the first row is darker than the second: the highest bit
    assert difference_hash(Image.fromarray(one)) == 1 << 63


def test_difference_hash_survives_re_encoding(data_dir):
    path = sorted((data_dir / "grocery" / "train").rglob("*.jpg"))[100]
    with Image.open(path) as photo:
        small = photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.BOX)
        again = opened(saved(small, "JPEG", quality=70))
        assert (difference_hash(photo) ^ difference_hash(again)).bit_count() <= 2


def naive_duplicates(fingerprints, max_bits):
    pairs = set()
    for i, a in enumerate(fingerprints):
        for b in fingerprints[i + 1 :]:
            lively = all(8 <= h.bit_count() <= 56 for h in (a[3], b[3]))
            if a[2] != b[2] and lively and (a[3] ^ b[3]).bit_count() <= max_bits:
                pairs.add(frozenset((a[1], b[1])))
    return pairs


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_near_duplicates_match_the_naive_search(seed, max_bits):
    rng = np.random.default_rng(seed)
    base = [int(rng.integers(0, 2**63)) * 2 + 1 for _ in range(4)] + [0, 2**64 - 1]
    prints = []
    for index in range(24):
        value = base[rng.integers(len(base))]
        for bit in rng.integers(0, 64, rng.integers(0, 4)):
            value ^= 1 << int(bit)
        prints.append(("train", f"{index:02d}", f"content{index}", value))
    found = find_duplicates(prints, max_bits)
    got = {frozenset((d.first[6:], d.second[6:])) for d in found}
    assert got == naive_duplicates(prints, max_bits)
    assert len(found) == len(got)


def test_exact_duplicates_and_leaks_come_first():
    lively = 0x0F0F0F0F0F0F0F0F
    prints = [
        ("train", "a", "same", lively),
        ("train", "b", "other", lively ^ 1),
        ("test", "c", "same", lively),
        ("val", "d", "flat", 0),
        ("val", "e", "flat too", 0),
        ("val", "f", "flat", 0),
    ]
    found = [tuple(d) for d in find_duplicates(prints)]
    assert found == [
        ("test/c", "train/a", True, True),
        ("val/d", "val/f", True, False),
        ("train/a", "train/b", False, False),
    ]


def test_leaks_are_found_and_summed_up(tmp_path, capsys):
    root = folder_of_photos(tmp_path / "in", {"train/fig": 4, "train/pear": 2, "test/fig": 2})
    blotches = noise(99, (9, 8)).resize((180, 160), Image.Resampling.NEAREST)
    copy = saved(blotches, "JPEG")
    (root / "train" / "fig" / "1.jpg").write_bytes(copy)
    (root / "test" / "fig" / "copy.jpg").write_bytes(copy)
    again = saved(blotches.resize((90, 80), Image.Resampling.BOX), "JPEG", quality=85)
    (root / "test" / "fig" / "again.jpg").write_bytes(again)
    build.main(["--source", str(root), "--out", str(tmp_path / "out"), "--workers", "1"])
    text = capsys.readouterr().out
    assert re.search(r"train +6 photos.* 2 to 4 photos each \(imbalance 2\.0\)", text)
    assert re.search(r"test +4 photos.* 1 classes present", text)
    leaks = re.findall(r"LEAK (same bytes|look the same): test/test/fig/(\w+)\.jpg  train/", text)
    assert leaks == [("same bytes", "copy"), ("look the same", "again")]
    assert "duplicates: 2 pairs" in text


# --- the command line ----------------------------------------------------------------------------


def test_command_line_with_shares(tmp_path, capsys):
    root = folder_of_photos(tmp_path / "in", {"fig": 10, "pear": 10})
    arguments = ["--source", str(root), "--out", str(tmp_path / "out"), "--workers", "1"]
    with pytest.raises(SystemExit, match="--split"):
        build.main(arguments)
    with pytest.raises(SystemExit, match="train=0.8,val=0.1,test=0.1, got 'train'"):
        build.main([*arguments, "--split", "train"])
    build.main([*arguments, "--split", "train=0.8,val=0.1,test=0.1"])
    manifest = json.loads((tmp_path / "out" / data.MANIFEST).read_text())
    assert {name: s["class_counts"] for name, s in manifest["splits"].items()} == {
        "train": [8, 8],
        "val": [1, 1],
        "test": [1, 1],
    }
    with pytest.raises(SystemExit, match="already holds a data set"):
        build.main([*arguments, "--split", "train=0.8,val=0.1,test=0.1"])


def test_command_line_with_lists_and_max_side(tmp_path, capsys):
    photo_files(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "train.txt").write_text("a.jpg, 0\n")
    (tmp_path / "test.txt").write_text("b.jpg, 1\n")
    (tmp_path / "names.csv").write_text("fig,0\npear,1\n")
    out = tmp_path / "out"
    build.main(
        ["--source", str(tmp_path), "--train", "train.txt", "--test", "test.txt",
         "--class-names", "names.csv", "--out", str(out), "--workers", "1", "--max-side", "20"]
    )  # fmt: skip
    info = data.DatasetInfo.load(out)
    assert info.classes == ("fig", "pear")
    assert opened(examples(info, "test")[0].encoded).size == (20, 15)
