"""Records in any order: a permutation of each epoch; what is damaged is named."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from solid_photos import COLOURS, encode_solid, photos

from kdtf import data
from kdtf.data import augment, record_files, records
from tfrecords_tools import shards

PHOTOS = 300


def written(out, members, per_shard=64):
    shards.write_dataset(
        out, members, encode_solid, classes=tuple(COLOURS), examples_per_shard=per_shard, workers=1
    )
    return data.DatasetInfo.load(out)


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    """300 photos of one colour whose metadata is their place among all shards."""
    out = tmp_path_factory.mktemp("set")
    members = [
        shards.Photo(f"{n:03d}", list(COLOURS.values())[n % 3], "train", list(COLOURS)[n % 3])
        for n in range(PHOTOS)
    ]
    return written(out, members)


def orders(info, epochs, seed=0, window=16):
    """int [epochs, records]: which record of the files comes at each place."""
    reader = records.RecordReader(info, "train", info.paths("train"))
    ids = [example.id.encode() for example in data.read_examples(info, "train")]
    found = []
    for epoch in range(epochs):
        epoch_records = reader.shuffled(
            tf.constant(epoch, tf.int64), seed, take=PHOTOS, window=window
        )
        parsed = (data.deserialize(each["serialized"].numpy()) for each in epoch_records)
        found.append([ids.index(each.id.encode()) for each in parsed])
    return np.array(found)


def test_epochs_are_permutations_without_a_trace_of_the_files_order(info):
    order = orders(info, epochs=12)
    np.testing.assert_array_equal(np.sort(order), np.tile(np.arange(PHOTOS), (12, 1)))
    places = np.argsort(order)
    chance = 1 / np.sqrt(PHOTOS - 1)  # standard deviation of a rank correlation
    for first in range(12):
        for other in [np.arange(PHOTOS), *places[first + 1 :]]:
            assert abs(scipy.stats.spearmanr(places[first], other)[0]) < 4 * chance
    # Neighbours in a file are as far apart as any two.
    distances = np.abs(np.diff(places)).mean()
    assert distances == pytest.approx(PHOTOS / 3, rel=0.1)
    # Over the epochs, every record is early and late: means of 12 uniform places.
    spread = PHOTOS / np.sqrt(12 * 12)
    assert np.abs(places.mean(0) - PHOTOS / 2).max() < 4.5 * spread
    assert (places[:, ::64].min(0) < PHOTOS / 2).all() and (
        places[:, ::64].max(0) > PHOTOS / 2
    ).all()


def test_the_order_depends_on_epoch_and_seed_not_on_memory(info):
    order = orders(info, epochs=2)
    np.testing.assert_array_equal(order, orders(info, epochs=2, window=PHOTOS))
    assert (order[0] != order[1]).any() and (order[0] != orders(info, 1, seed=1)[0]).any()


def test_pipelines_read_only_their_own_and_together_all(info):
    reader = records.RecordReader(info, "train", info.paths("train"))

    def ids(**options):
        own = reader.shuffled(tf.constant(3, tf.int64), 5, take=299, window=16, **options)
        return [data.deserialize(each["serialized"].numpy()).id for each in own]

    parts = [ids(pipelines=3, pipeline=number) for number in range(3)]
    whole = ids()
    assert len(whole) == 299
    assert [whole[number::3] for number in range(3)] == parts


def spoil(directory, change):
    info = written(directory, photos(4, "train") + photos(2, "test"), per_shard=6)
    (path,) = [path for path in info.paths("train") if "00001-of" in path]
    with open(path, "rb") as stream:
        content = stream.read()
    changed = change(content)
    with open(path, "wb") as stream:
        stream.write(changed)
    return info, path


def ways_to_read(info):
    options = {"seed": 0, "epochs": 1, "batch_size": 2, "image_size": 16}
    mixing = augment.Augmentation(mixup=1.0)
    return [
        lambda: list(data.training_batches(info, "train", **options)),
        lambda: list(data.training_batches(info, "train", augmentation=mixing, **options)),
        lambda: list(data.evaluation_batches(info, "train", 2, 16)),
        lambda: list(data.read_examples(info, "train")),
    ]


def last_record(content):
    return int(record_offsets(content)[-1])


def record_offsets(content):
    places, place = [], 0
    while place < len(content):
        places.append(place)
        place += 16 + int.from_bytes(content[place : place + 8], "little")
    return places


@pytest.mark.parametrize("way", range(4))
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[: last_record(content)], "bytes, its manifest says"),
        (lambda content: b"", "has 0 bytes, its manifest says"),
        (lambda content: content[:-5], "bytes, its manifest says"),
        (lambda content: content + content, "bytes, its manifest says"),
        (lambda content: b"\xff" * 8 + content[8:], "is damaged in record 0, 0 bytes from"),
        (
            lambda content: (len(content) - 16).to_bytes(8, "little") + content[8:],
            "has 1 records, its manifest says 6",
        ),
    ],
)
def test_a_shard_unlike_its_manifest_is_refused_before_reading(tmp_path, change, message, way):
    info, path = spoil(tmp_path, change)
    with pytest.raises(ValueError, match=message) as stop:
        ways_to_read(info)[way]()
    assert str(stop.value).startswith(path) and "`kdtf validate`" in str(stop.value)


@pytest.mark.parametrize("way", range(4))
def test_a_flipped_byte_names_its_shard(tmp_path, way):
    def flip(content):
        place = last_record(content) + 100
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    info, path = spoil(tmp_path, flip)
    with pytest.raises(tf.errors.InvalidArgumentError) as stop:
        ways_to_read(info)[way]()
    assert f"{path}" in str(stop.value) and "is damaged" in str(stop.value)
    assert "kdtf validate" in str(stop.value)


def test_a_missing_shard_is_named(tmp_path):
    info, path = spoil(tmp_path, lambda content: content)
    Path(path).unlink()
    for way in ways_to_read(info):
        with pytest.raises(FileNotFoundError, match="is missing"):
            way()


def test_offsets_are_those_of_the_records(info):
    for path, places in zip(
        info.paths("train"), record_files.offsets(info, "train", info.paths("train")), strict=True
    ):
        with open(path, "rb") as stream:
            assert places.tolist() == record_offsets(stream.read())


def test_a_label_that_is_no_class_is_refused(tmp_path):
    info = written(tmp_path, photos(4, "train"))
    fewer = data.DatasetInfo(info.directory, info.classes[:2], info.metadata, info.splits)
    with pytest.raises(tf.errors.InvalidArgumentError, match="none of its 2 classes"):
        list(data.evaluation_batches(fewer, "train", 4, 16))


@pytest.fixture
def partly_labelled(tmp_path):
    """Shards in which one photo in three has a label, one shard with a single one."""
    members = [
        shards.Photo(f"{n}", (1, 2, 3), "train", "apple" if n % 3 == 0 else None) for n in range(24)
    ]
    return written(tmp_path, members, per_shard=5)


def test_skipped_photos_are_not_mixed_in(partly_labelled):
    mixing = augment.Augmentation(mixup=1.0)
    options = {"seed": 0, "epochs": 3, "batch_size": 8, "image_size": 16, "augmentation": mixing}
    batches = list(data.training_batches(partly_labelled, "train", unlabelled="skip", **options))
    assert len(batches) == 3
    for _, label, weight in batches:
        np.testing.assert_allclose(tf.reduce_sum(label, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(weight, 1, rtol=1e-5)


def test_labels_are_counted_where_they_decide_what_is_read(partly_labelled):
    split = partly_labelled.split("train")._replace(class_counts=(9, 0, 0))
    wrong = data.DatasetInfo(
        partly_labelled.directory, partly_labelled.classes, {}, {"train": split}
    )
    with pytest.raises(ValueError, match="has 8 photos with a label, dataset.json says 9"):
        data.training_batches(wrong, "train", 4, 16, seed=0, epochs=1, unlabelled="skip")
