"""Trainings that two processes share. `TF_CONFIG=... python two_hosts.py FOLDER` is one of them."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from small_models import CLASSES, HARD, batches, mlp

from kdtf import data, losses, quantize, students
from kdtf.distillation.distiller import Distiller
from kdtf.distillation.features import FeatureLoss


class Labels(keras.metrics.Metric):
    """How often each label has been seen: a metric that is no scalar."""

    def __init__(self):
        super().__init__(name="labels")
        self.counts = self.add_variable((CLASSES,), "zeros", name="counts")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.counts.assign_add(tf.reduce_sum(tf.one_hot(y_true, CLASSES), axis=0))

    def result(self):
        return tf.convert_to_tensor(self.counts)


class Steps(keras.callbacks.Callback):
    """Keeps the loss that `fit` reports after each step."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


def untrained():
    """A Distiller with a hint, schedules, a regulariser and momentum."""
    teacher, student = mlp(1), mlp(2)
    keras.utils.set_random_seed(3)
    adapter = keras.layers.Dense(7, kernel_regularizer="l2")
    distiller = Distiller(
        student,
        teacher,
        feature_losses=[FeatureLoss("hidden", "hidden", losses.hint_mse, adapter=adapter)],
        alpha=lambda step: 0.5 + tf.cast(step, tf.float32) / 100,
        log_agreement=True,
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, HARD, metrics=["accuracy", Labels()])
    return distiller


def keras_3(folder, worker):
    """Training with weights and validation; then evaluation, prediction and files."""
    distiller, steps, examples = untrained(), Steps(), batches(4, weights=True)
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
    """Photos from shards, of which each worker decodes its own; in validation all of them."""
    info = data.DatasetInfo.load(Path(folder) / "shards")

    def dataset(context):
        mine = data.training_batches(
            info, "train", 6, 16, seed=0, epochs=2, shuffle_examples=8, input_context=context
        )
        mine = mine.rebatch(context.get_per_replica_batch_size(6))
        return mine.map(data.select_inputs(student))

    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    student = keras.Model(image, keras.layers.Dense(3)(x))
    distiller = Distiller(student, lambda x: x[:, 3, 5] / 100)
    distiller.compile(keras.optimizers.SGD(0.01), HARD)
    steps, held_out = Steps(), data.evaluation_batches(info, "val", 4, 16)
    logs = distiller.fit(
        tf.distribute.get_strategy().distribute_datasets_from_function(dataset),
        steps_per_epoch=data.steps_per_epoch(info, "train", 6),
        epochs=2,
        verbose=0,
        validation_data=held_out.map(data.select_inputs(student)),
        callbacks=[steps],
    ).history
    return distiller.get_weights(), logs, steps.losses


def eight_bits(folder, worker):
    """The same for a quantization-aware student, which is a model of tf_keras."""
    keras.utils.set_random_seed(3)
    images = np.random.default_rng(0).uniform(0, 255, (32, 28, 28, 1)).astype("float32")
    examples = tf.data.Dataset.from_tensor_slices((images, np.arange(32) % 10)).batch(8)
    student = quantize.quantize_aware(students.tiny_cnn(10), [images])
    kernel = student.trainable_variables[0]
    student.add_loss(lambda: tf.reduce_sum(kernel**2))
    distiller = quantize.QATDistiller(student, lambda images: images[:, 3, :10, 0] / 20)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(tf_keras.optimizers.SGD(1e-3), loss, metrics=["accuracy"])
    # Statistics of a batch would be those of each host's share.
    freeze = quantize.BatchNormFreeze(epoch=0)
    logs = distiller.fit(examples, epochs=2, verbose=0, callbacks=[freeze]).history
    return distiller.get_weights(), logs, []


def main():
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    worker = strategy.cluster_resolver.task_id
    folder = Path(sys.argv[1])
    with strategy.scope():
        for training in (keras_3, shards, eight_bits):
            weights, logs, steps = training(folder, worker)
            np.savez(folder / f"{training.__name__}-{worker}.npz", *weights)
            found = json.dumps({"logs": logs, "steps": steps}, default=lambda a: a.tolist())
            (folder / f"{training.__name__}-{worker}.json").write_text(found)


if __name__ == "__main__":
    main()
