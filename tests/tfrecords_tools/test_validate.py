"""Every way to spoil a data set is found and named; a sound one passes."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdtf import data
from kdtf.files import file_sha256
from tfrecords_tools import validate
from tfrecords_tools.encoding import to_jpeg
from tfrecords_tools.shards import Photo, write_dataset

TRAIN, TEST = "train-00000-of-00002.tfrecord", "test-00000-of-00001.tfrecord"


class Noise:
    """A photo whose pixels its id decides."""

    def __repr__(self):
        return "Noise()"

    def __call__(self, photo):
        rng = np.random.default_rng(list(photo.id.encode()))
        return to_jpeg(Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)))


def build(out):
    photos = [
        Photo(f"{split}-{index}", None, split, "ab"[index % 2], {"camera": "xy"[index % 2]})
        for split, count in (("train", 8), ("test", 4))
        for index in range(count)
    ]
    photos[3] = Photo("train-3", None, "train", "b")
    write_dataset(out, photos, Noise(), classes=["a", "b"], examples_per_shard=4, workers=1)


@pytest.fixture
def directory(tmp_path):
    build(tmp_path / "set")
    return tmp_path / "set"


def edit_manifest(directory, change):
    path = directory / data.MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def rewrite(directory, file, change):
    """Replaces a shard's records by `change(list of records)` and states its size and hash anew."""
    path = directory / file
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in change(records):
            writer.write(record)

    def restate(manifest):
        for split in manifest["splits"].values():
            for shard in split["shards"]:
                if shard["file"] == file:
                    shard |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}

    edit_manifest(directory, restate)


def altered(**fields):
    """A change of the first record: some fields of its `Example` replaced."""

    def change(records):
        example = data.deserialize(records[0])._replace(**fields)
        return [data.serialize(example), *records[1:]]

    return change


def only(problems, *texts):
    """Every problem is one of those named by `texts`, and each text names one."""
    for text in texts:
        assert [p for p in problems if text in p], (text, problems)
    assert all(any(text in p for text in texts) for p in problems), problems


def test_a_sound_set_passes(directory, capsys):
    assert validate.validate(directory) == []
    validate.main([str(directory), "--workers", "1"])
    assert capsys.readouterr().out.splitlines() == [
        f"OK: {directory}: 2 classes, photos: train 8, test 4"
    ]


def test_unlabelled_photos_are_sound(tmp_path):
    photos = [Photo(f"{index}", None, "train") for index in range(3)]
    write_dataset(tmp_path / "set", photos, Noise(), classes=["a"], workers=1)
    assert validate.validate(tmp_path / "set") == []


def test_missing_shard(directory):
    (directory / TEST).unlink()
    only(
        validate.validate(directory),
        f"{TEST}: the file is missing",
        "split test: 0 photos of class a, dataset.json says 2",
        "split test: 0 photos of class b, dataset.json says 2",
    )


@pytest.mark.parametrize(
    "name", ["val-00000-of-00001.tfrecord", f".partial-77-{TRAIN}", f".{TRAIN}.json"]
)
def test_stray_files(directory, name):
    (directory / name).write_bytes(b"")
    only(validate.validate(directory), f"{name}: a stray file")


def test_files_of_other_kinds_are_left_alone(directory):
    (directory / "README.md").write_text("about these photos")
    assert validate.validate(directory) == []


def test_flipped_byte(directory):
    path = directory / TRAIN
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    problems = validate.validate(directory)
    assert any(f"{TRAIN}: sha256 " in problem for problem in problems)
    assert any(f"{TRAIN}: unreadable after record" in problem for problem in problems)
    assert not any(": bytes" in problem for problem in problems)


def test_truncated_shard(directory):
    path = directory / TRAIN
    raw = path.read_bytes()
    path.write_bytes(raw[:-5])
    problems = validate.validate(directory)
    assert f"{TRAIN}: {len(raw) - 5} bytes, dataset.json says {len(raw)}" in problems
    assert any(f"{TRAIN}: unreadable after record 3" in problem for problem in problems)
    assert f"{TRAIN}: 3 records, dataset.json says 4" in problems


