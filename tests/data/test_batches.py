"""Shards to batches: schema, order, views, metadata, weights; nothing lost, nothing repeated."""

import json
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from solid_photos import COLOURS, encode_solid, photos

from kdtf import data
from kdtf.data import augment
from tfrecords_tools import shards


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    out = tmp_path_factory.mktemp("set")
    members = photos() + photos(3, "val")
    shards.write_dataset(
        out, members, encode_solid, classes=tuple(COLOURS), examples_per_shard=7, workers=1
    )
    return data.DatasetInfo.load(out)


def plain(info, **options):
    settings = {"seed": 3, "epochs": 2, "batch_size": 4, "image_size": 16} | options
    return data.training_batches(info, "train", **settings)


def listed(dataset):
    return [[np.asarray(leaf) for leaf in tf.nest.flatten(batch)] for batch in dataset]


def same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def test_example_round_trip():
    example = data.Example("a/1", b"\xff\xd8jpeg", 7, {"region": "nörd", "camera": "c"})
    assert data.deserialize(data.serialize(example)) == example
    bare = data.Example("b", b"x", None, {})
    assert data.deserialize(data.serialize(bare)) == bare


def test_a_record_without_its_photo_is_refused():
    empty = tf.train.Example().SerializeToString()
    with pytest.raises(ValueError, match="no 'image/encoded'"):
        data.deserialize(empty)


def test_manifest_round_trip(info, tmp_path):
    (tmp_path / data.MANIFEST).write_text(info.to_json())
    again = data.DatasetInfo.load(tmp_path)
    assert again.to_json() == info.to_json()
    assert info.splits["train"].class_counts == (10, 10, 10)
    assert info.splits["train"].missing == {"region": 9}
    assert info.metadata == {"region": ("north", "south")}
    assert [shard.examples for shard in info.splits["train"].shards] == [6, 6, 6, 6, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a data set manifest"),
        (json.dumps({"format": 99}), "format 99, this version reads 1"),
        (json.dumps({"format": 1}), "not a data set manifest"),
    ],
)
def test_broken_manifests_are_refused(tmp_path, text, message):
    (tmp_path / data.MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=message):
        data.DatasetInfo.load(tmp_path)


def test_an_absent_manifest_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="tfrecords_tools.build"):
        data.DatasetInfo.load(tmp_path)


def test_batches_have_the_promised_form(info):
    x, label, weight = next(iter(plain(info, columns=("region",))))
    assert set(x) == {"image", "meta/region", "meta/region/missing"}
    assert x["image"].shape == (4, 16, 16, 3) and x["image"].dtype == tf.float32
    assert x["meta/region"].dtype == tf.int32
    assert x["meta/region/missing"].dtype == tf.float32
    assert label.dtype == tf.int32
    np.testing.assert_array_equal(weight, 1.0)


def test_evaluation_reads_every_photo_once_in_order(info):
    batches = data.evaluation_batches(info, "train", 8, 16, columns=("region",))
    assert batches.cardinality() == 4
    got = [(x, y) for x, y, _ in batches]
    stored = list(data.read_examples(info, "train"))
    found = np.concatenate([y for _, y in got])
    np.testing.assert_array_equal(found, [example.label for example in stored])
    words = {None: 0, "north": 1, "south": 2}
    want = [words[example.metadata.get("region")] for example in stored]
    index = np.concatenate([x["meta/region"] for x, _ in got])
    np.testing.assert_array_equal(index, want)
    missing = np.concatenate([x["meta/region/missing"] for x, _ in got])
    np.testing.assert_array_equal(missing, np.equal(want, 0))
    images = np.concatenate([x["image"] for x, _ in got])
    colours = np.array(list(COLOURS.values()))[found]
    np.testing.assert_allclose(images.mean((1, 2)), colours, atol=3)


def test_values_outside_the_vocabulary_count_as_missing(info):
    narrow = data.DatasetInfo(info.directory, info.classes, {"region": ("south",)}, info.splits)
    batches = data.evaluation_batches(narrow, "train", 30, 16, columns=("region",))
    x, _, _ = next(iter(batches))
    assert Counter(x["meta/region"].numpy()) == {0: 21, 1: 9}
    np.testing.assert_array_equal(x["meta/region/missing"], x["meta/region"] == 0)


