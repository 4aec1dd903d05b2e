"""From photos on disk to checked shards, by call and by command line."""

import functools
import json
import re

import numpy as np
import pytest
from photo_folders import FRACTIONS, contents, folder_of_photos, noise, opened, pixels, saved
from PIL import Image

from kdtf import data
from tfrecords_tools import build, validate


def examples(info, split):
    return list(data.read_examples(info, split))


def photo_files(root, *names):
    for number, name in enumerate(names):
        (root / name).write_bytes(saved(noise(number), "JPEG"))


def spoiled(root):
    """A folder with every kind of stray and damaged file; the latter are returned."""
    folder_of_photos(root, {"apple": 4, "pear": 3, "notes": 1})
    (root / "notes" / "0.jpg").rename(root / "notes" / "ripe.txt")
    (root / "notes" / "ripe.txt").write_text("ripe", encoding="utf-8")
    (root / "apple" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (root / "apple" / "list.csv").write_text("", encoding="utf-8")
    (root / "apple" / "no suffix").write_bytes(saved(noise(77), "PNG"))
    cut = root / "pear" / "1.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    (root / "apple" / "text.jpg").write_text("ripe", encoding="utf-8")
    (root / "apple" / "empty.png").touch()
    return ["pear/1.jpg", "apple/text.jpg", "apple/empty.png"]


@pytest.mark.parametrize("workers", [1, 2])
def test_damaged_photos_are_all_named_before_work_begins(workers, tmp_path):
    damaged = spoiled(tmp_path / "in")
    with pytest.raises(ValueError, match="3 of 12 photos are damaged.*--skip-broken") as refusal:
        build.build(tmp_path / "in", tmp_path / "out", split_fractions=FRACTIONS, workers=workers)
    for name in damaged:
        assert name in str(refusal.value)
    assert "pear/1.jpg cannot be read as a photo" in str(refusal.value)
    assert "ripe.txt" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_damaged_photos_are_left_out_where_asked_and_counted(tmp_path, capsys):
    spoiled(tmp_path / "in")
    arguments = ["--source", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    build.main([*arguments, "--workers", "1", "--split", "train=1", "--skip-broken"])
    text = capsys.readouterr().out
    assert "left out, damaged: 3 ('apple/empty.png', 'apple/text.jpg', 'pear/1.jpg')" in text
    assert "left out, no image by content: 2 ('apple/list.csv', 'notes/ripe.txt')" in text
    assert "left out, hidden or of the system: 1 ('apple/Thumbs.db')" in text
    assert "left out, class without photos: 'notes'" in text
    info = data.DatasetInfo.load(tmp_path / "out")
    assert info.classes == ("apple", "pear")
    assert info.splits["train"].class_counts == (5, 2)
    assert validate.validate(info.directory) == []


def test_strays_alone_stop_nothing(tmp_path):
    folder_of_photos(tmp_path / "in", {"apple": 2})
    (tmp_path / "in" / "apple" / "notes.txt").write_text("ripe", encoding="utf-8")
    lines = []
    info, _ = build.build(
        tmp_path / "in",
        tmp_path / "out",
        split_fractions={"train": 1.0},
        workers=1,
        report=lines.append,
    )
    assert info.splits["train"].examples == 2
    assert lines == ["left out, no image by content: 1 ('apple/notes.txt')"]


def test_a_list_names_photos_only(tmp_path):
    """What a list names is meant: it is never left out without being asked for."""
    photo_files(tmp_path, "a.jpg")
    (tmp_path / "notes.txt").write_text("ripe", encoding="utf-8")
    (tmp_path / "list.csv").write_text("path,label\na.jpg,fig\nnotes.txt,fig\n", encoding="utf-8")
    options = {"split_fractions": {"train": 1.0}, "workers": 1}
    with pytest.raises(ValueError, match="1 of 2 photos are damaged.*\n.*notes.txt is not a photo"):
        build.build(tmp_path / "list.csv", tmp_path / "out", **options)
    info, _ = build.build(tmp_path / "list.csv", tmp_path / "out", skip_broken=True, **options)
    assert info.splits["train"].examples == 1


@pytest.mark.parametrize("column", ["Größe (cm)", "store region", "a/b", "x:y", "Ünit"])
def test_columns_that_no_model_can_take_are_refused_with_a_proposal(column, tmp_path):
    photo_files(tmp_path, "a.jpg")
    text = f'path,label,split,"{column}"\na.jpg,fig,train,1\n'
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"cannot be an input of a model: rename it to '[\w.-]+'"):
        build.build(tmp_path / "list.csv", tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_a_foreign_folder_is_refused_before_the_source_is_read(tmp_path):
    (tmp_path / "out" / ".photos").mkdir(parents=True)
    (tmp_path / "out" / ".photos" / "mine.jpg").touch()
    with pytest.raises(ValueError, match="is not empty.*'.photos'"):
        build.build("tfds:there_is_no_such_set", tmp_path / "out")
    assert (tmp_path / "out" / ".photos" / "mine.jpg").exists()


def test_shards_may_lie_in_the_source(tmp_path):
    root = folder_of_photos(tmp_path / "in", {"apple": 3})
    info, _ = build.build(root, root / "shards", split_fractions={"train": 1.0}, workers=1)
    assert info.classes == ("apple",)
    with pytest.raises(ValueError, match="is not empty.*'apple'"):
        build.build(root, root, split_fractions={"train": 1.0}, workers=1)


def test_a_source_with_training_photos_only_is_divided(tmp_path):
    root = folder_of_photos(tmp_path / "in", {"train/fig": 10})
    info, _ = build.build(root, tmp_path / "out", split_fractions=FRACTIONS, workers=1)
    assert {name: split.examples for name, split in info.splits.items()} == {
        "train": 8,
        "val": 1,
        "test": 1,
    }


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


def test_tensorflow_datasets(tmp_path, monkeypatch):
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
    make = functools.partial(
        build.build, "tfds:swatches", tmp_path / "out", data_dir=str(tmp_path / "tfds"), workers=1
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(data.DatasetInfo, "save", lambda info: _raise(KeyboardInterrupt))
        make()
    finished = {path: path.stat() for path in (tmp_path / "out").glob("*.tfrecord")}
    info, _ = make()
    assert len(finished) == 2
    for path, stat in finished.items():
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == (stat.st_mtime_ns, stat.st_ino)
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


def _raise(error):
    raise error


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
    assert "duplicates: 3 pairs" in text


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