def test_wrong_count_of_a_shard(directory):
    rewrite(directory, TRAIN, lambda records: records[:-1])
    problems = validate.validate(directory)
    assert f"{TRAIN}: 3 records, dataset.json says 4" in problems
    assert any("photos of class" in problem for problem in problems)
    assert not any("sha256" in problem for problem in problems)


def test_wrong_class_counts(directory):
    def change(manifest):
        manifest["splits"]["train"]["class_counts"] = [5, 3]

    edit_manifest(directory, change)
    only(
        validate.validate(directory),
        "split train: 4 photos of class a, dataset.json says 5",
        "split train: 4 photos of class b, dataset.json says 3",
    )


def test_class_counts_of_another_length(directory):
    def change(manifest):
        manifest["splits"]["train"]["class_counts"] = [4, 4, 0]

    edit_manifest(directory, change)
    only(validate.validate(directory), "class_counts has 3 entries for 2 classes")


def test_wrong_missing_counts(directory):
    def change(manifest):
        manifest["splits"]["train"]["missing"]["camera"] = 0

    edit_manifest(directory, change)
    only(
        validate.validate(directory),
        "split train: camera is missing from 1 photos, dataset.json says 0",
    )


def test_missing_counted_for_other_columns(directory):
    def change(manifest):
        manifest["splits"]["train"]["missing"] = {"lens": 8}

    edit_manifest(directory, change)
    only(
        validate.validate(directory),
        "missing is counted for ['lens'], the columns are ['camera']",
    )


def test_wrong_sum(directory):
    def change(manifest):
        manifest["splits"]["train"]["examples"] = 9

    edit_manifest(directory, change)
    only(validate.validate(directory), "split train: 9 examples stated, its shards' sum is 8")


def test_repeated_class_name(directory):
    edit_manifest(directory, lambda manifest: manifest.update(classes=["a", "a"]))
    only(validate.validate(directory), "class 1 is called 'a', and so is class 0")


def test_shard_named_twice(directory):
    def change(manifest):
        train = manifest["splits"]["train"]
        train["shards"].append(train["shards"][0])

    edit_manifest(directory, change)
    assert f"{TRAIN}: named 2 times" in validate.validate(directory)


def test_record_that_is_no_example(directory):
    rewrite(directory, TRAIN, lambda records: [b"\xff\xff\xff", *records[1:]])
    problems = validate.validate(directory)
    assert any(f"{TRAIN}, record 0: not an example" in problem for problem in problems)


def test_record_without_an_image(directory):
    def change(records):
        proto = tf.train.Example.FromString(records[0])
        del proto.features.feature["image/encoded"]
        return [proto.SerializeToString(), *records[1:]]

    rewrite(directory, TRAIN, change)
    problems = validate.validate(directory)
    assert any("record 0: not an example: the record has no 'image/encoded'" in p for p in problems)


def noise_bytes(form, mode="RGB"):
    stream = io.BytesIO()
    Image.effect_noise((32, 24), 90).convert(mode).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("encoded", "complaint"),
    [
        (noise_bytes("JPEG")[:-300], "the photo cannot be decoded"),
        (b"", "the photo cannot be decoded"),
        (b"\x89PNG but not really", "the photo cannot be decoded"),
        (noise_bytes("PNG"), "the photo is PNG RGB, expected JPEG, RGB or L"),
        (noise_bytes("JPEG", "CMYK"), "the photo is JPEG CMYK, expected JPEG, RGB or L"),
    ],
)
def test_bad_photo(directory, encoded, complaint):
    rewrite(directory, TRAIN, altered(encoded=encoded))
    problems = validate.validate(directory)
    only(problems, complaint)
    assert f"{TRAIN}, record 0 (train-" in problems[0]


def test_grey_photos_are_sound(directory):
    rewrite(directory, TRAIN, altered(encoded=noise_bytes("JPEG", "L")))
    assert validate.validate(directory) == []


@pytest.mark.parametrize("label", [-1, 2])
def test_label_out_of_range(directory, label):
    rewrite(directory, TRAIN, altered(label=label))
    only(validate.validate(directory), f"label {label} is outside 0..1", "split train: 3 photos")


def test_lost_label(directory):
    rewrite(directory, TRAIN, altered(label=None))
    only(validate.validate(directory), "split train: 3 photos of class")


