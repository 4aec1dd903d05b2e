"""Trainings that two processes share, and the command that starts one of the two.

    TF_CONFIG=... python two_hosts.py FOLDER
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from small_models import HARD, batches, mlp

from kdtf import data, losses
from kdtf.distiller import Distiller
from kdtf.taps import Hint


class Steps(keras.callbacks.Callback):
    """Keeps the loss that `fit` reports after each step."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


def keras_3(folder, worker):
    """Hints, schedules, regularisers, weights, validation; returns weights and logs."""
    teacher, student = mlp(1), mlp(2)
    keras.utils.set_random_seed(3)
    adapter = keras.layers.Dense(7, kernel_regularizer="l2")
    distiller = Distiller(
        student,
        teacher,
        feature_losses=[Hint("hidden", "hidden", losses.hint_mse, adapter=adapter)],
        alpha=lambda step: 0.5 + tf.cast(step, tf.float32) / 100,
        log_agreement=True,
    )
    distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9), HARD, metrics=["accuracy"])
    steps, examples = Steps(), batches(4, weights=True)
    logs = distiller.fit(
        examples, epochs=2, verbose=0, validation_data=examples, callbacks=[steps]
    ).history
    logs["test"] = [distiller.evaluate(examples, verbose=0, return_dict=True)["loss"]]
    logs["predicted"] = np.sort(distiller.predict(examples, verbose=0).sum(axis=1)).tolist()
    if worker == 0:
        distiller.save(Path(folder) / "student.keras")
    distiller.save_weights(Path(folder) / f"{worker}.weights.h5")
    return distiller.get_weights(), logs, steps.losses


def shards(folder, worker):
    """Photos from shards, of which each worker decodes its own."""
    info = data.DatasetInfo.load(Path(folder) / "shards")

    def dataset(context):
        mine = data.training_batches(
            info, "train", 6, 16, seed=0, epochs=2, shuffle_examples=8,
            worker=context.input_pipeline_id, workers=context.num_input_pipelines,
        )  # fmt: skip
        mine = mine.rebatch(context.get_per_replica_batch_size(6))
        return mine.map(lambda x, *rest: (x["image"], *rest))

    keras.utils.set_random_seed(3)
    layers = keras.layers
    student = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3)]
    )
    distiller = Distiller(student, lambda x: x[:, 3, 5] / 100)
    distiller.compile(keras.optimizers.SGD(0.01), HARD)
    steps = Steps()
    logs = distiller.fit(
        tf.distribute.get_strategy().distribute_datasets_from_function(dataset),
        steps_per_epoch=data.steps_per_epoch(info, "train", 6),
        epochs=2,
        verbose=0,
        callbacks=[steps],
    ).history
    return distiller.get_weights(), logs, steps.losses


def main():
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    worker = strategy.cluster_resolver.task_id
    folder = Path(sys.argv[1])
    with strategy.scope():
        for training in (keras_3, shards):
            weights, logs, steps = training(folder, worker)
            np.savez(folder / f"{training.__name__}-{worker}.npz", *weights)
            found = json.dumps({"logs": logs, "steps": steps})
            (folder / f"{training.__name__}-{worker}.json").write_text(found)


if __name__ == "__main__":
    main()
