"""What `kdtf.board.EpochBoard` costs: its share of a training's processor time.

    python tests/benchmarks/board_overhead.py --image-size 96 --photos 2400

A MobileNetV3-Small learns from coloured squares, without a teacher and without decoding, so that
the share is an upper bound: in a real training both come on top. Processor time, so that a busy
machine does not blur it. The first look traces the forward pass; the later ones are what a look
costs. On a busy AMD EPYC with 2 cores, one thread: epoch 10.1 s, look 1.0 s (9.9 %), the first
2.2 s; recipes/distill.py looks at every second of 10 epochs.
"""

import argparse
import statistics
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

import kdtf
from kdtf import students
from kdtf.callbacks import tensorboard

CLASSES = 40


class Timed(tensorboard.TensorBoardFigures):
    """Keeps the processor seconds of every epoch's end."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seconds = []

    def on_epoch_end(self, epoch, logs=None):
        started = time.process_time()
        super().on_epoch_end(epoch, logs)
        self.seconds.append(time.process_time() - started)


class Epochs(keras.callbacks.Callback):
    """Keeps the processor seconds of every epoch, validation included, without callbacks."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.process_time() - self._started)


def squares(photos, side):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (64, side // 8, side // 8, 3)).astype("float32")
    image = image.repeat(8, axis=1).repeat(8, axis=2)
    labels = rng.integers(0, CLASSES, 64)
    data = tf.data.Dataset.from_tensor_slices((image, labels)).repeat().take(photos)
    return data.batch(32).prefetch(2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--image-size", type=int, default=96, help="pixels, a multiple of 8")
    parser.add_argument("--photos", type=int, default=2400, help="of an epoch")
    parser.add_argument("--validation", type=int, default=tensorboard.PHOTOS)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    student = students.mobilenet_v3_small(CLASSES, args.image_size, weights=None)
    distiller = kdtf.Distiller(student, alpha=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss, metrics=["accuracy"])
    validation = squares(args.validation, args.image_size)
    names = [f"class {number}" for number in range(CLASSES)]
    with tempfile.TemporaryDirectory() as folder:
        looks, epochs = Timed(folder, validation, names), Epochs()
        distiller.fit(
            squares(args.photos, args.image_size),
            epochs=args.epochs,
            validation_data=validation,
            callbacks=[epochs, looks],
            verbose=0,
        )
    print(f"first: epoch {epochs.seconds[0]:.1f} s, look {looks.seconds[0]:.1f} s")
    epoch, look = (statistics.median(each.seconds[1:]) for each in (epochs, looks))
    print(f"later: epoch {epoch:.1f} s, look {look:.2f} s: {look / epoch:.1%}")


if __name__ == "__main__":
    main()
