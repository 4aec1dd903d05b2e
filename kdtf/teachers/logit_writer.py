"""Writing teachers' logits: every view of every example scored once, checked, resumable.

One shard is one unit of work, made beside its place and renamed, here or by the workers of an
Apache Beam runner. A call that was killed is continued by the same call; at the end a sample is
scored again and compared with what was stored.
"""

import functools
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kdtf import data, files
from kdtf.data import augment, beam_runner, resumable
from kdtf.teachers import models as teacher_models
from kdtf.teachers.cached_logits import MADE, MANIFEST, CachedLogits, serialize, write_manifest
from kdtf.teachers.ensembles import load_members
from kdtf.teachers.logit_settings import Settings
from kdtf.teachers.scorer import Scorer
from kdtf.teachers.teacher_views import sample_views, view_batches
from kdtf.teachers.top_k import Encoded, encode, kept


def make_settings(info, models, *, views, top_k, image_size, split, seed, augmentation):
    """The `logit_settings.Settings` of models' logits; image_size None: their largest input.

    Raises:
      ValueError: an empty split, or a number out of range.
    """
    if info.split(split).examples == 0:
        raise ValueError(f"split {split!r} of {info.directory} is empty")
    return Settings(
        teachers=tuple(teacher_models.fingerprint(model) for model in models),
        classes=info.classes,
        data_sha256=info.sha256(),
        split=split,
        augmentation=augmentation,
        image_size=image_size or max(teacher_models.image_size(model) for model in models),
        seed=seed,
        views=views,
        kept=kept(len(info.classes), top_k),
    )


def default_directory(info, settings):
    """Where logits go if nothing else is said: beside the shards, named after their settings."""
    return info.directory / f"logits-{settings.split}-{settings.key()[:12]}"


def write_shard(path, info, settings, shard, score, progress=lambda images: None):
    """Writes the logits of one shard's examples beside its place, renames it, and reports it.

    Its bytes depend on the arguments only, whichever shards were written before.

    Args:
      path: where the file goes.
      info: `data.DatasetInfo`.
      settings: `logit_settings.Settings`.
      shard: position of the shard in its split.
      score: a `Scorer`.
      progress: called with the number of images after each batch.

    Returns:
      `data.Shard` of the file.

    Raises:
      ValueError: a teacher's logits that cannot be stored, names the photo; a shard whose number
        of records is not what `dataset.json` says.
    """
    path, encoded, ids = Path(path), [], []
    for number in range(settings.views):
        ids = []
        for batch, rows in _encoded_batches(info, settings, shard, number, score):
            ids += batch["id"].numpy().tolist()
            encoded.append(rows)
            progress(len(batch["id"]))
    entry = info.split(settings.split).shards[shard]
    if len(ids) != entry.examples:
        raise ValueError(
            f"{info.directory / entry.file} has {len(ids)} records, {data.MANIFEST} says "
            f"{entry.examples}: check it with `kdtf validate`"
        )
    arrays = [_by_example(parts, settings.views) for parts in zip(*encoded, strict=True)]
    with files.atomic_write(path) as partial:
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for row, identity in enumerate(ids):
                fields = (None if array is None else array[row] for array in arrays)
                writer.write(serialize(identity, Encoded(*fields)))
        size, digest = partial.stat().st_size, files.file_sha256(partial)
    return data.Shard(path.name, len(ids), size, digest)


def cache_logits(
    info,
    models,
    *,
    views=10,
    top_k=64,
    image_size=None,
    split="train",
    out=None,
    batch_size=32,
    seed=0,
    augmentation=augment.Augmentation(),  # noqa: B008 (frozen)
    paths=None,
    runner=None,
):
    """Writes, continues or opens the cached logits of models for a data set.

    Args:
      info: `data.DatasetInfo`.
      models: teachers of its classes, Keras models; several make an ensemble.
      views: views of each example.
      top_k: logits to keep of each view, or more than there are classes: all.
      image_size: side of the views that the teachers see, pixels; None: their largest input.
      split: name of the split.
      out: directory; None: `default_directory`.
      batch_size: images of one forward pass.
      seed: of the views.
      augmentation: an `augment.Augmentation`.
      paths: the models' files, which the workers of a `runner` load.
      runner: an Apache Beam runner's name and its options, see `beam_runner.Engine`; None: this
        process. The files are the same where workers compute alike.

    Returns:
      (`CachedLogits`, number of images that were scored in this call).

    Raises:
      ModuleNotFoundError: a runner was named, but Apache Beam is not installed.
      ValueError: `out` holds logits of other settings, or anything but what an interrupted call
        began; a runner without paths; what `write_shard` and `verify` refuse.
    """
    if runner is not None and not paths:
        raise ValueError("workers of a runner load the teachers from files: give their paths")
    settings = make_settings(
        info,
        models,
        views=views,
        top_k=top_k,
        image_size=image_size,
        split=split,
        seed=seed,
        augmentation=augmentation,
    )
    out = Path(out) if out else default_directory(info, settings)
    names = [shard.file for shard in info.split(split).shards]
    if (out / MANIFEST).exists():
        cached = CachedLogits.load(out, info)
        cached.settings.check_equal(settings, out)
        resumable.finish(out, {*names, MANIFEST})  # of a call that was killed in doing so
        return cached, 0
    resumable.begin(out, MADE, names, data.Shard, settings.key())
    score = Scorer(models, info, batch_size)
    signature = f"{settings.key()} TensorFlow {tf.__version__}"
    scored = 0
    if runner is not None:
        scored = _score_on_runner(runner, out, info, settings, signature, paths, batch_size)
    shards, scored_here = _write_missing(out, info, settings, signature, score)
    cached = CachedLogits(out, settings, tuple(shards))
    difference = verify(cached, info, score)
    tqdm.write(f"{out}: a sample scored again differs by {difference:.2g} at most")
    write_manifest(out, info, settings, shards)
    resumable.finish(out, {*names, MANIFEST})
    return cached, scored + scored_here


