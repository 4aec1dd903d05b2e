"""Examples: the records of a data set's shards, written, read and parsed.

A record is a `tf.train.Example` with

    image/encoded  bytes   a JPEG, upright, RGB or grey
    image/id       bytes   unique in the data set
    label          int64   position in `classes`; absent in unlabelled data
    meta/<column>  bytes   absent = missing
"""

from typing import NamedTuple

import tensorflow as tf

from kdtf.data import record_files

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
    """Yields a split's `Example`s in order, holding one at a time.

    Raises:
      FileNotFoundError, ValueError: a shard is missing, or not what `dataset.json` says.
      tf.errors.InvalidArgumentError: a record is damaged; names the shard.
    """
    paths = info.paths(split)
    record_files.offsets(info, split, paths)
    for shard, path in zip(info.split(split).shards, paths, strict=True):
        for serialized in record_files.read_all(path, shard.examples).as_numpy_iterator():
            yield deserialize(serialized)


def example_parser(info, columns=()):
    """Function of serialized examples, string [batch], to (x, label int32 [batch]).

    x is {"image": string [batch], JPEGs, "id": string [batch], "meta/<column>": int32 [batch], 0
    where missing or unseen, else 1 + position in the vocabulary, "meta/<column>/missing": float32
    [batch]}. The label of an unlabelled example is -1.

    Args:
      info: a `DatasetInfo`.
      columns: metadata columns to deliver.

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

    def parse(serialized):
        parsed = tf.io.parse_example(serialized, schema)
        x = {"image": parsed["image/encoded"], "id": parsed["image/id"]}
        for column, table in tables.items():
            index = table.lookup(parsed[f"meta/{column}"])
            x[f"meta/{column}"] = index
            x[f"meta/{column}/missing"] = tf.cast(index == 0, tf.float32)
        return x, tf.cast(parsed["label"], tf.int32)

    return parse


def example_labels(serialized):
    """int64 [batch]: the labels of serialized examples, string [batch], alone; -1 if unlabelled."""
    return tf.io.parse_example(serialized, {"label": _LABEL})["label"]


def _vocabulary_table(vocabulary):
    keys = tf.constant(list(vocabulary), tf.string)
    values = tf.range(1, len(vocabulary) + 1)
    initializer = tf.lookup.KeyValueTensorInitializer(keys, values)
    return tf.lookup.StaticHashTable(initializer, default_value=0)


def _bytes(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
