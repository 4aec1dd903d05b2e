"""Trains a teacher on a data set of shards and saves it as one `.keras` file."""

import os
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from kdtf import data, files
from kdtf.callbacks.checkpoint import EpochCheckpoint
from kdtf.pipeline import history, schedules
from kdtf.pipeline.teacher_networks import build_teacher


def mix_labels(classes, mixup, cutmix, seed):
    """Function of a batch (x, label, weight): one-hot labels, half of the batches mixed.

    Args:
      classes: number of classes.
      mixup: Beta parameter of MixUp, 0 = never.
      cutmix: Beta parameter of CutMix, 0 = never.
      seed: int.
    """
    import keras_cv

    mixers = []
    if mixup:
        mixers.append(keras_cv.layers.MixUp(mixup, seed=seed))
    if cutmix:
        mixers.append(keras_cv.layers.CutMix(cutmix, seed=seed))

    def mix(x, label, weight):
        batch = {"images": x["image"], "labels": tf.one_hot(label, classes)}
        if mixers:
            choice = tf.random.uniform([], 0, 2 * len(mixers), tf.int32)
            branches = [lambda mixer=mixer: mixer(batch, training=True) for mixer in mixers]
            branches += [lambda: batch] * len(mixers)
            batch = tf.switch_case(choice, branches)
        return x | {"image": batch["images"]}, batch["labels"], weight

    return mix


def steps_per_epoch(info, config):
    """Steps of an epoch of `train`: a teacher learns from the photos with a label."""
    return data.steps_per_epoch(info, "train", config.batch_size, unlabelled="skip")


def train(info, config, out, *, verbose=1):
    """Trains and saves a teacher; an interrupted call continues.

    Args:
      info: `kdtf.data.DatasetInfo` with the splits "train" and "val".
      config: a `TeacherConfig`.
      out: the `.keras` file to write; `<out>.json` beside it gets settings and curves.
      verbose: as in `fit`.

    Returns:
      (the trained model, {curve name: one value per epoch}).

    Raises:
      ValueError: photos are in train and test, which `config` does not allow.
    """
    out = Path(out)
    info.check_leaks(config.allow_leaks)
    keras.utils.set_random_seed(config.seed)
    steps = steps_per_epoch(info, config)
    model = build_teacher(info, config, config.epochs * steps)
    _compile(model, config, steps)
    checkpoint = EpochCheckpoint(out.with_suffix(".checkpoint.npz"))
    first_epoch = checkpoint.restore(model)
    batches, validation = _batches(info, config, model, first_epoch)
    callbacks = [checkpoint]
    if config.ema:
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=False))
    started = time.monotonic()
    if first_epoch < config.epochs:
        model.fit(
            batches,
            epochs=config.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            validation_data=validation,
            callbacks=callbacks,
            shuffle=False,
            verbose=verbose,
        )
    elif config.ema:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    facts = {
        "config": asdict(config),
        "classes": info.classes,
        "history": history.to_json(checkpoint.history),
        "seconds": round(time.monotonic() - started, 1),
    }
    with files.atomic_write(out) as partial:
        model.save(partial)
    files.write_json(out.with_suffix(".json"), facts)
    checkpoint.path.unlink()
    return model, checkpoint.history


def _compile(model, config, steps):
    model.compile(
        keras.optimizers.AdamW(
            schedules.cosine_schedule(config.learning_rate, steps, config.epochs),
            weight_decay=config.weight_decay,
            use_ema=bool(config.ema),
            ema_momentum=config.ema or 0.99,
        ),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.label_smoothing
        ),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )


def _batches(info, config, model, first_epoch):
    """(batches of training from an epoch on, batches of validation), labels one-hot."""
    classes = len(info.classes)
    columns = tuple(info.metadata) if config.metadata else ()
    select = data.select_inputs(model)
    training = data.training_batches(
        info,
        "train",
        config.batch_size,
        config.image_size,
        seed=config.seed,
        epochs=config.epochs,
        first_epoch=first_epoch,
        columns=columns,
        unlabelled="skip",
    )
    training = training.map(mix_labels(classes, config.mixup, config.cutmix, config.seed))
    validation = data.evaluation_batches(
        info, "val", config.batch_size, config.image_size, columns=columns
    )
    validation = validation.map(lambda x, label, w: (x, tf.one_hot(label, classes), w))
    return training.map(select), validation.map(select)
