"""The views of examples that teachers score, and a check that they are still drawn the same.

Small copies of a few views are stored with the logits: a version of TensorFlow, or of kdtf, that
draws other views is found out by them.
"""

import base64

import numpy as np
import tensorflow as tf

from kdtf import data
from kdtf.data import record_files, views
from kdtf.teachers.logit_settings import REWRITE

TOLERANCE = 0.05  # levels of 0..255 by which a cell of a view's thumbnail may differ


def view_batches(info, settings, shard, number, batch_size, columns=()):
    """One view of every example of a shard, in order, as the teachers see it.

    Args:
      info: `data.DatasetInfo`.
      settings: `logit_settings.Settings`.
      shard: position of the shard in its split.
      number: of the view.
      batch_size: examples per batch; the last batch may be smaller.
      columns: metadata columns to deliver.

    Returns:
      `tf.data.Dataset` of {"image": float32 [batch, size, size, 3], "id": string [batch], and the
      metadata as in `data.training_batches`}.
    """
    path = tf.constant(info.paths(settings.split)[shard])
    entry = info.split(settings.split).shards[shard]
    parse = data.example_parser(info, columns)
    seed, size, augmentation = settings.seed, settings.image_size, settings.augmentation

    def drawn(records):
        x, _ = parse(records)
        x["image"] = views.draw(x["image"], x["id"], number, seed, size, augmentation)
        return x

    def mixed(records, partners):
        x = drawn(records)
        weights = views.mix_weights(x["id"], number, seed, augmentation.mixup)
        x["image"] = views.mixed(x["image"], drawn(partners)["image"], weights)
        return x

    dataset, view = record_files.read_all(path, entry.examples), drawn
    if augmentation.mixup:
        others = views.partners(path, entry.file, entry.examples, number, seed)
        dataset = tf.data.Dataset.zip(dataset, others)
        view = mixed
    dataset = dataset.batch(batch_size)
    dataset = dataset.map(view, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(2)


def sample_views(settings, shards):
    """Up to four (shard, view) pairs, spread over `shards` shards and all views, to check."""
    spread = np.linspace(0, 1, 4)
    pairs = zip(spread * (shards - 1), spread * (settings.views - 1), strict=True)
    return sorted({(round(shard), round(view)) for shard, view in pairs})


def draw_samples(info, settings, shards):
    """What `check_samples` compares, drawn now: a list that JSON can hold.

    Args:
      info: `data.DatasetInfo`.
      settings: `logit_settings.Settings`.
      shards: how many the split has.
    """
    samples = []
    for shard, number in sample_views(settings, shards):
        thumbnail = _thumbnail(info, settings, shard, number)
        text = base64.b64encode(thumbnail.astype("<f4").tobytes()).decode()
        samples.append({"shard": shard, "view": number, "thumbnail": text})
    return samples


def check_samples(info, settings, samples, directory, tensorflow):
    """Draws samples of views anew and compares them with those that are stored.

    Args:
      info: `data.DatasetInfo`.
      settings: `logit_settings.Settings`.
      samples: what `draw_samples` gave when logits were cached.
      directory: where these lie.
      tensorflow: the version of TensorFlow that drew them.

    Raises:
      ValueError: a view is drawn otherwise here; names both versions.
    """
    for sample in samples:
        shard, number = sample["shard"], sample["view"]
        stored = np.frombuffer(base64.b64decode(sample["thumbnail"]), "<f4").reshape(8, 8, 3)
        error = float(np.abs(stored - _thumbnail(info, settings, shard, number)).max())
        if not error <= TOLERANCE:
            raise ValueError(
                f"{directory} holds logits of views drawn by TensorFlow {tensorflow}; TensorFlow "
                f"{tf.__version__} here draws other ones (view {number} of the first photo in "
                f"shard {shard} differs by {error:.1f} of 255 levels): use the "
                f"TensorFlow and kdtf that they were made with, or {REWRITE}"
            )


def _thumbnail(info, settings, shard, number):
    (batch,) = view_batches(info, settings, shard, number, 1).take(1)
    return views.thumbnail(batch["image"])[0].numpy()