def test_a_seed_decides_order_and_views(info):
    tf.random.set_seed(1)
    first = listed(plain(info))
    tf.random.set_seed(2)
    same(first, listed(plain(info)))
    other = listed(plain(info, seed=4))
    assert any((a[1] != b[1]).any() for a, b in zip(first, other, strict=True))


def test_epochs_differ_and_can_be_continued(info):
    whole = listed(plain(info))
    assert len(whole) == 2 * data.steps_per_epoch(info, "train", 4) == 14
    assert any((a[1] != b[1]).any() for a, b in zip(whole[:7], whole[7:], strict=True))
    same(whole[7:], listed(plain(info, first_epoch=1)))


def test_an_epoch_holds_no_photo_twice(info):
    labels = np.concatenate([y for _, y, _ in plain(info, epochs=1, batch_size=5)])
    assert Counter(labels) == {0: 10, 1: 10, 2: 10}


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_every_batch(info, workers):
    options = {"batch_size": 6, "shuffle_examples": 8, "columns": ["region"]}
    whole = listed(plain(info, **options))
    shares = [
        listed(plain(info, worker=worker, workers=workers, **options)) for worker in range(workers)
    ]
    assert [len(share) for share in shares] == [len(whole)] * workers
    for batch, *parts in zip(whole, *shares, strict=True):
        for leaf, *pieces in zip(batch, *parts, strict=True):
            assert {len(piece) for piece in pieces} == {6 // workers}
            np.testing.assert_array_equal(np.stack(pieces, 1).reshape(leaf.shape), leaf)


def test_a_small_window_still_reads_every_photo(info):
    batches = plain(info, epochs=1, batch_size=5, shuffle_examples=3)
    assert Counter(np.concatenate([y for _, y, _ in batches])) == {0: 10, 1: 10, 2: 10}


def test_the_view_depends_on_seed_epoch_and_photo_only(info):
    """Other batches and another shuffle: the same photo is still seen in the same views."""

    def views(**options):
        bright = augment.Augmentation(brightness=0.5)
        batches = plain(info, epochs=1, augmentation=bright, **options)
        return Counter(image.numpy().tobytes() for x, _, _ in batches for image in x["image"])

    assert views(batch_size=5) == views(batch_size=6, shuffle_examples=4)


def test_every_photo_and_every_epoch_has_its_own_view(info):
    """Photos of one colour differ by their drawn brightness only."""
    bright = augment.Augmentation(brightness=0.9, contrast=0, saturation=0)
    batches = plain(info, epochs=3, batch_size=5, augmentation=bright)
    views = Counter(image.numpy().tobytes() for x, _, _ in batches for image in x["image"])
    assert len(views) >= 85  # of 90; a few drawn factors may round to the same pixels


def test_fast_mode_gives_the_same_batches(info):
    def batches(deterministic):
        found = listed(plain(info, epochs=1, deterministic=deterministic))
        return Counter(b"".join(leaf.tobytes() for leaf in batch) for batch in found)

    assert batches(False) == batches(True)


def test_a_cache_gives_the_same_batches(info, tmp_path):
    cached = listed(plain(info, cache=tmp_path / "cache"))
    same(listed(plain(info)), cached)
    assert len(list((tmp_path / "cache").iterdir())) == len(info.split("train").shards)


def test_a_split_smaller_than_a_batch_is_one_batch(info):
    batches = data.training_batches(info, "val", 64, 16, seed=0, epochs=1)
    assert [y.shape[0] for _, y, _ in batches] == [9]


def test_class_weights_become_sample_weights(info):
    _, label, weight = next(iter(plain(info, class_weights=[1.0, 2.0, 0.5])))
    np.testing.assert_array_equal(weight, np.array([1.0, 2.0, 0.5])[label])


def test_keras_trains_on_the_batches(info):
    image = keras.Input((16, 16, 3), name="image")
    logits = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(image / 255.0))
    model = keras.Model(image, logits)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(plain(info).map(data.select_inputs(model)), verbose=0)


