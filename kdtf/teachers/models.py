"""Teachers: a backbone from keras.applications, keras-cv or a file, with a head.

A teacher is an ordinary Keras model: raw 0..255 images in (and metadata, where asked), logits out,
saved as one `.keras` file. Its cost is paid once, so it may be large, see larger images than its
student, and be several models (`ensembles`).
"""

import hashlib
from pathlib import Path

import keras
import numpy as np

from kdtf import keras_private

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


def set_batch_norm_momentum(model, momentum):
    """Sets the momentum of every batch norm in a model, nested ones too."""
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
    for layer in keras_private.all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum


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


def _load_arrays(body, path):
    """Sets a headless model's weights from an `.npz` whose first arrays are its own."""
    with np.load(path) as archive:
        arrays = [archive[name] for name in archive.files]
    needed = body.weights
    for position, weight in enumerate(needed):
        shape = arrays[position].shape if position < len(arrays) else "nothing"
        if shape != tuple(weight.shape):
            raise ValueError(
                f"{path}: array {position} has shape {shape}, {body.name} needs "
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
