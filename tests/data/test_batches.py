"""Shards to batches: order, views, metadata, weights; nothing lost, nothing repeated."""

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from solid_photos import COLOURS, encode_solid, photos

from kdtf import data
from kdtf.data import augment, views
from tfrecords_tools import shards
from tfrecords_tools.encoding import to_jpeg


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


def test_what_a_writer_says_of_its_shards(info, tmp_path):
    (tmp_path / data.MANIFEST).write_text(info.to_json())
    again = data.DatasetInfo.load(tmp_path)
    assert again.to_json() == info.to_json()
    assert info.splits["train"].class_counts == (10, 10, 10)
    assert info.splits["train"].missing == {"region": 9}
    assert info.metadata == {"region": ("north", "south")}
    assert [shard.examples for shard in info.splits["train"].shards] == [6, 6, 6, 6, 6]


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
    labels = np.concatenate([y for _, y in got])
    np.testing.assert_array_equal(labels, [example.label for example in stored])
    words = {None: 0, "north": 1, "south": 2}
    want = [words[example.metadata.get("region")] for example in stored]
    index = np.concatenate([x["meta/region"] for x, _ in got])
    np.testing.assert_array_equal(index, want)
    missing = np.concatenate([x["meta/region/missing"] for x, _ in got])
    np.testing.assert_array_equal(missing, np.equal(want, 0))
    images = np.concatenate([x["image"] for x, _ in got])
    colours = np.array(list(COLOURS.values()))[labels]
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