def test_select_inputs_keeps_what_a_model_takes(info):
    image = keras.Input((16, 16, 3), name="image")
    region = keras.Input((), dtype="int32", name="meta_region")
    x = keras.layers.Concatenate()(
        [keras.layers.GlobalAveragePooling2D()(image), keras.layers.Embedding(3, 2)(region)]
    )
    model = keras.Model({"image": image, "meta/region": region}, keras.layers.Dense(3)(x))
    batch, label, _ = next(iter(plain(info, columns=("region",)).map(data.select_inputs(model))))
    assert set(batch) == {"image", "meta/region"}
    assert model(batch).shape == (4, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda info: data.evaluation_batches(info, "tset", 4, 16), "no split 'tset', only train"),
        (lambda info: plain(info, columns=("shop",)), "no metadata column 'shop', only region"),
        (lambda info: plain(info, class_weights=[1.0]), "1 entries, .* 3 classes"),
        (lambda info: plain(info, batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda info: plain(info, workers=3), "batch of 4 .* shared out to worker 0 of 3"),
        (lambda info: plain(info, worker=2, workers=2), "shared out to worker 2 of 2"),
    ],
)
def test_wrong_requests_are_refused(info, call, message):
    with pytest.raises(ValueError, match=message):
        call(info)


@pytest.fixture
def partly_labelled(tmp_path):
    members = photos(2) + [shards.Photo(name, (1, 2, 3), "train") for name in "xyz"]
    shards.write_dataset(tmp_path, members, encode_solid, classes=tuple(COLOURS), workers=1)
    return data.DatasetInfo.load(tmp_path)


def test_unlabelled_photos_are_refused_where_they_were_not_asked_for(partly_labelled):
    message = '9 photos but 6 labels: .* ask training_batches for unlabelled="keep"'
    with pytest.raises(ValueError, match=message):
        plain(partly_labelled)
    with pytest.raises(ValueError, match=message):
        data.evaluation_batches(partly_labelled, "train", 4, 16)
    with pytest.raises(ValueError, match="must be one of refuse, skip, keep, got 'drop'"):
        plain(partly_labelled, unlabelled="drop")
    with pytest.raises(ValueError, match='must be "refuse" or "keep" in evaluation, got "skip"'):
        data.evaluation_batches(partly_labelled, "train", 4, 16, unlabelled="skip")


def test_unlabelled_photos_have_label_minus_1_and_weight_1(partly_labelled):
    batches = plain(
        partly_labelled, unlabelled="keep", batch_size=9, epochs=1, class_weights=[2.0, 3.0, 4.0]
    )
    ((image, label, weight),) = listed(batches)
    dark = image.mean(axis=(1, 2, 3)) < 10
    assert sorted(label) == [-1, -1, -1, 0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(label < 0, dark)
    np.testing.assert_array_equal(weight, np.where(label < 0, 1, label + 2))


def test_epochs_that_skip_unlabelled_photos_are_of_the_others(partly_labelled):
    batches = listed(plain(partly_labelled, unlabelled="skip", batch_size=3, epochs=2))
    assert data.steps_per_epoch(partly_labelled, "train", 3, unlabelled="skip") == 2
    labels = np.reshape([label for _, label, _ in batches], (2, 6))
    np.testing.assert_array_equal(np.sort(labels), [[0, 0, 1, 1, 2, 2]] * 2)
    (whole,) = listed(plain(partly_labelled, unlabelled="skip", batch_size=99, epochs=1))
    assert sorted(whole[1]) == [0, 0, 1, 1, 2, 2]


def test_a_split_without_any_label_can_be_kept_but_not_skipped(tmp_path):
    members = [shards.Photo(name, (1, 2, 3), "train") for name in "xyz"]
    shards.write_dataset(tmp_path, members, encode_solid, classes=("apple",), workers=1)
    info = data.DatasetInfo.load(tmp_path)
    with pytest.raises(ValueError, match="'train' of .* has 3 photos but no label"):
        plain(info, unlabelled="skip")
    assert len(listed(plain(info, unlabelled="keep", batch_size=3, epochs=1))) == 1
    ((_, label, _),) = listed(data.evaluation_batches(info, "train", 4, 16, unlabelled="keep"))
    np.testing.assert_array_equal(label, [-1, -1, -1])


def test_mixed_with_an_unlabelled_photo_a_label_keeps_its_share(partly_labelled):
    mixing = augment.Augmentation(mixup=1.0)
    batches = plain(partly_labelled, unlabelled="keep", batch_size=9, epochs=1, augmentation=mixing)
    ((_, label, weight),) = listed(batches)
    shares = label.sum(axis=1)  # of photos with a label
    assert label.shape == (9, 3) and (label >= 0).all() and (shares <= 1 + 1e-6).all()
    assert (shares < 0.999).any() and (shares > 0.001).any()
    np.testing.assert_allclose(weight, 1, rtol=1e-6)
