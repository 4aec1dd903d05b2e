"""From photos on disk to checked shards, by call and by command line."""

import io
import json
import re

import numpy as np
import pytest
from photo_folders import FRACTIONS, contents, folder_of_photos, noise, saved
from PIL import Image

from kdtf import data
from tfrecords_tools import build, validate


def opened(raw):
    image = Image.open(io.BytesIO(raw))
    image.load()
    return image


def pixels(image):
    return np.asarray(image, np.float64)


def examples(info, split):
    return list(data.read_examples(info, split))


def photo_files(root, *names):
    for number, name in enumerate(names):
        (root / name).write_bytes(saved(noise(number), "JPEG"))


def test_truncated_photo_is_named(tmp_path):
    folder_of_photos(tmp_path / "in", {"apple": 2, "pear": 2})
    broken = tmp_path / "in" / "pear" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"pear/1\.jpg cannot be read as a photo.*truncated"):
        build.build(tmp_path / "in", tmp_path / "out", split_fractions=FRACTIONS, workers=1)
    assert not (tmp_path / "out" / data.MANIFEST).exists()
    assert not list((tmp_path / "out").glob(".partial*"))


def test_a_file_that_is_no_photo_is_named(tmp_path):
    folder_of_photos(tmp_path / "in", {"apple": 2})
    (tmp_path / "in" / "apple" / "notes.txt").write_text("ripe")
    with pytest.raises(ValueError, match=r"apple/notes\.txt is not a photo that Pillow knows"):
        build.build(tmp_path / "in", tmp_path / "out", split_fractions=FRACTIONS, workers=1)


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


def test_a_source_without_splits_needs_fractions(tmp_path):
    folder_of_photos(tmp_path / "in", {"fig": 2})
    with pytest.raises(ValueError, match="does not say which split.*--split train=0.8"):
        build.build(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ValueError, match="neither a folder, a CSV file nor tfds:NAME"):
        build.build(tmp_path / "absent", tmp_path / "out")


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


def test_worker_count_does_not_change_a_byte(tmp_path):
    root = folder_of_photos(tmp_path / "in", {"fig": 7, "pear": 5})
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        build.build(root, out, split_fractions=FRACTIONS, workers=workers, examples_per_shard=3)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


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


def test_command_line_with_fractions(tmp_path, capsys):
    root = folder_of_photos(tmp_path / "in", {"fig": 10, "pear": 10})
    arguments = ["--source", str(root), "--out", str(tmp_path / "out"), "--workers", "1"]
    with pytest.raises(SystemExit, match="--split"):
        build.main(arguments)
    with pytest.raises(SystemExit):
        build.main([*arguments, "--split", "train"])
    assert "train=0.8,val=0.1,test=0.1, got 'train'" in capsys.readouterr().err
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
