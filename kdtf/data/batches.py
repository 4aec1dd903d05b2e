"""Batches for training and evaluation, from shards to tensors.

Of an example, training does this, from top to bottom: read it in an order that a seed decides
(`records`), parse it (`examples`), draw its view of the epoch (`views`, `augment`), mix it with its
partner's, and lay a teacher's cached logits beside it.
"""

import tensorflow as tf

from kdtf.data import augment, shard_cache, views
from kdtf.data import class_weights as weights_of_classes
from kdtf.data.examples import example_parser
from kdtf.data.records import RecordReader

UNLABELLED = ("refuse", "skip", "keep")


def training_batches(
    info,
    split,
    batch_size,
    image_size,
    *,
    seed,
    epochs,
    first_epoch=0,
    columns=(),
    class_weights=None,
    augmentation=augment.Augmentation(),  # noqa: B008 (frozen)
    cached_logits=None,
    unlabelled="refuse",
    shuffle_examples=1024,
    input_context=None,
    cache=None,
    deterministic=True,
):
    """Augmented batches in an order and with views that `seed` alone decides.

    Every epoch is another permutation of all examples, which are read from wherever they lie: of
    each, memory holds its place in its file (8 bytes). An epoch has `examples // batch_size`
    batches (`steps_per_epoch`): the few examples left over differ from epoch to epoch.
    The view of an example depends on (seed, epoch, id) only: a run continued at `first_epoch` sees
    what an uninterrupted one would have seen. The data set is one stream over all epochs: give
    `fit` their length as `steps_per_epoch`.

    With `cached_logits` the epochs take turns through the views that a teacher has scored, drawn
    by the cache's own seed, and x has their logits: the teacher is not needed. `seed` decides
    the order, as ever.

    With `augmentation.mixup` each image is mixed with a partner (`views.partners`): twice the
    decoding. Labels are then the mixed one-hot ones, as MixUp has them (arXiv:1710.09412), and
    weights are mixed likewise; metadata is the first example's. Function matching
    (arXiv:2106.05237) learns from the teacher alone: `Distiller(alpha=1)`, compiled without a loss.

    Args:
      info: a `DatasetInfo`.
      split: name of a split.
      batch_size: examples per batch, of all input pipelines together.
      image_size: side of the view, pixels.
      seed: int.
      epochs: the epoch to stop before.
      first_epoch: the epoch to begin with.
      columns: metadata columns to deliver.
      class_weights: float [classes], the sample weight of each class, or {class number: float} as
        in `fit(class_weight=)`, 1 where left out; 1 if None.
      augmentation: an `Augmentation`.
      cached_logits: a `teachers.CachedLogits` of the split and augmentation, or None.
      unlabelled: what becomes of examples without a label: "refuse", a ValueError if there are any;
        "skip", batches and epochs are of the others; "keep", their label is -1 (a row of zeros
        where mixed) and their weight 1: compile `losses.label_cross_entropy`, which leaves them to
        the teacher.
      shuffle_examples: encoded photos that are held in memory: so many of an epoch's order are read
        at a time, in the order of their files, for disks that seek slowly. The order of the batches
        does not depend on it.
      input_context: a `tf.distribute.InputContext`, as `distribute_datasets_from_function` gives
        it, that says which part of every batch to deliver, of how many: `batch_size /
        num_input_pipelines` examples, of which no other pipeline decodes one. Together the
        pipelines' n-th batches are the n-th batch of one pipeline alone, so each example is seen
        once an epoch. None = whole batches.
      cache: a directory on a fast disk (or in memory, as /dev/shm) to copy the shards to first,
        or None. What is copied already and has not changed is kept (`shard_cache`).
      deterministic: if False, a batch that is ready overtakes one that is not. The batches of an
        epoch and their views stay the same; only their order may differ from run to run.

    Returns:
      `tf.data.Dataset` of (x, label int32 [batch], or float32 [batch, classes] where mixed, sample
      weight float32 [batch]), where x is {"image": float32 [batch, size, size, 3] in 0..255,
      "meta/<column>": int32 [batch], 0 where missing or unseen, else 1 + position in the
      vocabulary, "meta/<column>/missing": float32 [batch], and with cached logits
      "teacher_logits": float32 [batch, classes], of several teachers [batch, teachers, classes]}.

    Raises:
      ValueError: unknown split or column, an empty split, examples without a label where these are
        refused, class_weights that do not fit the classes or are no weights, a batch that does not
        divide by the input pipelines, logits cached of other data or another augmentation, cached
        logits of mixed photos where unlabelled ones are skipped, a shard of another size or number
        of records than `dataset.json` says (or, with `cache`, of other bytes).
      FileNotFoundError: a shard is missing.
      tf.errors.InvalidArgumentError: while reading: a damaged record, a label that is no class, an
        example whose cached logits are another's.
    """
    if cached_logits is not None:
        cached_logits.check(info, split, augmentation)
    _check_batch_size(batch_size)
    batch_size = min(batch_size, count_examples(info, split, unlabelled=unlabelled))
    pipelines, pipeline = _input_pipeline(input_context, batch_size)
    examples = steps_per_epoch(info, split, batch_size, unlabelled=unlabelled) * batch_size
    schedule = _view_schedule(seed, cached_logits)
    paths = info.paths(split) if cache is None else shard_cache.copies(info, split, cache)
    labelled_only = unlabelled == "skip" and info.split(split).unlabelled > 0
    if labelled_only and augmentation.mixup and cached_logits is not None:
        raise ValueError(
            f"{cached_logits.directory} has logits of photos mixed with any other of split "
            f'{split!r}, unlabelled ones too: give unlabelled="keep", or no cached_logits'
        )
    reader = RecordReader(
        info,
        split,
        paths,
        schedule=schedule,
        mixup=augmentation.mixup > 0,
        cached_logits=cached_logits,
        labelled_only=labelled_only,
    )
    parse = _weighted_parser(info, columns, class_weights)

    def epoch_batches(epoch):
        own = reader.shuffled(
            epoch,
            seed,
            take=examples,
            pipelines=pipelines,
            pipeline=pipeline,
            window=shuffle_examples,
        )
        batches = own.batch(batch_size // pipelines, drop_remainder=True)
        return batches.map(lambda batch: (epoch, batch))

    def draw(serialized, number):
        x, label, weight = parse(serialized)
        image = views.draw(x["image"], x["id"], number, schedule.seed, image_size, augmentation)
        return x | {"image": image}, label, weight

    def view(epoch, records):
        number = schedule.number(epoch)
        x, label, weight = draw(records["serialized"], number)
        if augmentation.mixup:
            partner = draw(records["partner"], number)
            mix_weights = views.mix_weights(x["id"], number, schedule.seed, augmentation.mixup)
            x, label, weight = _mix((x, label, weight), partner, mix_weights, len(info.classes))
        ids = x.pop("id")
        if cached_logits is not None:
            x["teacher_logits"] = cached_logits.decode(records["logits"], ids, number)
        return x, label, weight

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches)
    dataset = dataset.map(view, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
    return dataset.prefetch(2).with_options(_sharded_by_example())


def evaluation_batches(
    info, split, batch_size, image_size, *, columns=(), crop_fraction=0.875, unlabelled="refuse"
):
    """Every example of a split once, in order, its image resized and centre-cropped.

    Examples without a label are refused, or kept with the label -1 (`unlabelled="keep"`), say to
    calibrate on.

    Returns:
      `tf.data.Dataset` like that of `training_batches`; the last batch may be smaller. Views are
      the same in every pass: append `.cache()` to keep them in memory.
    """
    if unlabelled == "skip":
        raise ValueError('unlabelled must be "refuse" or "keep" in evaluation, got "skip"')
    count_examples(info, split, unlabelled=unlabelled)
    _check_batch_size(batch_size)
    parse = _weighted_parser(info, columns, None)

    def view(records):
        x, label, weight = parse(records["serialized"])
        del x["id"]
        x["image"] = augment.evaluation_views(x["image"], image_size, crop_fraction)
        return x, label, weight

    dataset = RecordReader(info, split, info.paths(split)).in_order().batch(batch_size)
    dataset = dataset.map(view, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(2).with_options(_sharded_by_example())


def select_inputs(model):
    """Function of a batch (x, ...) that keeps of x what a model takes.

    Keras reads dict inputs by position: a key too many, and a model gets the wrong tensor.
    """
    inputs = model.input
    keys = tuple(inputs) if isinstance(inputs, dict) else ("image",)

    def select(x, *rest):
        return ({key: x[key] for key in keys} if len(keys) > 1 else x["image"], *rest)

    return select


def steps_per_epoch(info, split, batch_size, *, unlabelled="refuse"):
    """Number of full batches in an epoch of `training_batches`, at least 1."""
    return max(1, count_examples(info, split, unlabelled=unlabelled) // batch_size)


def count_examples(info, split, *, unlabelled="refuse"):
    """Number of examples that `training_batches` takes of a split.

    Raises:
      ValueError: an unknown or empty split, none or not all with a label where these are needed.
    """
    if unlabelled not in UNLABELLED:
        raise ValueError(f"unlabelled must be one of {', '.join(UNLABELLED)}, got {unlabelled!r}")
    examples, labelled = info.split(split).examples, info.split(split).labelled
    if examples == 0:
        raise ValueError(f"split {split!r} of {info.directory} is empty")
    if unlabelled == "refuse" and labelled != examples:
        raise ValueError(
            f"split {split!r} of {info.directory} has {examples} photos but {labelled} labels: "
            "evaluation, and training on labels, need one for every photo. To train on the others "
            'through a teacher, ask training_batches for unlabelled="keep"'
        )
    if unlabelled == "skip" and not labelled:
        raise ValueError(f"split {split!r} of {info.directory} has {examples} photos but no label")
    return labelled if unlabelled == "skip" else examples


def _check_batch_size(batch_size):
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")


def _input_pipeline(context, batch_size):
    """(how many input pipelines share a batch, which of them this is)."""
    if context is None:
        return 1, 0
    pipelines, pipeline = context.num_input_pipelines, context.input_pipeline_id
    if batch_size % pipelines or not 0 <= pipeline < pipelines:
        raise ValueError(
            f"a batch of {batch_size} examples cannot be shared out to input pipeline {pipeline} "
            f"of {pipelines}: give a batch_size that is a multiple of num_input_pipelines, and "
            "input_pipeline_id from 0 on"
        )
    return pipelines, pipeline


def _view_schedule(seed, cached_logits):
    if cached_logits is None:
        return views.Schedule(seed)
    return views.Schedule(cached_logits.settings.seed, cached_logits.settings.views)


def _weighted_parser(info, columns, class_weights):
    """`example_parser` with a third result: the sample weight float32 [batch], 1 if unlabelled."""
    parse_example = example_parser(info, columns)
    weights = tf.constant(weights_of_classes.as_vector(class_weights, len(info.classes)))

    def parse(serialized):
        x, label = parse_example(serialized)
        tf.debugging.assert_less(
            label,
            len(info.classes),
            f"{info.directory} holds a label that is none of its {len(info.classes)} classes: "
            "check it with `kdtf validate`",
        )
        weight = tf.where(label < 0, 1.0, tf.gather(weights, tf.maximum(label, 0)))
        return x, label, weight

    return parse


def _mix(batch, partners, mix_weights, classes):
    """A batch (x, label, weight) mixed with its partners'; labels become one-hot, then mixed."""
    (x, label, weight), (other, other_label, other_weight) = batch, partners
    image = views.mixed(x["image"], other["image"], mix_weights)
    one_hots = (tf.one_hot(each, classes) for each in (label, other_label))
    label = views.mixed(*one_hots, mix_weights)
    return x | {"image": image}, label, views.mixed(weight, other_weight, mix_weights)


def _sharded_by_example():
    # What several hosts do with a data set that is given to them whole. By file, TensorFlow's own
    # choice, their batches would be others than one host's, and of unequal number.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
