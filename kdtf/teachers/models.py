"""Teachers: a backbone from keras.applications, keras-cv or a file, with a head; and ensembles.

A teacher is an ordinary Keras model: raw 0..255 images in (and metadata, where asked), logits out,
saved as one `.keras` file. Its cost is paid once, so it may be large, see larger images than its
student, and be several models.
"""

import hashlib
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kdtf import keras_private
from kdtf.distillation import features

# keras.applications builders that take `include_preprocessing` normalise by themselves.
BACKBONES = {
    "mobilenet_v2": (keras.applications.MobileNetV2, {}),
    "mobilenet_v3_large": (keras.applications.MobileNetV3Large, {"include_preprocessing": True}),
    "efficientnet_v2_b0": (keras.applications.EfficientNetV2B0, {"include_preprocessing": True}),
    "efficientnet_v2_s": (keras.applications.EfficientNetV2S, {"include_preprocessing": True}),
}


def applications_backbone(name, image_size, weights=None):
    """Features [batch, h, w, channels] of raw 0..255 images, by a keras.applications model.

    Args:
      name: a key of `BACKBONES`.
      image_size: side of the input, pixels.
      weights: None, "imagenet" (fetched by keras.applications), or an `.npz` file with the arrays
        of the model with `include_top=True, weights=None`, in order; its head is left out.

    Raises:
      ValueError: unknown name; a file whose arrays do not fit.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    build, options = BACKBONES[name]
    fetched = weights if weights == "imagenet" else None
    body = build(
        include_top=False, weights=fetched, input_shape=(image_size, image_size, 3), **options
    )
    if weights not in (None, "imagenet"):
        _load_arrays(body, weights)
    if "include_preprocessing" in options:
        return body
    image = keras.Input((image_size, image_size, 3), name="image")
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0, name="normalise")(image)
    return keras.Model(image, body(scaled), name=name)


def keras_cv_backbone(backbone, image_size):
    """Features of raw 0..255 images by a keras-cv backbone instance, say a `ResNetV2Backbone`.

    Build it with its `stackwise_...` arguments (the presets fetch their configuration from a hub)
    and `include_rescaling=True`.
    """
    image = keras.Input((image_size, image_size, 3), name="image")
    return keras.Model(image, backbone(image), name=backbone.name)


def saved_backbone(path, image_size):
    """Pooled features of raw 0..255 images by a saved classifier, cut before its head.

    The file holds a functional Keras model of images scaled to -1..1 whose last pooling layer
    feeds the head.

    Raises:
      ValueError: the model has no global pooling layer.
    """
    model = keras.models.load_model(path, compile=False)
    pools = [layer for layer in model.layers if "Global" in type(layer).__name__]
    if not pools:
        raise ValueError(f"{path} has no global pooling layer to cut at")
    body = keras.Model(model.input, pools[-1].output)
    body = _with_input_size(body, image_size)
    image = keras.Input((image_size, image_size, 3), name="image")
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0, name="normalise")(image)
    return keras.Model(image, body(scaled), name=Path(path).stem)


def classifier(backbone, classes, *, metadata=None, dropout=0.2, bn_momentum=0.99):
    """A trainable teacher: backbone, pooling, dropout and a linear head; logits out.

    Metadata, where given, is embedded (row 0 = missing), passes a small dense layer, and joins the
    pooled features.

    Args:
      backbone: model of raw images to features [batch, h, w, c] or [..., c].
      classes: number of classes.
      metadata: {column: vocabulary size} or None. The input is then a dict
        {"image": ..., "meta/<column>": int32 [batch]}.
      dropout: rate before the head.
      bn_momentum: of every batch norm's moving statistics. keras.applications sets 0.99 to 0.999,
        which needs thousands of steps to forget its start.

    Returns:
      `keras.Model`, float32 [batch, classes].
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes!r}")
    set_batch_norm_momentum(backbone, bn_momentum)
    image = keras.Input(backbone.input_shape[1:], name="image")
    x = backbone(image)
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    inputs = image
    if metadata:
        inputs = {"image": image}
        embedded = []
        for column, size in metadata.items():
            index = keras.Input((), dtype="int32", name=f"meta_{column}")
            inputs[f"meta/{column}"] = index
            table = keras.layers.Embedding(size + 1, 8, name=f"embed_{column}")
            embedded.append(table(index))
        joined = embedded[0]
        if len(embedded) > 1:
            joined = keras.layers.Concatenate(name="metadata")(embedded)
        joined = keras.layers.Dense(32, "relu", name="metadata_dense")(joined)
        x = keras.layers.Concatenate(name="features")([x, joined])
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=f"{backbone.name}_classifier")


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


def load(paths):
    """The teacher of one `.keras` file, or the ensemble of several."""
    models = load_members(paths)
    return models[0] if len(models) == 1 else ensemble(models)


def load_members(paths, classes=None):
    """The models of `.keras` files.

    Args:
      paths: the files; `<name>.json` beside one, where `recipes/train_teacher.py` wrote it, names
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


def fingerprint(model):
    """Hex sha256 of a model's weights, in order; saving and loading does not change it.

    Raises:
      TypeError: something without weights, which cannot be told from another of its kind.
    """
    if not getattr(model, "weights", None):
        raise TypeError(f"a fingerprint is a hash of weights, and {model!r} has none")
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


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


def set_batch_norm_momentum(model, momentum):
    """Sets the momentum of every batch norm in a model, nested ones too."""
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
    for layer in keras_private.all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum


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


def named_inputs(model):
    """{"image": ..., "meta/<column>": ...}: a model's symbolic inputs, a single one by name too."""
    # A Sequential model that was loaded knows its input before it has been called only so.
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return inputs if isinstance(inputs, dict) else {"image": inputs}


def image_size(model):
    """Side in pixels of the images that a model takes."""
    return named_inputs(model)["image"].shape[1]


def columns(model):
    """The metadata columns that a model takes."""
    return tuple(key.removeprefix("meta/") for key in named_inputs(model) if key != "image")


def _check_classes(path, model, classes):
    facts = Path(path).with_suffix(".json")
    known = json.loads(facts.read_text()).get("classes") if facts.exists() else None
    if known is not None and tuple(known) != classes:
        raise ValueError(
            f"{path} was trained on other classes ({len(known)}, the first {known[0]!r}) than the "
            f"data set holds ({len(classes)}, the first {classes[0]!r}), or in another order: "
            "train a teacher on these"
        )
    found = model.output_shape[-1]
    if found != len(classes):
        raise ValueError(
            f"{path} has {found} classes, the data set has {len(classes)}: train a teacher on these"
        )


def _load_arrays(body, path):
    """Sets a headless model's weights from an `.npz` whose first arrays are its own."""
    with np.load(path) as archive:
        arrays = [archive[name] for name in archive.files]
    needed = body.weights
    for position, weight in enumerate(needed):
        found = arrays[position].shape if position < len(arrays) else "nothing"
        if found != tuple(weight.shape):
            raise ValueError(
                f"{path}: array {position} has shape {found}, {body.name} needs "
                f"{tuple(weight.shape)} for {weight.path}: these are the weights of another model"
            )
    body.set_weights(arrays[: len(needed)])


def _with_input_size(model, image_size):
    """The same functional model and weights for square images of another size."""
    config = model.get_config()
    config["layers"][0]["config"]["batch_shape"] = (None, image_size, image_size, 3)
    resized = type(model).from_config(config)
    resized.set_weights(model.get_weights())
    return resized