def verify(cached, info, score):
    """Scores a sample of views again and compares what training will read of them.

    Args:
      cached: `CachedLogits`.
      info: `data.DatasetInfo` of the examples.
      score: a `Scorer`.

    Returns:
      The largest difference of a kept logit.

    Raises:
      ValueError: a difference beyond float16's accuracy, twice half a unit in the last place.
    """
    settings = cached.settings
    largest = 0.0
    for shard, number in sample_views(settings, len(cached.shards)):
        batches = view_batches(info, settings, shard, number, score.batch_size, score.columns)
        batch = next(iter(batches))
        logits = score(batch)
        records = next(iter(cached.records(shard).batch(len(logits))))
        stored = cached.decode(records, batch["id"], number).numpy().reshape(logits.shape)
        smallest_kept = np.sort(stored, axis=-1)[..., -settings.kept, np.newaxis]
        compared = (stored >= smallest_kept) & (stored != logits)  # equal ones may be -inf
        error = np.where(compared, np.abs(stored - logits), 0.0)
        top = logits.max(-1, keepdims=True)
        allowed = 2.0**-10 * (np.abs(top) + np.abs(logits - top)) + 1e-4
        if not np.all(error <= allowed):
            worst = np.unravel_index(np.argmax(error - allowed), error.shape)
            raise ValueError(
                f"{cached.directory / cached.shards[shard].file}, view {number} of record "
                f"{worst[0]}: stored logit {stored[worst]}, scored again {logits[worst]}, a "
                f"difference of {error[worst]:.3g} where float16 allows {allowed[worst]:.3g}: the "
                "teacher does not give the same logits twice, or the file was changed; remove "
                "the directory and run again"
            )
        largest = max(largest, float(error.max()))
    return largest


def _encoded_batches(info, settings, shard, number, score):
    """Yields (batch of views, its `Encoded` logits)."""
    for batch in view_batches(info, settings, shard, number, score.batch_size, score.columns):
        try:
            encoded = encode(score(batch), settings.kept)
        except ValueError as error:
            first, last = (batch["id"].numpy()[end].decode() for end in (0, -1))
            where = f"view {number} of the photos {first!r} to {last!r}"
            raise ValueError(f"{where}: {error}") from error
        yield batch, encoded


def _by_example(parts, views):
    """Arrays of batches, one view after the other, as one array [examples, views, ...]; or None."""
    if parts[0] is None:
        return None
    array = np.concatenate(parts)
    return array.reshape(views, -1, *array.shape[1:]).swapaxes(0, 1)


def score_shard(shard, out, data_dir, settings, signature, paths, batch_size):
    """On a worker: writes the logits of one shard's examples and notes that they are whole."""
    info = data.DatasetInfo.load(data_dir)
    score = _worker_scorer(data_dir, paths, batch_size)
    name = info.split(settings.split).shards[shard].file
    written = write_shard(out / name, info, settings, shard, score)
    resumable.record_finished(out, name, signature, written)


@functools.cache
def _worker_scorer(data_dir, paths, batch_size):
    # One for all shards of a worker: loading and tracing a teacher takes longer than scoring some.
    info = data.DatasetInfo.load(data_dir)
    return Scorer(load_members(paths, info.classes), info, batch_size)


def _score_on_runner(runner, out, info, settings, signature, paths, batch_size):
    """Has a runner's workers write what is missing; returns the number of images scored."""
    shards = info.split(settings.split).shards
    missing = [
        number
        for number, shard in enumerate(shards)
        if not resumable.finished_facts(out, shard.file, signature)
    ]
    work = functools.partial(
        score_shard,
        out=out.absolute(),
        data_dir=info.directory.absolute(),
        settings=settings,
        signature=signature,
        paths=tuple(Path(path).absolute() for path in paths),
        batch_size=batch_size,
    )
    beam_runner.Engine(runner, out)(work, missing)
    return sum(shards[number].examples for number in missing) * settings.views


def _write_missing(out, info, settings, signature, score):
    """(`data.Shard`s of all files, number of images scored here); finished ones are kept."""
    names = [shard.file for shard in info.split(settings.split).shards]
    facts = [resumable.finished_facts(out, name, signature) for name in names]
    images = [shard.examples * settings.views for shard in info.split(settings.split).shards]
    done = sum(count for count, finished in zip(images, facts, strict=True) if finished)
    with tqdm(total=sum(images), initial=done, unit="image", desc="scoring") as bar:
        for shard, name in enumerate(names):
            if facts[shard] is None:
                written = write_shard(out / name, info, settings, shard, score, bar.update)
                resumable.record_finished(out, name, signature, written)
                facts[shard] = written._asdict()
    return [data.Shard(**each) for each in facts], sum(images) - done
