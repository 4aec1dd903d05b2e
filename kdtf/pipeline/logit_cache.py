"""The teacher's part of a run, paid for once: its cached logits, and what they save."""

import time

import tensorflow as tf

from kdtf import formatting, teachers
from kdtf.pipeline.batches import steps_per_epoch

VIEW_SECONDS = 0.004  # to decode and draw one view, on two cores


def cache(info, models, config):
    """Writes, continues or opens the logits that a `settings.Config` asks for.

    Returns:
      (`teachers.CachedLogits`, number of images scored in this call).

    Raises:
      ValueError: the directory that was named holds logits of other settings.
    """
    return teachers.cache_logits(
        info, models, views=config.views, top_k=config.top_k, out=config.logits
    )


def facts(info, config, cached, scored, forward_s):
    """What `results.json` says of the cache.

    Args:
      info: `data.DatasetInfo`.
      config: `settings.Config`.
      cached: `teachers.CachedLogits`.
      scored: images that the teacher scored for this run, without those of killed calls.
      forward_s: seconds of the teacher's forward pass for one image.

    Returns:
      {"directory", "views", "kept", "bytes", "images_scored", "images_saved": how many fewer than
       a teacher asked in every step of both trainings of the distilled student, "seconds_saved":
       an estimate from `forward_s`}.
    """
    steps = steps_per_epoch(info, config)
    epochs = config.epochs + config.qat_epochs
    asked = steps * min(config.batch_size, info.split("train").examples) * epochs
    return {
        "directory": str(cached.directory),
        "views": cached.settings.views,
        "kept": cached.settings.kept,
        "bytes": sum(shard.bytes for shard in cached.shards),
        "images_scored": scored,
        "images_saved": asked - scored,
        "seconds_saved": round((asked - scored) * forward_s, 1),
    }


def summary(facts):
    """A sentence for the terminal about `facts`."""
    scored, saved = facts["images_scored"], facts["images_saved"]
    where = f"{facts['directory']}, {facts['bytes'] / 1e6:,.1f} MB"
    paid = f"the teacher scored {scored:,} images for this run ({where})"
    if saved < 0:
        return f"{paid}, {-saved:,} more than without a cache: give fewer --views or reuse it"
    return (
        f"{paid}; asked in every step it would have scored {scored + saved:,}. Saved: {saved:,} "
        f"forward passes, about {formatting.duration(facts['seconds_saved'])}"
    )


def forward_seconds(model, batch=16):
    """Measured seconds of a model's forward pass for one photo."""
    size = teachers.image_size(model)
    feed = tf.zeros((batch, size, size, 3))
    inputs = teachers.named_inputs(model)
    if len(inputs) > 1:
        feed = {key: tf.zeros((batch,), tf.int32) for key in inputs} | {"image": feed}
    forward = tf.function(lambda x: model(x, training=False))
    forward(feed)
    started = time.monotonic()
    forward(feed)
    return (time.monotonic() - started) / batch
