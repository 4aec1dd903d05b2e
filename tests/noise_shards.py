"""Shards of blurred noise in twelve classes, and small teachers of them."""

import keras
import numpy as np
from PIL import Image

from kdtf import data
from tfrecords_tools import shards
from tfrecords_tools.encoding import to_jpeg

CLASSES = tuple(f"class {number:02d}" for number in range(12))
SIZE, PHOTOS = 16, 22


def encode_noise(photo):
    """JPEG of blurred noise; module level, so that its repr is stable."""
    noise = np.random.default_rng(photo.source).integers(0, 256, (6, 8, 3), np.uint8)
    return to_jpeg(Image.fromarray(noise).resize((40, 30)))


def write_photos(out, seed=0, labelled=PHOTOS):
    photos = [
        shards.Photo(
            f"photo/{n}",
            n,
            "train",
            CLASSES[n % 12] if n < labelled else None,
            {"region": "ns"[n % 2]},
        )
        for n in range(PHOTOS)
    ]
    shards.write_dataset(
        out, photos, encode_noise, classes=CLASSES, examples_per_shard=6, workers=1, seed=seed
    )
    return data.DatasetInfo.load(out)


def small_teacher(seed, size=SIZE, scale=1 / 20):
    """Convolution, pooling and a head, whose logits span a few nats."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(12, name="logits", kernel_initializer="glorot_normal")(x)
    return keras.Model(image, keras.layers.Rescaling(scale)(x), name=f"teacher_{seed}")


def batches(info, cached, **options):
    settings = {"seed": 1, "epochs": 5, "batch_size": 4, "image_size": SIZE} | options
    return data.training_batches(info, "train", cached_logits=cached, **settings)


def copied(cached, target):
    """The same cache in a directory of its own, to be spoiled."""
    target.mkdir()
    for path in cached.directory.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def float16_tolerance(logits):
    return 2.0**-11 * np.abs(logits).max() * 3  # of the largest, and of a difference to it
