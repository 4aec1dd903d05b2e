"""Fixed views of all training photos in memory, and what teachers say about exactly these.

A study trains one small data set dozens of times. Here its photos are decoded once, each in a few
views by `kdtf.data.augment`, and every teacher is asked once about each view, at its own image
size. All students replay these views: on them cached logits are exact (Beyer et al., 2022,
arXiv:2106.05237).
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kdtf import data, files, teachers
from kdtf.data import augment

_BATCH = 64


class Reader(NamedTuple):
    """What is made of each view: `read` maps float32 [batch, image_size, image_size, 3] to arrays.

    splits: the splits beside the training photos whose plain photos are wanted too.
    """

    image_size: int
    read: object
    splits: tuple[str, ...]


def pixels(image_size):
    """`Reader` of the views themselves, uint8, for students that train as a whole."""
    return Reader(image_size, lambda x: tf.cast(tf.round(x), tf.uint8), ("val", "test"))


def features(trunk):
    """`Reader` of the outputs of a student's frozen part, float16."""
    forward = tf.function(lambda x: tf.cast(trunk(x, training=False), tf.float16))
    return Reader(trunk.input_shape[1], forward, ("val", "test"))


def logits(teacher, classes):
    """`Reader` of a teacher's logits, float32.

    Raises:
      ValueError: a teacher of other classes, or one that needs more than the photo.
    """
    columns = teachers.columns(teacher)
    if columns:
        raise ValueError(
            f"the teacher takes the metadata {', '.join(columns)}: give one that takes photos alone"
        )
    if teacher.output_shape[-1] != classes:
        raise ValueError(
            f"the teacher has {teacher.output_shape[-1]} classes, the data {classes}: train one "
            "on these classes"
        )
    forward = tf.function(lambda x: teacher(x, training=False))
    return Reader(teachers.image_size(teacher), forward, ("test",))


def read_views(folder, info, readers, *, views, view_size, seed=0):
    """What each reader makes of the same views, from `folder` where it has been asked before.

    Args:
      folder: pathlib.Path for one `.npz` per reader.
      info: `kdtf.data.DatasetInfo` with splits train, val and test.
      readers: {name: function without arguments that returns a `Reader`}.
      views: of each training photo.
      view_size: side in pixels at which views are drawn; readers of other sizes get them resized.
      seed: of the views.

    Returns:
      {name: {"train": [views, examples, ...], other splits of the reader: [examples, ...]}}.
    """
    missing = {
        name: make() for name, make in readers.items() if not (folder / f"{name}.npz").exists()
    }
    if missing:
        train = _read_train(info, missing, views, view_size, seed)
        for name, reader in missing.items():
            others = {split: _read_split(info, split, reader) for split in reader.splits}
            with files.atomic_write(folder / f"{name}.npz") as partial:
                np.savez(partial, train=train[name], **others)
    arrays = {}
    for name in readers:
        with np.load(folder / f"{name}.npz") as stored:
            arrays[name] = dict(stored)
    return arrays


def _read_train(info, readers, views, view_size, seed):
    encoded = [example.encoded for example in data.read_examples(info, "train")]

    def view(position, photo):
        return augment.training_view(photo, tf.stack([position, seed]), view_size)

    photos = tf.data.Dataset.from_tensor_slices(encoded).repeat(views).enumerate()
    batches = photos.map(view, num_parallel_calls=tf.data.AUTOTUNE).batch(_BATCH).prefetch(2)
    rows = {name: [] for name in readers}
    with tqdm(total=views * len(encoded), unit="view", desc=f"views for {', '.join(rows)}") as bar:
        for images in batches:
            for name, reader in readers.items():
                rows[name].append(reader.read(_resized(images, reader.image_size)).numpy())
            bar.update(len(images))
    joined = {name: np.concatenate(parts) for name, parts in rows.items()}
    return {name: a.reshape(views, len(encoded), *a.shape[1:]) for name, a in joined.items()}


def _read_split(info, split, reader):
    batches = data.evaluation_batches(info, split, _BATCH, reader.image_size)
    return np.concatenate([reader.read(x["image"]).numpy() for x, *_ in batches])


def _resized(images, size):
    if images.shape[1] == size:
        return images
    return tf.image.resize(images, (size, size), antialias=True)
