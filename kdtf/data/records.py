"""Which records an epoch reads, in which order, and what is read beside each of them.

A record is a dict of serialized protos, string []: "serialized", the example itself; "partner", the
example that MixUp pairs it with, where views are mixed; "logits", what teachers say of its views,
where that is cached.
"""

import numpy as np
import tensorflow as tf

from kdtf.data import record_files, views
from kdtf.data.examples import example_labels

_LABELS_AT_ONCE = 256


class RecordReader:
    """Reads the records of a split by number, in any order.

    Of each record its place in its file is kept, 8 bytes (16 with cached logits), and nothing else.

    Args:
      info: a `DatasetInfo`.
      split: name of a split.
      paths: of the files to read, in the order of the split's shards.
      schedule: `views.Schedule`, which decides an epoch's partners.
      mixup: whether each example needs a partner.
      cached_logits: a `cached_logits.CachedLogits` of the split, or None.
      labelled_only: whether to leave out the examples without a label; finding them reads all.

    Attributes:
      count: how many there are, of all shards.

    Raises:
      FileNotFoundError, ValueError: a shard is missing, or not what `dataset.json` says.
    """

    def __init__(
        self,
        info,
        split,
        paths,
        *,
        schedule=None,
        mixup=False,
        cached_logits=None,
        labelled_only=False,
    ):
        shards = info.split(split).shards
        places = record_files.offsets(info, split, paths)
        kept = [slice(None)] * len(shards)
        if labelled_only:
            kept = _labelled(info, split, paths)
        self._schedule, self._mixup = schedule, mixup
        self._names = tf.constant([shard.file for shard in shards])
        self._paths = tf.constant(paths)
        counts = [len(each[keep]) for each, keep in zip(places, kept, strict=True)]
        self._starts = tf.constant(np.cumsum([0, *counts]), tf.int64)
        self._places = _joined(places, kept)
        self.count = sum(counts)
        self._logits = None
        if cached_logits is not None:
            files = cached_logits.paths
            places = [
                record_files.shard_offsets(path, shard.examples, shard.bytes)
                for path, shard in zip(files, cached_logits.shards, strict=True)
            ]
            self._logits = tf.constant(files), _joined(places, kept)

    def __call__(self, number, epoch):
        """The record of a number, int64 [] from 0 to count - 1, in an epoch, int64 []."""
        shard = tf.searchsorted(self._starts, number[tf.newaxis], side="right")[0] - 1
        record = {"serialized": record_files.read(self._paths[shard], self._places[number])}
        if self._mixup:
            first, following = self._starts[shard], self._starts[shard + 1]
            shift = views.partner_shift(
                self._names[shard],
                following - first,
                self._schedule.number(epoch),
                self._schedule.seed,
            )
            partner = first + (number - first + shift) % (following - first)
            record["partner"] = record_files.read(self._paths[shard], self._places[partner])
        if self._logits is not None:
            files, places = self._logits
            record["logits"] = record_files.read(files[shard], places[number])
        return record

    def in_order(self):
        """`tf.data.Dataset` of all of them, in the order of the files."""
        return self._read(tf.data.Dataset.range(self.count), tf.constant(0, tf.int64))

    def shuffled(self, epoch, seed, *, take, pipelines=1, pipeline=0, window=1024):
        """An input pipeline's part of an epoch, in an order that epoch and seed alone decide.

        The order is a permutation of all records. A window of them is read in the order of the
        files, on which a slow disk moves less, and laid out in the epoch's.

        Args:
          epoch: int64 [].
          seed: int.
          take: how many records the epoch has.
          pipelines, pipeline: how many pipelines share them, and which of them this is.
          window: records held in memory at once.

        Returns:
          `tf.data.Dataset` of records.
        """
        order = tf.data.Dataset.from_tensor_slices(permutation(self.count, (epoch, seed)))
        windows = order.take(take).shard(pipelines, pipeline).batch(window)
        records = self._read(windows.map(tf.sort).unbatch(), epoch).batch(window)
        places = windows.map(lambda numbers: tf.argsort(tf.argsort(numbers)))

        def lay_out(records, places):
            return {name: tf.gather(column, places) for name, column in records.items()}

        return tf.data.Dataset.zip(records, places).map(lay_out).unbatch()

    def _read(self, numbers, epoch):
        return numbers.map(
            lambda number: self(number, epoch),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )


def permutation(size, numbers):
    """int64 [size]: a permutation that the int64 `numbers` alone decide."""
    seed = tf.constant([0, 0], tf.int64)
    for number in numbers:
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int64))
    # Whole numbers of 64 bits: of many floats some are equal, and would keep their order.
    draws = tf.random.stateless_uniform([size], seed, minval=None, maxval=None, dtype=tf.int64)
    return tf.cast(tf.argsort(draws), tf.int64)


def _joined(places, kept):
    """int64 [records]: the places of those that are kept, shard after shard."""
    parts = [each[keep] for each, keep in zip(places, kept, strict=True)]
    return tf.constant(np.concatenate(parts), tf.int64)


def _labelled(info, split, paths):
    """list of bool [records]: which examples of each shard have a label.

    Raises:
      ValueError: they are not as many as `dataset.json` says.
    """
    kept = []
    for shard, path in zip(info.split(split).shards, paths, strict=True):
        records = record_files.read_all(path, shard.examples).batch(_LABELS_AT_ONCE)
        labels = records.map(example_labels, num_parallel_calls=tf.data.AUTOTUNE)
        kept.append(np.concatenate([batch >= 0 for batch in labels.as_numpy_iterator()]))
    labelled = int(sum(each.sum() for each in kept))
    if labelled != info.split(split).labelled:
        raise ValueError(
            f"split {split!r} of {info.directory} has {labelled:,} photos with a label, "
            f"dataset.json says {info.split(split).labelled:,}: check it with `kdtf validate`"
        )
    return kept
