"""Several teachers as one, by their mean or with their logits apart; teachers from files."""

import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kdtf import files
from kdtf.distillation import features
from kdtf.teachers.models import named_inputs


def ensemble(members):
    """One teacher of several: the mean of their logits, each at its own input size.

    The mean of logits is the geometric mean of the probabilities, renormalised. Members may differ
    in input size (photos are resized from the largest) and in the metadata they take.

    Args:
      members: models of raw 0..255 images (and metadata) to logits.

    Returns:
      `keras.Model`; save it like any other.

    Raises:
      ValueError: fewer than two members, or they have different numbers of classes.
    """
    if len(members) < 2:
        raise ValueError(f"an ensemble needs at least 2 members, got {len(members)}")
    widths = [member.output_shape[-1] for member in members]
    if len(set(widths)) > 1:
        raise ValueError(f"the members have {widths} classes: they must have the same ones")
    shapes = [named_inputs(member)["image"].shape for member in members]
    size = max(shape[1] for shape in shapes)
    inputs = {"image": keras.Input((size, size, 3), name="image")}
    logits = []
    for number, (member, shape) in enumerate(zip(members, shapes, strict=True)):
        feed = {}
        for key, tensor in named_inputs(member).items():
            if key != "image" and key not in inputs:
                name = key.replace("/", "_")
                inputs[key] = keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
            feed[key] = inputs[key]
        if shape[1] != size:
            feed["image"] = _resized(feed["image"], shape[1:3], f"resize_{number}")
        member.name = f"member_{number}"
        logits.append(member(feed if len(feed) > 1 else feed["image"]))
    mean = keras.layers.Average(dtype="float32", name="logits")(logits)
    return keras.Model(inputs if len(inputs) > 1 else inputs["image"], mean, name="ensemble")


def members(models):
    """A teacher of several models that keeps their logits apart.

    A Distiller averages the members' probabilities, each softened by its temperature
    (`losses.tempered_mean`); `ensemble` averages logits and is one model that can be saved.

    Args:
      models: models of raw 0..255 images (and metadata) to logits, of any input sizes.

    Returns:
      Function of a batch to float32 [batch, members, classes].
    """
    readers = [features.forward_function(model) for model in models]

    def logits(batch):
        outputs = [read(batch, training=False)[0] for read in readers]
        return tf.stack([tf.cast(output, tf.float32) for output in outputs], axis=1)

    return logits


def load(paths):
    """The teacher of one `.keras` file, or the ensemble of several."""
    models = load_members(paths)
    return models[0] if len(models) == 1 else ensemble(models)


def load_members(paths, classes=None):
    """The models of `.keras` files.

    Args:
      paths: the files; `<name>.json` beside one, where `kdtf teacher` wrote it, names
        the classes it was trained on.
      classes: the class names that they must know, in order; None = not checked.

    Raises:
      ValueError: a file that does not exist; other classes than `classes`.
    """
    for path in paths:
        if not Path(path).is_file():
            raise ValueError(f"teacher {path} does not exist")
        with zipfile.ZipFile(path) as archive:
            if b"keras_cv" in archive.read("config.json"):
                import keras_cv  # noqa: F401 (registers its layers)
    models = [keras.models.load_model(path, compile=False) for path in paths]
    for path, model in zip(paths, models, strict=True):
        if classes is not None:
            _check_classes(path, model, tuple(classes))
    return models


def _resized(images, size, name):
    """Bilinear, antialiased resizing as two fixed matrix products.

    TFLite lacks the antialiasing operator, and Keras's Resizing layer has a `training=True` default
    that spreads to every later layer.
    """
    for axis, equation in ((1, "bhwc,hy->bywc"), (2, "bhwc,wx->bhxc")):
        old, new = images.shape[axis], size[axis - 1]
        unit = np.eye(old, dtype="float32")[..., np.newaxis]
        matrix = keras.ops.image.resize(unit, (new, old), antialias=True)[..., 0]
        shape = [*images.shape[1:]]
        shape[axis - 1] = new
        layer = keras.layers.EinsumDense(
            equation, tuple(shape), trainable=False, dtype="float32", name=f"{name}_{axis}"
        )
        images = layer(images)
        layer.set_weights([np.transpose(matrix)])
    return images


def _check_classes(path, model, classes):
    facts = Path(path).with_suffix(".json")
    known = files.read_json(facts).get("classes") if facts.exists() else None
    if known is not None and tuple(known) != classes:
        raise ValueError(
            f"{path} was trained on other classes ({len(known)}, the first {known[0]!r}) than the "
            f"data set holds ({len(classes)}, the first {classes[0]!r}), or in another order: "
            "train a teacher on these"
        )
    width = model.output_shape[-1]
    if width != len(classes):
        raise ValueError(
            f"{path} has {width} classes, the data set has {len(classes)}: train a teacher on these"
        )