def test_value_outside_the_vocabulary(directory):
    def change(records):
        example = next(e for e in map(data.deserialize, records) if e.metadata)
        rest = [r for r in records if data.deserialize(r).id != example.id]
        return [data.serialize(example._replace(metadata={"camera": "z"})), *rest]

    rewrite(directory, TRAIN, change)
    only(validate.validate(directory), "camera 'z' is not in its vocabulary")


def test_unknown_column(directory):
    def change(records):
        first = data.deserialize(records[0])
        return altered(metadata=first.metadata | {"lens": "35"})(records)

    rewrite(directory, TRAIN, change)
    only(validate.validate(directory), "unknown metadata column 'lens'")


def test_ids_repeated_across_splits(directory):
    other = data.deserialize(
        next(tf.data.TFRecordDataset(str(directory / TEST)).as_numpy_iterator())
    )
    rewrite(directory, TRAIN, altered(id=other.id))
    only(validate.validate(directory), f"id {other.id!r} occurs before, in {TRAIN}")


def test_leaks_are_a_problem_unless_allowed(directory, capsys):
    other = data.deserialize(
        next(tf.data.TFRecordDataset(str(directory / TEST)).as_numpy_iterator())
    )
    rewrite(directory, TRAIN, altered(encoded=other.encoded))
    (problem,) = validate.validate(directory)
    assert problem.startswith(f"LEAK: test/{other.id} and train/train-")
    assert problem.endswith("are the same bytes")
    assert validate.validate(directory, allow_leaks=True) == []
    validate.main([str(directory), "--allow-leaks"])
    assert capsys.readouterr().out.startswith("OK")


def test_leaks_that_dataset_json_knows_are_a_problem(directory):
    leak = {"splits": ["test", "train"], "ids": ["x", "y"], "exact": False}
    edit_manifest(directory, lambda manifest: manifest.update(leaks=[leak]))
    assert validate.validate(directory) == ["LEAK: test/x and train/y look the same"]


def test_a_jpeg_that_training_cannot_decode(directory):
    raw = noise_bytes("JPEG")
    place = raw.find(b"\xff\xc0") + 1
    lossless = raw[:place] + b"\xc3" + raw[place + 1 :]
    rewrite(directory, TRAIN, altered(encoded=lossless))
    (problem,) = validate.validate(directory)
    assert "cannot be decoded" in problem


def test_all_problems_are_reported_at_once(directory, capsys):
    (directory / TEST).unlink()
    (directory / "old.tfrecord").write_bytes(b"")
    rewrite(directory, TRAIN, altered(label=7, encoded=b"nothing"))
    problems = validate.validate(directory)
    for text in ("missing", "stray", "label 7", "cannot be decoded", "split train: 3 photos"):
        assert any(text in problem for problem in problems), text
    with pytest.raises(SystemExit) as stop:
        validate.main([str(directory)])
    assert stop.value.code == f"{directory}: {len(problems)} problems"  # printed; the status is 1
    assert capsys.readouterr().out.splitlines() == problems


def test_threads_do_not_change_the_report(directory):
    rewrite(directory, TRAIN, altered(label=7, encoded=b"nothing"))
    (directory / TEST).unlink()
    assert validate.validate(directory, workers=1) == validate.validate(directory, workers=3)


@pytest.mark.parametrize("text", [None, "{", '{"format": 99}', '{"format": 1}', "[]"])
def test_no_manifest_or_a_broken_one(directory, text):
    path = directory / data.MANIFEST
    path.unlink() if text is None else path.write_text(text)
    (problem,) = validate.validate(directory)
    assert data.MANIFEST in problem


@pytest.mark.parametrize("name", ["", "a\nb", "a\x0bb", "a\u2028b", "a\0b"])
def test_class_names_that_no_list_can_hold(directory, name):
    """Earlier versions built them, and a run stopped at its last stage."""
    edit_manifest(directory, lambda manifest: manifest.update(classes=["a", name]))
    only(validate.validate(directory), f"class 1 is called {name!r}")


def test_columns_that_no_model_can_take(directory):
    def change(manifest):
        manifest["metadata"] = {"store region": manifest["metadata"].pop("camera")}

    edit_manifest(directory, change)
    problems = validate.validate(directory)
    assert any("'store region' cannot be an input of a model" in problem for problem in problems)
