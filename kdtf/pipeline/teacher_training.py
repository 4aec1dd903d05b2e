"""Trains a teacher on a data set of shards and saves it as one `.keras` file.

    python recipes/train_teacher.py --data shards/ --out teacher.keras --backbone mobilenet_v2 \\
        --weights imagenet --epochs 12

Fine-tuning with label smoothing (Szegedy et al., 2015, arXiv:1512.00567), MixUp
(arXiv:1710.09412) and CutMix (arXiv:1905.04899) by keras-cv on half of the batches, AdamW under
a cosine schedule with one epoch of warm-up, and a moving average of the weights. A killed run
continues when the same command is given again.

Cost: on two cores, 2,640 photos and 9 epochs of EdgeTPU-0.75 at 288 px took 18 minutes. What it
gave: docs/grocery.md.
"""

import argparse
import contextlib
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from kdtf import data, files, teachers
from kdtf.callbacks.checkpoint import EpochCheckpoint
from kdtf.pipeline import history, schedules
from kdtf.pipeline.teacher_networks import RESNETS, build_teacher


@dataclass(frozen=True)
class Config:
    """Everything that decides a teacher, apart from the data."""

    backbone: str = "mobilenet_v2"
    weights: str | None = None
    image_size: int = 224
    metadata: bool = False
    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    dropout: float = 0.2
    label_smoothing: float = 0.1
    mixup: float = 0.2
    cutmix: float = 1.0
    ema: float = 0.99
    seed: int = 0


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
      config: a `Config`.
      out: the `.keras` file to write; `<out>.json` beside it gets settings and curves.
      verbose: as in `fit`.

    Returns:
      (the trained model, {curve name: one value per epoch}).
    """
    out = Path(out)
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


@contextlib.contextmanager
def report_errors():
    """Ends the program with a message, not a traceback, where the user can mend what is wrong."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if "URL fetch failure" not in str(error):
            raise
        sys.exit(
            f"error: {error}\nWhere nothing can be fetched, give a file of weights: --weights FILE"
        )


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", required=True, help="directory with dataset.json and shards")
    add("--out", required=True, help="the .keras file to write")
    default = Config()
    add(
        "--backbone",
        default=default.backbone,
        help=f"{', '.join(teachers.BACKBONES)}; {', '.join(RESNETS)} (keras-cv, from scratch); or "
        "a saved classifier of -1..1 images (.keras) to cut before its head (default %(default)s)",
    )
    add("--weights", help="imagenet, an .npz of the backbone's arrays, or nothing: random")
    add("--metadata", action="store_true", help="use the metadata columns too")
    for name, kind, text in (
        ("image_size", int, "side of the input, pixels"),
        ("epochs", int, "epochs"),
        ("batch_size", int, "photos per batch"),
        ("learning_rate", float, "peak of the cosine schedule"),
        ("weight_decay", float, "of AdamW"),
        ("dropout", float, "before the head"),
        ("label_smoothing", float, "label smoothing"),
        ("mixup", float, "MixUp's Beta parameter, 0 = none"),
        ("cutmix", float, "CutMix's Beta parameter, 0 = none"),
        ("ema", float, "momentum of the weights' moving average, 0 = none"),
        ("seed", int, "of initial head, order and views"),
    ):
        flag = "--" + name.replace("_", "-")
        add(flag, type=kind, default=getattr(default, name), help=f"{text} (default %(default)s)")
    args = vars(parser.parse_args(argv))
    folder, out = args.pop("data"), args.pop("out")
    with report_errors():
        model, history = train(data.DatasetInfo.load(folder), Config(**args), out)
    accuracy = history["val_accuracy"][-1]
    print(f"{out}: {model.count_params():,} parameters, val accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
