"""TFRecord files, read from any record on; what is damaged or missing is named.

A file is a row of records, each of 8 bytes (its length, little-endian), 4 bytes (their CRC-32C),
the record, and 4 bytes (its CRC-32C).
"""

import functools
import os
import struct
from pathlib import Path

import numpy as np
import tensorflow as tf

_HEADER, _FOOTER = 12, 4  # bytes around a record
_ADVICE = "restore the file or build the data set again; `kdtf validate` lists all that is wrong"


def offsets(info, split, paths):
    """Where each record of a split's shards begins.

    Args:
      info: a `DatasetInfo`.
      split: name of a split.
      paths: of the files to read, in the order of the split's shards.

    Returns:
      list of int64 [records], bytes, one array for each shard.

    Raises:
      FileNotFoundError: a shard is missing.
      ValueError: a shard has another size or number of records than `dataset.json` says, or ends
        within a record; names it, and both values.
    """
    shards = info.split(split).shards
    return [
        shard_offsets(path, shard.examples, shard.bytes)
        for shard, path in zip(shards, paths, strict=True)
    ]


def shard_offsets(path, records, size):
    """As `offsets`, of one file that should have so many records and bytes."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing: {_ADVICE}")
    stat = os.stat(path)
    if stat.st_size != size:
        raise ValueError(
            f"{path} has {stat.st_size:,} bytes, its manifest says {size:,}: {_ADVICE}"
        )
    found = _offsets(str(path), stat.st_size, stat.st_mtime_ns)
    if len(found) != records:
        raise ValueError(
            f"{path} has {len(found):,} records, its manifest says {records:,}: {_ADVICE}"
        )
    return found


@functools.lru_cache(maxsize=4096)
def _offsets(path, size, changed_ns):
    del changed_ns  # a part of the key
    places, place = [], 0
    with open(path, "rb", buffering=0) as stream:
        while place < size:
            stream.seek(place)
            header = stream.read(8)
            following = place + _HEADER + _FOOTER
            following += struct.unpack("<Q", header)[0] if len(header) == 8 else 0
            if len(header) < 8 or following > size:
                raise ValueError(
                    f"{path} is damaged in record {len(places)}, {place:,} bytes from its start: "
                    f"{_ADVICE}"
                )
            places.append(place)
            place = following
    return np.array(places, np.int64)


def read(path, offset):
    """string []: the record of a file, string [], that begins at an offset, int64 [].

    Raises:
      tf.errors.InvalidArgumentError: when run: the record is damaged; names file and offset.
    """
    found = tf.raw_ops.TFRecordDatasetV2(
        filenames=tf.reshape(path, [1]),
        compression_type="",
        buffer_size=tf.constant(0, tf.int64),
        byte_offsets=tf.reshape(offset, [1]),
    )
    records = tf.data.experimental.from_variant(found, tf.TensorSpec([], tf.string)).take(1)
    return _checked(_or_empty(records).take(1).get_single_element(), path, "record at byte", offset)


def read_all(path, records):
    """`tf.data.Dataset` of the records of a file, string [], which should have so many, int64 [].

    Raises:
      tf.errors.InvalidArgumentError: when run: a record is damaged or missing; names file and
        record.
    """
    found = _or_empty(tf.data.TFRecordDataset(path)).take(records)
    return found.enumerate().map(lambda number, each: _checked(each, path, "record", number))


def _or_empty(records):
    """The records up to the first that is damaged, then empty ones."""
    return records.ignore_errors().concatenate(tf.data.Dataset.from_tensors("").repeat())


def _checked(record, path, what, number):
    is_whole = tf.strings.length(record) > 0
    with tf.control_dependencies(
        [tf.debugging.Assert(is_whole, [path, f"is damaged, {what}", number, _ADVICE])]
    ):
        return tf.identity(record)
