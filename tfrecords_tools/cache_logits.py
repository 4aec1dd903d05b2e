"""A teacher's logits for training views, once, so that training needs no teacher.

    kdtf cache-logits --data shards/ --teacher teacher.keras \\
        --views 10 --top-k 64

Every photo of a split is drawn in `--views` views and scored; `recipes/distill.py` and
`kdtf.data.training_batches(cached_logits=...)` replay exactly these. Several teachers make an
ensemble, whose members' logits are stored apart. The files stand one to one beside the photos'
shards (`kdtf.cached_logits` has the format). Nothing is left half-written: a killed call is
continued by the same command. At the end a sample is scored again and compared with what was
stored.

Cost: one forward pass of each teacher for every view. `--runner` shares the shards out among the
workers of an Apache Beam runner; photos, teachers and `--out` must lie where all of them see them.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from annotated_types import Ge, Interval, MinLen
from tqdm import tqdm

from kdtf import cli, data, files, limits, teachers
from kdtf.arguments import Argument
from kdtf.data import augment, beam_runner
from kdtf.teachers import cached_logits
from kdtf.teachers.top_k import Encoded, encode, kept
from tfrecords_tools import shards


def settings_of(info, models, *, views, top_k, image_size, split, seed, augmentation):
    """The `cached_logits.Settings` of models' logits; image_size None: their largest input.

    Raises:
      ValueError: an empty split, or a number out of range.
    """
    if info.split(split).examples == 0:
        raise ValueError(f"split {split!r} of {info.directory} is empty")
    return cached_logits.Settings(
        teachers=tuple(teachers.fingerprint(model) for model in models),
        classes=info.classes,
        data_sha256=info.sha256(),
        split=split,
        augmentation=augmentation,
        image_size=image_size or max(teachers.image_size(model) for model in models),
        seed=seed,
        views=views,
        kept=kept(len(info.classes), top_k),
    )


def directory_of(info, settings):
    """Where logits go if nothing else is said: beside the photos, named after their settings."""
    return info.directory / f"logits-{settings.split}-{settings.key()[:12]}"


class Scorer:
    """Function of a batch of views to the logits of models, float32 [batch, models, classes].

    Batches are filled up to `batch_size`, because the last digits of a convolution depend on it:
    so a photo's logits do not depend on how many photos a shard has left.

    Args:
      models: Keras models of raw 0..255 images and of columns of `info`.
      info: `data.DatasetInfo`.
      batch_size: the most views that a batch may have.

    Attributes:
      batch_size: as given.
      columns: the metadata columns that a batch needs.

    Raises:
      ValueError: a model takes a column that the data set lacks.
    """

    def __init__(self, models, info, batch_size):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
        self.batch_size = batch_size
        taken = {column for model in models for column in teachers.columns(model)}
        self.columns = tuple(sorted(taken))
        info.vocabulary_sizes(self.columns)
        self._logits = tf.function(teachers.members(models))

    def __call__(self, batch):
        examples = len(batch["id"])
        rows = np.minimum(np.arange(self.batch_size), examples - 1)
        filled = {name: tf.gather(column, rows) for name, column in batch.items() if name != "id"}
        return self._logits(filled).numpy()[:examples]


def write_shard(path, info, settings, shard, score, progress=lambda images: None):
    """Writes the logits of one shard's photos beside its place, renames it, and reports it.

    Its bytes depend on the arguments only, whichever shards were written before.

    Args:
      path: where the file goes.
      info: `data.DatasetInfo`.
      settings: `cached_logits.Settings`.
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
    photos = info.split(settings.split).shards[shard]
    if len(ids) != photos.examples:
        raise ValueError(
            f"{info.directory / photos.file} has {len(ids)} records, {data.MANIFEST} says "
            f"{photos.examples}: check it with `python -m tfrecords_tools.validate`"
        )
    columns = [_by_photo(parts, settings.views) for parts in zip(*encoded, strict=True)]
    with files.atomic_write(path) as partial:
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for row, identity in enumerate(ids):
                fields = (None if column is None else column[row] for column in columns)
                writer.write(cached_logits.serialize(identity, Encoded(*fields)))
        size, digest = partial.stat().st_size, files.file_sha256(partial)
    return data.Shard(path.name, len(ids), size, digest)


