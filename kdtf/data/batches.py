"""TFRecord shards of photos with metadata: their schema, and batches for training.

A data set is a directory: `dataset.json` and, per split, shards of `tf.train.Example` with

    image/encoded  bytes   a JPEG, upright, RGB or grey
    image/id       bytes   unique in the data set
    label          int64   position in `classes`; absent in unlabelled data
    meta/<column>  bytes   absent = missing

`dataset.json` holds the classes, each metadata column's vocabulary, and per shard its number of
examples, bytes and sha256.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kdtf.data import augment, shard_cache, views
from kdtf.data.dataset_info import MANIFEST, DatasetInfo, Shard, Split  # noqa: F401 (read as data.*)

UNLABELLED = ("refuse", "skip", "keep")
_LABEL = tf.io.FixedLenFeature([], tf.int64, default_value=-1)


class Example(NamedTuple):
    """One record: id, JPEG bytes, label (None where unlabelled), metadata (absent = missing)."""

    id: str
    encoded: bytes
    label: int | None
    metadata: dict[str, str]


def serialize(example):
    """bytes: the `tf.train.Example` of an `Example`, fields in a fixed order."""
    feature = {
        "image/encoded": _bytes(example.encoded),
        "image/id": _bytes(example.id.encode()),
    }
    if example.label is not None:
        feature["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[example.label]))
    for column in sorted(example.metadata):
        feature[f"meta/{column}"] = _bytes(example.metadata[column].encode())
    proto = tf.train.Example(features=tf.train.Features(feature=feature))
    return proto.SerializeToString(deterministic=True)


def deserialize(serialized):
    """`Example` of the bytes that `serialize` made; ValueError where a required field is absent."""
    feature = tf.train.Example.FromString(serialized).features.feature
    for name in ("image/encoded", "image/id"):
        if not feature[name].bytes_list.value:
            raise ValueError(f"the record has no {name!r}, only {sorted(feature)}")
    label = feature["label"].int64_list.value if "label" in feature else ()
    return Example(
        id=feature["image/id"].bytes_list.value[0].decode(),
        encoded=feature["image/encoded"].bytes_list.value[0],
        label=label[0] if label else None,
        metadata={
            name.removeprefix("meta/"): value.bytes_list.value[0].decode()
            for name, value in feature.items()
            if name.startswith("meta/") and value.bytes_list.value
        },
    )


def read_examples(info, split):
    """Yields a split's `Example`s in order, holding one at a time."""
    for record in tf.data.TFRecordDataset(info.paths(split)).as_numpy_iterator():
        yield deserialize(record)


