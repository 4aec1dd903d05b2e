"""Which records an epoch reads, in which order, and what is read beside each of them.

A record is a dict of serialized protos, string []: "serialized", the example itself; "partner", the
example that MixUp pairs it with, where views are mixed; "logits", what teachers say of its views,
where that is cached.
"""

import tensorflow as tf

from kdtf.data import views
from kdtf.data.examples import example_label

_SHARDS_AT_ONCE = 4


def shard_reader(info, split, paths, *, schedule, mixup, cached_logits, labelled_only):
    """Function of (number of a shard int [], epoch int64 []) to its records, in order.

    Args:
      info: a `DatasetInfo`.
      split: name of a split.
      paths: of the files to read, in the order of the split's shards.
      schedule: `views.Schedule`, which decides an epoch's partners.
      mixup: whether each example needs a partner.
      cached_logits: a `cached_logits.CachedLogits` of the split, or None.
      labelled_only: whether to leave out the examples without a label.
    """
    shards = info.split(split).shards
    names = tf.constant([shard.file for shard in shards])
    examples = tf.constant([shard.examples for shard in shards], tf.int64)
    paths = tf.constant(paths)

    def read_shard(shard, epoch):
        columns = {"serialized": tf.data.TFRecordDataset(paths[shard])}
        if mixup:
            columns["partner"] = views.partners(
                paths[shard],
                names[shard],
                examples[shard],
                schedule.number(epoch),
                schedule.seed,
            )
        if cached_logits is not None:
            columns["logits"] = cached_logits.records(shard)
        records = tf.data.Dataset.zip(columns)
        if labelled_only:
            records = records.filter(lambda record: example_label(record["serialized"]) >= 0)
        return records

    return read_shard


def shuffled_records(read_shard, shards, epoch, seed, window):
    """All records of an epoch in an order that epoch and seed alone decide.

    Shards are read in a random order, four at a time, and what they give is shuffled in windows, so
    that memory does not grow with the number of examples.

    Args:
      read_shard: a `shard_reader`'s function.
      shards: int, how many there are.
      epoch: int64 [].
      seed: int.
      window: records per shuffled window.

    Returns:
      `tf.data.Dataset` of records.
    """
    order = tf.data.Dataset.from_tensor_slices(_permutation(shards, tf.stack([epoch, seed])))
    records = order.interleave(lambda shard: read_shard(shard, epoch), cycle_length=_SHARDS_AT_ONCE)

    # Not Dataset.shuffle: its order would depend on TensorFlow's global seed as well.
    def shuffle_window(number, window):
        order = _permutation(tf.size(window["serialized"]), tf.stack([epoch, seed, number]))
        return {name: tf.gather(column, order) for name, column in window.items()}

    return records.batch(window).enumerate().map(shuffle_window).unbatch()


def _permutation(size, numbers):
    """int32 [size]: a permutation that the int64 `numbers` alone decide."""
    seed = tf.constant([0, 0], tf.int64)
    for number in tf.unstack(tf.cast(numbers, tf.int64)):
        seed = tf.random.experimental.stateless_fold_in(seed, number)
    return tf.argsort(tf.random.stateless_uniform([size], seed))