@pytest.mark.parametrize("pipelines", [2, 3])
def test_input_pipelines_share_every_batch(info, pipelines):
    options = {"batch_size": 6, "shuffle_examples": 8, "columns": ["region"]}
    whole = listed(plain(info, **options))
    parts = [
        listed(plain(info, input_context=tf.distribute.InputContext(pipelines, number), **options))
        for number in range(pipelines)
    ]
    assert [len(part) for part in parts] == [len(whole)] * pipelines
    for batch, *parts_of_batch in zip(whole, *parts, strict=True):
        for leaf, *pieces in zip(batch, *parts_of_batch, strict=True):
            assert {len(piece) for piece in pieces} == {6 // pipelines}
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
        leaves = listed(plain(info, epochs=1, deterministic=deterministic))
        return Counter(b"".join(leaf.tobytes() for leaf in batch) for batch in leaves)

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
    _, label, weight = next(iter(plain(info, class_weights={2: 0.5, 1: 2.0})))
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
        (lambda info: plain(info, class_weights={3: 1.0}), "the key 3, .* from 0 to 2"),
        (lambda info: plain(info, batch_size=0), "batch_size must be at least 1, got 0"),
        (
            lambda info: plain(info, input_context=tf.distribute.InputContext(3, 0)),
            "batch of 4 .* shared out to input pipeline 0 of 3",
        ),
        (
            lambda info: plain(info, input_context=tf.distribute.InputContext(2, 2)),
            "shared out to input pipeline 2 of 2",
        ),
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


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """30 photos of noise with their number as metadata, in five shards."""
    out = tmp_path_factory.mktemp("numbered")
    members = [
        shards.Photo(f"photo/{n}", n, "train", list(COLOURS)[n % 3], {"number": f"{n:02d}"})
        for n in range(30)
    ]
    shards.write_dataset(
        out, members, encode_noise, classes=tuple(COLOURS), examples_per_shard=7, workers=1
    )
    return data.DatasetInfo.load(out)


def encode_noise(photo):
    noise = np.random.default_rng(photo.source).integers(0, 256, (6, 8, 3), np.uint8)
    return to_jpeg(Image.fromarray(noise).resize((40, 30)))


def numbers(batches):
    """The photos' numbers, from their position in the sorted vocabulary."""
    return [(x["meta/number"].numpy() - 1).tolist() for x, *_ in batches]


# What seed 3 gives: an interrupted training goes on as it would have.
FIRST_EPOCH = [
    [7, 24, 11, 8, 16, 15],
    [2, 6, 22, 26, 4, 29],
    [19, 10, 27, 21, 9, 12],
    [28, 5, 17, 25, 13, 1],
    [23, 20, 0, 3, 14, 18],
]
SECOND_EPOCH = [
    [5, 19, 23, 29, 0, 6],
    [28, 12, 4, 2, 10, 3],
    [16, 14, 7, 11, 15, 21],
    [8, 20, 26, 13, 24, 1],
    [9, 18, 17, 27, 22, 25],
]
SECOND_PIPELINE = [[24, 8, 15], [6, 26, 29], [10, 21, 12], [5, 25, 1], [20, 3, 18]]


def test_the_order_of_a_seed_stays_what_it_was(numbered):
    options = {"columns": ("number",), "batch_size": 6}
    assert numbers(plain(numbered, epochs=1, **options)) == FIRST_EPOCH
    for window in (1, 8, 1024):
        second = plain(numbered, first_epoch=1, epochs=2, shuffle_examples=window, **options)
        assert numbers(second) == SECOND_EPOCH
    context = tf.distribute.InputContext(2, 1)
    second = plain(numbered, epochs=1, input_context=context, **options)
    assert numbers(second) == SECOND_PIPELINE


def test_views_are_those_drawn_one_by_one(numbered):
    """Seeds by hand: number of the view times 100,003 plus the seed, and a hash of the id."""
    encoded = {example.id: example.encoded for example in data.read_examples(numbered, "train")}
    batches = plain(numbered, first_epoch=1, epochs=2, columns=("number",))
    for (x, label, weight), batch_numbers in zip(batches, numbers(batches), strict=True):
        np.testing.assert_array_equal(label, np.mod(batch_numbers, 3))
        np.testing.assert_array_equal(weight, np.ones(4))
        for image, number in zip(x["image"], batch_numbers, strict=True):
            name = f"photo/{number}"
            seed = [1 * 100_003 + 3, tf.strings.to_hash_bucket_fast(name, 2**31 - 1)]
            view = augment.training_view(encoded[name], tf.stack(seed), 16)
            np.testing.assert_array_equal(image, view)


def test_mixed_views_are_weighted_sums_with_the_partner_s(numbered):
    mixing = augment.Augmentation(mixup=1.0)
    options = {"epochs": 1, "columns": ("number",), "class_weights": [1.0, 2.0, 4.0]}
    plain_images = {}
    for x, *_ in plain(numbered, **options, batch_size=30):
        plain_images |= dict(zip((x["meta/number"].numpy() - 1), x["image"].numpy(), strict=True))
    ids = [[example.id for example in shard_examples(numbered, shard)] for shard in range(5)]
    for x, label, weight in plain(numbered, augmentation=mixing, **options):
        ids_of_batch = [f"photo/{number - 1}" for number in x["meta/number"].numpy()]
        weights = views.mix_weights(tf.constant(ids_of_batch), 0, 3, 1.0).numpy()
        for row, name in enumerate(ids_of_batch):
            shard, position = next(
                (s, each.index(name)) for s, each in enumerate(ids) if name in each
            )
            file = numbered.split("train").shards[shard]
            path = numbered.paths("train")[shard]
            record = list(views.partners(path, file.file, file.examples, 0, 3))[position]
            partner = data.deserialize(record.numpy()).id
            first, other = (int(each.removeprefix("photo/")) for each in (name, partner))
            mixed = weights[row] * plain_images[first] + (1 - weights[row]) * plain_images[other]
            np.testing.assert_allclose(x["image"][row], mixed, atol=1e-3)
            rows = np.eye(3)[[first % 3, other % 3]]
            soft = weights[row] * rows[0] + (1 - weights[row]) * rows[1]
            np.testing.assert_allclose(label[row], soft, atol=1e-6)
            np.testing.assert_allclose(weight[row], soft @ [1, 2, 4], rtol=1e-6)


def shard_examples(info, shard):
    records = tf.data.TFRecordDataset(info.paths("train")[shard]).as_numpy_iterator()
    return [data.deserialize(record) for record in records]