def training_batches(
    info,
    split,
    batch_size,
    image_size,
    *,
    seed,
    epochs,
    first_epoch=0,
    columns=(),
    class_weights=None,
    augmentation=augment.Augmentation(),  # noqa: B008 (frozen)
    cached_logits=None,
    shuffle_examples=1024,
    worker=0,
    workers=1,
    cache=None,
    deterministic=True,
    unlabelled="refuse",
):
    """Augmented batches in an order and with views that `seed` alone decides.

    Every epoch reads the shards in another order, four at a time, and shuffles windows of encoded
    photos, so memory does not grow with their number. An epoch has `examples // batch_size`
    batches (`steps_per_epoch`): the few photos left over differ from epoch to epoch.
    The view of a photo depends on (seed, epoch, id) only: a run continued at `first_epoch` sees
    what an uninterrupted one would have seen. The data set is one stream over all epochs: give
    `fit` their length as `steps_per_epoch`.

    With `cached_logits` the epochs take turns through the views that a teacher has scored, drawn
    by the cache's own seed, and x has their logits: the teacher is not needed. `seed` decides
    the order, as ever.

    With `augmentation.mixup` each photo is mixed with a partner (`views.partners`): twice the
    decoding. Labels are then the mixed one-hot ones, as MixUp has them (arXiv:1710.09412), and
    weights are mixed likewise; metadata is the first photo's. Function matching (arXiv:2106.05237)
    learns from the teacher alone: `Distiller(alpha=1)`, compiled without a loss.

    Args:
      info: a `DatasetInfo`.
      split: name of a split.
      batch_size: photos per batch.
      image_size: side of the view, pixels.
      seed: int.
      epochs: the epoch to stop before.
      first_epoch: the epoch to begin with.
      columns: metadata columns to deliver.
      class_weights: float [classes], the sample weight of each class; 1 if None.
      augmentation: an `augment.Augmentation`.
      cached_logits: a `cached_logits.CachedLogits` of the split and augmentation, or None.
      shuffle_examples: photos per shuffled window.
      worker, workers: which share of every batch to deliver, of how many: `batch_size / workers`
        photos, of which no other worker decodes one. Together the workers' n-th batches are the
        n-th batch of one worker alone, so each photo is seen once an epoch.
      cache: a directory on a fast disk (or in memory, as /dev/shm) to copy the shards to first,
        or None. What is copied already and has not changed is kept (`shard_cache`).
      deterministic: if False, a batch that is ready overtakes one that is not. The batches of an
        epoch and their views stay the same; only their order may differ from run to run.
      unlabelled: what becomes of photos without a label: "refuse", a ValueError if there are any;
        "skip", batches and epochs are of the others; "keep", their label is -1 (a row of zeros
        where mixed) and their weight 1: compile `losses.label_cross_entropy`, which leaves them to
        the teacher.

    Returns:
      `tf.data.Dataset` of (x, label int32 [batch], or float32 [batch, classes] where mixed, sample
      weight float32 [batch]), where x is {"image": float32 [batch, size, size, 3] in 0..255,
      "meta/<column>": int32 [batch], 0 where missing or unseen, else 1 + position in the
      vocabulary, "meta/<column>/missing": float32 [batch], and with cached logits
      "teacher_logits": float32 [batch, classes], of several teachers [batch, teachers, classes]}.

    Raises:
      ValueError: unknown split or column, an empty split, photos without a label where these are
        refused, class_weights of another length, a batch that does not divide by the workers,
        logits cached of other data or another augmentation, a shard that is not what
        `dataset.json` says (found by `cache`).
      tf.errors.InvalidArgumentError: while reading: a photo whose cached logits are another's.
    """
    names = tf.constant([shard.file for shard in info.split(split).shards])
    examples = tf.constant([shard.examples for shard in info.split(split).shards], tf.int64)
    view_seed = seed
    if cached_logits is not None:
        cached_logits.check(info, split, augmentation)
        view_seed = cached_logits.settings.seed
    _check_batch(batch_size)
    batch_size = min(batch_size, count_photos(info, split, unlabelled=unlabelled))
    if batch_size % workers or not 0 <= worker < workers:
        raise ValueError(
            f"a batch of {batch_size} photos cannot be shared out to worker {worker} of {workers}: "
            "give a batch_size that is a multiple of workers, and workers from 0 on"
        )
    paths = info.paths(split) if cache is None else shard_cache.copies(info, split, cache)
    paths = tf.constant(paths)
    parse = _parser(info, columns, class_weights)
    used = steps_per_epoch(info, split, batch_size, unlabelled=unlabelled) * batch_size
    skips = unlabelled == "skip" and info.split(split).unlabelled > 0

    def view_number(epoch):
        return epoch if cached_logits is None else epoch % cached_logits.settings.views

    def shard_records(shard, epoch):
        records = {"photo": tf.data.TFRecordDataset(paths[shard])}
        if augmentation.mixup:
            records["partner"] = views.partners(
                paths[shard], names[shard], examples[shard], view_number(epoch), view_seed
            )
        if cached_logits is not None:
            records["logits"] = cached_logits.records(shard)
        records = tf.data.Dataset.zip(records)
        return records.filter(lambda record: _label(record["photo"]) >= 0) if skips else records

    def epoch_batches(epoch):
        order = tf.data.Dataset.from_tensor_slices(
            _permutation(len(paths), tf.stack([epoch, seed]))
        )
        records = order.interleave(lambda shard: shard_records(shard, epoch), cycle_length=4)

        # Not Dataset.shuffle: its order would depend on TensorFlow's global seed as well.
        def shuffle_window(number, window):
            order = _permutation(tf.size(window["photo"]), tf.stack([epoch, seed, number]))
            return {name: tf.gather(column, order) for name, column in window.items()}

        windows = records.batch(shuffle_examples).enumerate().map(shuffle_window)
        mine = windows.unbatch().take(used).shard(workers, worker)
        batches = mine.batch(batch_size // workers, drop_remainder=True)
        return batches.map(lambda records: (epoch, records))

    def drawn(records, number):
        x, label, weight = parse(records)
        encoded, identity = x["image"], x["id"]
        x["image"] = views.draw(encoded, identity, number, view_seed, image_size, augmentation)
        return x, label, weight

    def view(epoch, records):
        number = view_number(epoch)
        x, label, weight = drawn(records["photo"], number)
        if "partner" in records:
            other, other_label, other_weight = drawn(records["partner"], number)
            shares = views.mix_weights(x["id"], number, view_seed, augmentation.mixup)
            x["image"] = views.mixed(x["image"], other["image"], shares)
            one_hots = (tf.one_hot(each, len(info.classes)) for each in (label, other_label))
            label = views.mixed(*one_hots, shares)
            weight = views.mixed(weight, other_weight, shares)
        identity = x.pop("id")
        if cached_logits is not None:
            x["teacher_logits"] = cached_logits.decode(records["logits"], identity, number)
        return x, label, weight

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches)
    dataset = dataset.map(view, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
    return dataset.prefetch(2).with_options(_sharded_by_example())


def evaluation_batches(
    info, split, batch_size, image_size, *, columns=(), crop_fraction=0.875, unlabelled="refuse"
):
    """Every photo of a split once, in order, resized and centre-cropped.

    Photos without a label are refused, or kept with the label -1 (`unlabelled="keep"`), say to
    calibrate on.

    Returns:
      `tf.data.Dataset` like that of `training_batches`; the last batch may be smaller. Views are
      the same in every pass: append `.cache()` to keep them in memory.
    """
    if unlabelled == "skip":
        raise ValueError('unlabelled must be "refuse" or "keep" in evaluation, got "skip"')
    photos = count_photos(info, split, unlabelled=unlabelled)
    _check_batch(batch_size)
    parse = _parser(info, columns, None)

    def view(records):
        x, label, weight = parse(records)
        del x["id"]
        x["image"] = augment.evaluation_views(x["image"], image_size, crop_fraction)
        return x, label, weight

    dataset = tf.data.TFRecordDataset(info.paths(split))
    cardinality = tf.data.experimental.assert_cardinality(photos)
    dataset = dataset.apply(cardinality).batch(batch_size)
    dataset = dataset.map(view, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(2).with_options(_sharded_by_example())


def select_inputs(model):
    """Function of a batch (x, ...) that keeps of x what a model takes.

    Keras reads dict inputs by position: a key too many, and a model gets the wrong tensor.
    """
    inputs = model.input
    keys = tuple(inputs) if isinstance(inputs, dict) else ("image",)

    def select(x, *rest):
        return ({key: x[key] for key in keys} if len(keys) > 1 else x["image"], *rest)

    return select


def steps_per_epoch(info, split, batch_size, *, unlabelled="refuse"):
    """Number of full batches in an epoch of `training_batches`, at least 1."""
    return max(1, count_photos(info, split, unlabelled=unlabelled) // batch_size)


def count_photos(info, split, *, unlabelled="refuse"):
    """Number of photos that `training_batches` takes of a split.

    Raises:
      ValueError: an unknown or empty split, none or not all with a label where these are needed.
    """
    if unlabelled not in UNLABELLED:
        raise ValueError(f"unlabelled must be one of {', '.join(UNLABELLED)}, got {unlabelled!r}")
    photos, labelled = info.split(split).examples, info.split(split).labelled
    if photos == 0:
        raise ValueError(f"split {split!r} of {info.directory} is empty")
    if unlabelled == "refuse" and labelled != photos:
        raise ValueError(
            f"split {split!r} of {info.directory} has {photos} photos but {labelled} labels: "
            "evaluation, and training on labels, need one for every photo. To train on the others "
            'through a teacher, ask training_batches for unlabelled="keep"'
        )
    if unlabelled == "skip" and not labelled:
        raise ValueError(f"split {split!r} of {info.directory} has {photos} photos but no label")
    return labelled if unlabelled == "skip" else photos


def _check_batch(batch_size):
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")


def _label(record):
    return tf.io.parse_single_example(record, {"label": _LABEL})["label"]


def _sharded_by_example():
    # What several hosts do with a data set that is given to them whole. By file, TensorFlow's own
    # choice, their batches would be others than one host's, and of unequal number.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def photo_parser(info, columns=()):
    """Function of serialized Examples, string [batch], to (x, label int32 [batch]).

    x is {"image": string [batch], JPEGs, "id": string [batch], and what `training_batches` says of
    the metadata columns}. The label of an unlabelled photo is -1.

    Raises:
      ValueError: an unknown column.
    """
    info.vocabulary_sizes(columns)
    schema = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/id": tf.io.FixedLenFeature([], tf.string),
        "label": _LABEL,
    }
    for column in columns:
        schema[f"meta/{column}"] = tf.io.FixedLenFeature([], tf.string, default_value="")
    tables = {column: _vocabulary_table(info.metadata[column]) for column in columns}

    def parse(records):
        parsed = tf.io.parse_example(records, schema)
        x = {"image": parsed["image/encoded"], "id": parsed["image/id"]}
        for column, table in tables.items():
            index = table.lookup(parsed[f"meta/{column}"])
            x[f"meta/{column}"] = index
            x[f"meta/{column}/missing"] = tf.cast(index == 0, tf.float32)
        return x, tf.cast(parsed["label"], tf.int32)

    return parse


def _parser(info, columns, class_weights):
    parse_photo = photo_parser(info, columns)
    if class_weights is not None and len(class_weights) != len(info.classes):
        raise ValueError(
            f"class_weights has {len(class_weights)} entries, {info.directory} has "
            f"{len(info.classes)} classes: give one weight per class"
        )
    weights = np.ones(len(info.classes)) if class_weights is None else class_weights
    weights = tf.constant(weights, tf.float32)

    def parse(records):
        x, label = parse_photo(records)
        weight = tf.where(label < 0, 1.0, tf.gather(weights, tf.maximum(label, 0)))
        return x, label, weight

    return parse


def _permutation(size, numbers):
    """int32 [size]: a permutation that the int64 `numbers` alone decide."""
    seed = tf.constant([0, 0], tf.int64)
    for number in tf.unstack(tf.cast(numbers, tf.int64)):
        seed = tf.random.experimental.stateless_fold_in(seed, number)
    return tf.argsort(tf.random.stateless_uniform([size], seed))


def _vocabulary_table(vocabulary):
    keys = tf.constant(list(vocabulary), tf.string)
    values = tf.range(1, len(vocabulary) + 1)
    initializer = tf.lookup.KeyValueTensorInitializer(keys, values)
    return tf.lookup.StaticHashTable(initializer, default_value=0)


def _bytes(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
