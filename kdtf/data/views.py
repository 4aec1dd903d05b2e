"""Numbered views of photos, so that a teacher's logits can be stored for what a student will see.

View `number` of a photo is decided by a seed, the number and the photo's id, and by nothing else:
crop, flip and colours, and, where the augmentation mixes photos, the partner and its weight.
Training without a cache draws view number e in epoch e; with one, epochs take turns through the
stored numbers (Beyer et al., 2022, arXiv:2106.05237, show why teacher and student must see the
same view; storing its seed with its logits is TinyViT's idea, arXiv:2207.10666).
"""

from typing import NamedTuple

import tensorflow as tf

from kdtf.data import augment, record_files


class Schedule(NamedTuple):
    """Which view an epoch shows.

    Attributes:
      seed: of the views.
      views: how many there are, which epochs take turns through; None = each has its own.
    """

    seed: int
    views: int | None = None

    def number(self, epoch):
        """The number of the view, of the epoch's type."""
        return epoch if self.views is None else epoch % self.views


def draw(encoded, identity, number, seed, size, augmentation):
    """View `number` of each photo of a batch, not mixed.

    Args:
      encoded: string [batch], JPEGs.
      identity: string [batch], the photos' ids.
      number: int64 [], the view's number.
      seed: int.
      size: int, side of the view in pixels. Views of two sizes have the same crop, flip and
        colours, resampled to each size.
      augmentation: an `augment.Augmentation`.

    Returns:
      float32 [batch, size, size, 3], values in [0, 255].
    """
    return augment.training_views(encoded, _seed(identity, number, seed), size, augmentation)


def partner_shift(name, examples, number, seed):
    """int64 []: how far behind a record, cyclically, its partner for MixUp lies in its shard.

    In view `number` the partner of record i is record i + k of the same shard; k is drawn from 1
    to examples - 1 by seed, number and the shard's name. So partners are the same whatever the
    order in which records are read. (In a shard of one photo it is its own partner.)

    Args:
      name: string [], the shard's name in `dataset.json`, wherever its file may lie.
      examples: int64 [], its records, or those of them that are read.
      number: int64 [], the view's number.
      seed: int.
    """
    others = tf.maximum(tf.cast(examples, tf.int64) - 1, 1)
    return tf.random.stateless_uniform([], _seed(name, number, seed), 0, others, tf.int64) + 1


def partners(path, name, examples, number, seed):
    """A whole shard's partners, in the order of its records: `partner_shift` says which they are.

    Args:
      path: string [], the file to read.
      name, examples, number, seed: as for `partner_shift`.

    Returns:
      `tf.data.Dataset` of the serialized partners of records 0, 1, ...
    """
    shift = partner_shift(name, examples, number, seed)
    records = record_files.read_all(path, examples)
    return records.skip(shift).concatenate(records.take(shift))


def mix_weights(identity, number, seed, beta):
    """float32 [batch]: each photo's weight in its mixed view, drawn from Beta(beta, beta).

    (MixUp: Zhang et al., 2018, arXiv:1710.09412. Function matching takes beta = 1, the uniform
    distribution: Beyer et al., 2022, arXiv:2106.05237.)
    """

    def weight(view_seed):
        view_seed = tf.random.experimental.stateless_fold_in(view_seed, 1)
        draws = tf.random.stateless_gamma([2], view_seed, beta, dtype=tf.float64)
        return tf.cast(draws[0] / tf.reduce_sum(draws), tf.float32)

    seeds = _seed(identity, number, seed)
    return tf.map_fn(weight, seeds, fn_output_signature=tf.TensorSpec(()))


def mixed(first, partner, weights):
    """weight * first + (1 - weight) * partner of each: float32 [batch, ...] by float32 [batch]."""
    weights = tf.reshape(weights, [-1] + [1] * (len(first.shape) - 1))
    return weights * first + (1.0 - weights) * partner


def thumbnail(view):
    """float32 [8, 8, 3]: means over an 8x8 grid; how a stored view is recognised."""
    return tf.image.resize(view, (8, 8), method="area")


def _seed(identity, number, seed):
    identity = tf.strings.to_hash_bucket_fast(identity, 2**31 - 1)
    view = tf.cast(number, tf.int64) * 100_003 + seed
    return tf.stack([tf.fill(tf.shape(identity), view), identity], axis=-1)
