"""The teacher's part of a run, paid for once: its cached logits, and what they save."""

from kdtf import data, files, formatting, teachers
from kdtf.pipeline.batches import steps_per_epoch
from kdtf.teachers import cached_logits, top_k


def check_folder(config):
    """Refuses a `--logits` in which this run's logits neither are nor can go: before a teacher is.

    Args:
      config: `DistillConfig`.

    Raises:
      ValueError: the folder holds logits of other settings, or anything but logits.
    """
    if config.logits is None or config.online_teacher or config.data is None:
        return
    info = data.DatasetInfo.load(config.data)
    cached_logits.check_folder(
        config.logits,
        info,
        views=config.views,
        kept=top_k.kept(len(info.classes), config.top_k),
    )


def open_or_write(run, config, info, teacher):
    """Opens the teacher's cached logits, or writes or continues them.

    Args:
      run: `RunDirectory`.
      config: `DistillConfig`.
      info: `data.DatasetInfo`.
      teacher: `Teacher`.

    Returns:
      (`teachers.CachedLogits`, dict as of `facts`).

    Raises:
      ValueError: the directory that was named holds logits of other settings.
    """
    cached, scored = teachers.cache_logits(
        info,
        teacher.members,
        views=config.views,
        top_k=config.top_k,
        out=config.logits,
        seed=config.seed,
    )
    if run.cache_facts.exists():  # earlier calls included
        scored += files.read_json(run.cache_facts)["images_scored"]
    measured = facts(info, config, cached, scored, teacher.forward_s)
    files.write_json(run.cache_facts, measured)
    return cached, measured


def facts(info, config, cached, scored, forward_s):
    """What `results.json` says of the cache.

    Args:
      info: `data.DatasetInfo`.
      config: `DistillConfig`.
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