def cache(
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
      views: views of each photo.
      top_k: logits to keep of each view, or more than there are classes: all.
      image_size: side of the views that the teachers see, pixels; None: their largest input.
      split: name of the split.
      out: directory; None: `directory_of`.
      batch_size: images of one forward pass.
      seed: of the views.
      augmentation: an `augment.Augmentation`.
      paths: the models' files, which the workers of a `runner` load.
      runner: an Apache Beam runner's name and its options, see `beam_runner.Engine`; None: this
        process. The files are the same where workers compute alike.

    Returns:
      (`cached_logits.CachedLogits`, number of images that were scored in this call).

    Raises:
      ModuleNotFoundError: a runner was named, but Apache Beam is not installed.
      ValueError: `out` holds logits of other settings; a runner without paths; what `write_shard`
        and `verify` refuse.
    """
    if runner is not None and not paths:
        raise ValueError("workers of a runner load the teachers from files: give their paths")
    settings = settings_of(
        info,
        models,
        views=views,
        top_k=top_k,
        image_size=image_size,
        split=split,
        seed=seed,
        augmentation=augmentation,
    )
    out = Path(out) if out else directory_of(info, settings)
    if (out / cached_logits.MANIFEST).exists():
        cached = cached_logits.CachedLogits.load(out, info)
        cached.settings.check_equal(settings, out)
        return cached, 0
    out.mkdir(parents=True, exist_ok=True)
    score = Scorer(models, info, batch_size)
    signature = f"{settings.key()} TensorFlow {tf.__version__}"
    scored = 0
    if runner is not None:
        scored = _score_on_runner(runner, out, info, settings, signature, paths, batch_size)
    written, scored_here = _write_all(out, info, settings, signature, score)
    cached = cached_logits.CachedLogits(out, settings, tuple(written))
    difference = verify(cached, info, score)
    tqdm.write(f"{out}: a sample scored again differs by {difference:.2g} at most")
    cached_logits.write_manifest(out, info, settings, written)
    shards.remove_left_overs(out, {shard.file for shard in written})
    return cached, scored + scored_here


def verify(cached, info, score):
    """Scores a sample of views again and compares what training will read of them.

    Args:
      cached: `cached_logits.CachedLogits`.
      info: `data.DatasetInfo` of the photos.
      score: a `Scorer`.

    Returns:
      The largest difference of a kept logit.

    Raises:
      ValueError: a difference beyond float16's accuracy, twice half a unit in the last place.
    """
    settings = cached.settings
    largest = 0.0
    for shard, number in cached_logits.sample(settings, len(cached.shards)):
        batches = cached_logits.view_batches(
            info, settings, shard, number, score.batch_size, score.columns
        )
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
    batches = cached_logits.view_batches(
        info, settings, shard, number, score.batch_size, score.columns
    )
    for batch in batches:
        try:
            encoded = encode(score(batch), settings.kept)
        except ValueError as error:
            first, last = (batch["id"].numpy()[end].decode() for end in (0, -1))
            where = f"view {number} of the photos {first!r} to {last!r}"
            raise ValueError(f"{where}: {error}") from error
        yield batch, encoded


def _by_photo(parts, views):
    """Arrays of batches, one view after the other, as one array [photos, views, ...]; or None."""
    if parts[0] is None:
        return None
    column = np.concatenate(parts)
    return column.reshape(views, -1, *column.shape[1:]).swapaxes(0, 1)


def score_shard(shard, out, data_dir, settings, signature, paths, batch_size):
    """On a worker: writes the logits of one shard's photos and notes that they are whole."""
    info = data.DatasetInfo.load(data_dir)
    score = _worker_scorer(data_dir, paths, batch_size)
    name = info.split(settings.split).shards[shard].file
    shards.remember(out, name, signature, write_shard(out / name, info, settings, shard, score))


@functools.cache
def _worker_scorer(data_dir, paths, batch_size):
    # One for all shards of a worker: loading and tracing a teacher takes longer than scoring some.
    info = data.DatasetInfo.load(data_dir)
    return Scorer(teachers.load_members(paths, info.classes), info, batch_size)


def _score_on_runner(runner, out, info, settings, signature, paths, batch_size):
    """Has a runner's workers write what is missing; returns the number of images scored."""
    # Under `python -m` this module is __main__, which workers cannot import.
    from tfrecords_tools.cache_logits import score_shard

    photos = info.split(settings.split).shards
    missing = [
        number
        for number, shard in enumerate(photos)
        if not shards.recall(out, shard.file, signature)
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
    return sum(photos[number].examples for number in missing) * settings.views


def _write_all(out, info, settings, signature, score):
    """(`data.Shard`s of all files, number of images scored here); finished ones are kept."""
    names = [shard.file for shard in info.split(settings.split).shards]
    found = [shards.recall(out, name, signature) for name in names]
    images = [shard.examples * settings.views for shard in info.split(settings.split).shards]
    done = sum(many for many, facts in zip(images, found, strict=True) if facts)
    with tqdm(total=sum(images), initial=done, unit="image", desc="scoring") as bar:
        for shard, (name, facts) in enumerate(zip(names, found, strict=True)):
            if facts is None:
                written = write_shard(out / name, info, settings, shard, score, bar.update)
                shards.remember(out, name, signature, written)
                found[shard] = written._asdict()
    return [data.Shard(**facts) for facts in found], sum(images) - done


def summary(cached, scored):
    """Text for people: what was scored, what is stored, what it weighs."""
    settings = cached.settings
    photos = sum(shard.examples for shard in cached.shards)
    size = sum(shard.bytes for shard in cached.shards)
    classes = len(settings.classes)
    what = "all" if settings.kept == classes else f"the largest {settings.kept} of"
    return "\n".join(
        [
            f"{cached.directory}: {settings.views} views of {photos:,} photos ({settings.split}) "
            f"by {len(settings.teachers)} teacher(s), {what} {classes} logits each",
            f"  {size / 1e6:,.1f} MB, {size / photos / settings.views:,.0f} bytes an image; "
            f"{scored:,} images scored now",
        ]
    )


def check_teacher(path):
    """Refuses what is not a `.keras` file."""
    files.check_file(path, ".keras")


@dataclass(frozen=True)
class CacheLogitsArguments:
    """The command line."""

    data: Annotated[str, Argument("DIR", data.DatasetInfo.load)]
    """directory with dataset.json and shards"""
    teacher: Annotated[tuple[str, ...], MinLen(1), Argument("FILE", check_teacher)]
    """.keras file; several make an ensemble"""
    views: Annotated[int, Ge(1)] = 10
    """views of each photo"""
    top_k: Annotated[int, Ge(1)] = 64
    """logits to keep of each view; all, where that takes no more bytes"""
    image_size: Annotated[int | None, Ge(1)] = None
    """side of the views, pixels (default: the largest input)"""
    split: Annotated[str, Argument("NAME")] = "train"
    """the split to score"""
    out: Annotated[str | None, Argument("DIR", files.check_folder)] = None
    """where to write (default: beside the shards, named after the settings)"""
    batch_size: Annotated[int, Ge(1)] = 32
    """images a forward pass"""
    seed: Annotated[int, Interval(ge=0, le=2**32 - 1)] = 0
    """of the views"""
    mixup: Annotated[float, Ge(0)] = 0.0
    """mix each photo with another, the share drawn from this Beta parameter, for function
    matching; 0 = no mixing"""
    runner: beam_runner.Runner = None
    """Apache Beam runner, then its pipeline options, at the end of the command: DirectRunner,
    FlinkRunner, SparkRunner, DataflowRunner (pip install 'kdtf[beam]')"""

    def __post_init__(self):
        limits.check(self)


def main(argv=None):
    """Writes, continues or opens cached logits, and sums them up."""
    (arguments,) = cli.parse(argv, "kdtf cache-logits", __doc__, CacheLogitsArguments)
    info = data.DatasetInfo.load(arguments.data)
    cli.checked(f"--split {arguments.split}", info.split, arguments.split)
    with cli.report_errors():
        cached, scored = cache(
            info,
            teachers.load_members(arguments.teacher, info.classes),
            views=arguments.views,
            top_k=arguments.top_k,
            image_size=arguments.image_size,
            split=arguments.split,
            out=arguments.out,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            augmentation=data.Augmentation(mixup=arguments.mixup),
            paths=arguments.teacher,
            runner=arguments.runner,
        )
    print(summary(cached, scored))


if __name__ == "__main__":
    main()
