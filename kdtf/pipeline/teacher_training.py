"""Trains a teacher on a data set of shards and saves it as one `.keras` file."""

import os
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from kdtf import data, files, students, teachers
from kdtf.callbacks.checkpoint import EpochCheckpoint

RESNETS = {  # keras-cv ResNetV2, to train from scratch: filters and stride of each stack
    "resnet14_v2": ([64, 96, 192], [2, 2, 2]),
    "resnet18_v2": ([64, 128, 256, 512], [1, 2, 2, 2]),
}


def resnet_v2(name, image_size):
    """A keras-cv ResNetV2 backbone (arXiv:1603.05027) of raw images, randomly initialised."""
    import keras_cv

    filters, strides = RESNETS[name]
    backbone = keras_cv.models.ResNetV2Backbone(
        stackwise_filters=filters,
        stackwise_blocks=[2] * len(filters),  # with one, keras-cv names two layers alike
        stackwise_strides=strides,
        block_type="basic_block",
        include_rescaling=True,
        input_shape=(image_size, image_size, 3),
    )
    return teachers.keras_cv_backbone(backbone, image_size)


def build(info, config):
    """The untrained teacher of a `TeacherConfig`, for a data set's classes and metadata."""
    if config.backbone.endswith(".keras"):
        body = teachers.saved_backbone(config.backbone, config.image_size)
    elif config.backbone in RESNETS:
        body = resnet_v2(config.backbone, config.image_size)
    else:
        body = teachers.applications_backbone(config.backbone, config.image_size, config.weights)
    steps = config.epochs * steps_per_epoch(info, config)
    return teachers.classifier(
        body,
        len(info.classes),
        metadata=info.vocabulary_sizes() if config.metadata else None,
        dropout=config.dropout,
        bn_momentum=students.batch_norm_momentum(steps),
    )


def cosine_schedule(learning_rate, steps, epochs):
    """Learning rate by step: up linearly for one epoch (at most half the training), then a cosine.

    Args:
      learning_rate: the peak.
      steps: steps of an epoch.
      epochs: of the whole training; the rate ends at 0.
    """
    warmup = min(steps, steps * epochs // 2)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps * epochs - warmup, warmup_target=learning_rate, warmup_steps=warmup
    )


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
    """
    out = Path(out)
    keras.utils.set_random_seed(config.seed)
    model = build(info, config)
    steps = steps_per_epoch(info, config)
    model.compile(
        keras.optimizers.AdamW(
            cosine_schedule(config.learning_rate, steps, config.epochs),
            weight_decay=config.weight_decay,
            use_ema=bool(config.ema),
            ema_momentum=config.ema or 0.99,
        ),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.label_smoothing
        ),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    checkpoint = EpochCheckpoint(out.with_suffix(".checkpoint.npz"))
    first_epoch = checkpoint.restore(model)
    columns = tuple(info.metadata) if config.metadata else ()
    batches = data.training_batches(
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
    classes = len(info.classes)
    select = data.select_inputs(model)
    batches = batches.map(mix_labels(classes, config.mixup, config.cutmix, config.seed))
    validation = data.evaluation_batches(
        info, "val", config.batch_size, config.image_size, columns=columns
    )
    validation = validation.map(lambda x, label, w: (x, tf.one_hot(label, classes), w))
    callbacks = [checkpoint]
    if config.ema:
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=False))
    started = time.monotonic()
    if first_epoch < config.epochs:
        model.fit(
            batches.map(select),
            epochs=config.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            validation_data=validation.map(select),
            callbacks=callbacks,
            shuffle=False,
            verbose=verbose,
        )
    elif config.ema:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    facts = {
        "config": asdict(config),
        "classes": info.classes,
        "history": checkpoint.history,
        "seconds": round(time.monotonic() - started, 1),
    }
    with files.atomic_write(out) as partial:
        model.save(partial)
    files.write_json(out.with_suffix(".json"), facts)
    checkpoint.path.unlink()
    return model, checkpoint.history
