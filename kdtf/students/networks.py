"""Students: the small networks that ship, each one definition that builds in Keras 3 or tf_keras.

All take raw 0..255 images (normalisation is inside), return float32 logits under any dtype policy
and consist of named layers only, so that a layer can be read, annotated or replaced by its name.
In both Kerases they hold the same arrays in the same order: `set_weights(get_weights())` bridges.
"""

import keras
import numpy as np
import tensorflow as tf

from kdtf.students.weights import assign, by_layer, load_weights, slash_in_input_keys

# Howard et al., 2019, Table 2: expansion, channels, kernel, stride, squeeze-excite, activation
_SMALL_BLOCKS = (
    (1.0, 16, 3, 2, True, "relu"),
    (72 / 16, 24, 3, 2, False, "relu"),
    (88 / 24, 24, 3, 1, False, "relu"),
    (4.0, 40, 5, 2, True, "hard_swish"),
    (6.0, 40, 5, 1, True, "hard_swish"),
    (6.0, 40, 5, 1, True, "hard_swish"),
    (3.0, 48, 5, 1, True, "hard_swish"),
    (3.0, 48, 5, 1, True, "hard_swish"),
    (6.0, 96, 5, 2, True, "hard_swish"),
    (6.0, 96, 5, 1, True, "hard_swish"),
    (6.0, 96, 5, 1, True, "hard_swish"),
)


def mobilenet_v3_small(
    classes,
    image_size=224,
    width=1.0,
    metadata=None,
    weights=None,
    bn_momentum=0.99,
    dropout=0.2,
    keras=keras,
):
    """MobileNetV3-Small (Howard et al., 2019, arXiv:1905.02244), optionally with metadata.

    Same parameters, weight order, layer names and outputs as
    `keras.applications.MobileNetV3Small(alpha=width, classifier_activation=None)`.

    Args:
      classes: number of classes, at least 2.
      image_size: side of the square input in pixels, at least 32.
      width: channel multiplier, > 0. ImageNet weights exist for 0.75 and 1.0.
      metadata: mapping of column name to vocabulary size V, or None. Each column is embedded
        (V + 1 rows, row 0 = missing) and the embeddings' classifier is added to the image's logits.
        It starts at zero, so a new student computes exactly what it would without metadata.
      weights: None (random), "imagenet" (downloaded) or a path, see `load_weights`.
      bn_momentum: moving-average momentum of batch normalisation, see `batch_norm_momentum`.
      dropout: rate in front of the classifier, in [0, 1).
      keras: the Keras to build in, `keras` or `tf_keras`.

    Returns:
      keras.Model: float32 [batch, image_size, image_size, 3], raw 0..255, input named "image", to
      float32 logits [batch, classes]. With metadata the input is a dict: "image" and, for each
      column, "meta/<column>" int32 [batch].

    Raises:
      ValueError: an argument is out of range, or the weights do not fit.
      FileNotFoundError: there is no file at `weights`.
    """
    _check_sizes(classes, image_size, smallest_size=32)
    _check_width(width)
    layers, blocks = keras.layers, _Blocks(keras, bn_momentum)
    image, x = blocks.image(image_size, channels=3)
    x = blocks.conv(x, "conv", 16, 3, strides=2, activation="hard_swish")
    for index, (expansion, channels, *rest) in enumerate(_SMALL_BLOCKS):
        prefix = f"expanded_conv_{index}_" if index else "expanded_conv_"
        expanded = _divisible_by_8(x.shape[-1] * expansion) if index else None
        x = blocks.inverted_residual(x, prefix, expanded, _divisible_by_8(channels * width), *rest)
    x = blocks.conv(x, "conv_1", _divisible_by_8(x.shape[-1] * 6), 1, activation="hard_swish")
    x = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
    x = layers.Conv2D(_divisible_by_8(1024 * max(width, 1.0)), 1, name="conv_2")(x)
    x = blocks.activate(x, "hard_swish", "conv_2")
    x = layers.Dropout(dropout, name="dropout")(x)
    # float32 whatever the policy: losses need logits that float16 would round.
    x = layers.Conv2D(classes, 1, dtype="float32", name="logits")(x)
    logits = layers.Flatten(dtype="float32", name="flatten")(x)
    inputs = image
    if metadata is not None:
        inputs, logits = _add_metadata(image, logits, metadata, keras)
    with slash_in_input_keys():
        student = keras.Model(inputs, logits, name="mobilenet_v3_small")
    if weights == "imagenet":
        source = keras.applications.MobileNetV3Small(
            input_shape=(224, 224, 3), alpha=width, weights="imagenet"
        )
        assign(student, by_layer(student, source.get_weights(), weights), weights)
    elif weights is not None:
        load_weights(student, weights)
    return student


def tiny_cnn(classes, image_size=28, channels=1, bn_momentum=0.99, keras=keras):
    """Depthwise-separable CNN for small images; 9,610 parameters with 10 classes of 28x28x1.

    Args:
      classes, bn_momentum, keras: as in `mobilenet_v3_small`.
      image_size: side of the square input in pixels, at least 8.
      channels: image channels, at least 1.

    Returns:
      keras.Model: float32 [batch, image_size, image_size, channels], raw 0..255, to float32 logits
      [batch, classes].

    Raises:
      ValueError: an argument is out of range.
    """
    _check_sizes(classes, image_size, smallest_size=8)
    if channels < 1:
        raise ValueError(f"channels must be >= 1, got {channels!r}")
    blocks = _Blocks(keras, bn_momentum)
    image, x = blocks.image(image_size, channels)
    x = blocks.conv(x, "conv", 16, 3, activation="relu")
    for index, (filters, strides) in enumerate(((32, 2), (64, 2), (64, 1)), start=1):
        name = f"separable_{index}"
        x = blocks.conv(x, f"{name}_depthwise", None, 3, strides=strides, activation="relu")
        x = blocks.conv(x, f"{name}_pointwise", filters, 1, activation="relu")
    return keras.Model(image, blocks.mean_logits(x, classes), name="tiny_cnn")


def cifar_cnn(classes=10, image_size=32, width=1.0, bn_momentum=0.99, keras=keras):
    """Plain CNN for 32x32x3 images, four 3x3 convolutions; 99,450 parameters with 10 classes.

    Args:
      classes, bn_momentum, keras: as in `mobilenet_v3_small`.
      image_size: side of the square input in pixels, at least 8.
      width: channel multiplier, > 0.

    Returns:
      keras.Model: float32 [batch, image_size, image_size, 3], raw 0..255, to float32 logits
      [batch, classes].

    Raises:
      ValueError: an argument is out of range.
    """
    _check_sizes(classes, image_size, smallest_size=8)
    _check_width(width)
    blocks = _Blocks(keras, bn_momentum)
    image, x = blocks.image(image_size, channels=3)
    for index, (filters, strides) in enumerate(((16, 1), (32, 2), (64, 2), (128, 2)), start=1):
        filters = max(1, round(filters * width))
        x = blocks.conv(x, f"conv_{index}", filters, 3, strides=strides, activation="relu")
    return keras.Model(image, blocks.mean_logits(x, classes), name="cifar_cnn")


def batch_norm_momentum(steps):
    """Moving-average momentum of batch normalisation that fits a run of `steps` training steps.

    The statistics that inference uses forget their initial values as momentum ** steps. With
    0.999, which keras.applications sets, a fine-tuning of 410 steps kept two thirds of them:
    91 % of the training images were right in training mode and 0.7 % of the validation images.

    Args:
      steps: optimiser steps of the whole run, at least 1.

    Returns:
      float: 1 - 50 / steps, clipped to [0.9, 0.99].
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps!r}")
    return float(np.clip(1 - 50 / steps, 0.9, 0.99))


def _check_sizes(classes, image_size, smallest_size):
    if classes < 2:
        raise ValueError(f"classes must be >= 2, got {classes!r}")
    if image_size < smallest_size:
        raise ValueError(f"image_size must be >= {smallest_size} pixels, got {image_size!r}")


def _check_width(width):
    if width <= 0:
        raise ValueError(f"width must be > 0, got {width!r}")


def _add_metadata(image, image_logits, metadata, keras):
    """Late fusion: (dict of inputs, sum of the image's and the metadata's logits)."""
    if not metadata:
        raise ValueError("metadata is empty: name at least one column, or pass None")
    layers = keras.layers
    inputs, embeddings = {"image": image}, []
    # Sorted, because the hidden layer's rows follow this order: a file written from another order
    # of the same columns must still fit.
    for column, size in sorted(metadata.items()):
        if size < 1:
            raise ValueError(
                f"metadata column {column!r}: vocabulary size must be >= 1, got {size}"
            )
        index = keras.Input((), dtype="int32", name=f"meta_{column}")
        inputs[f"meta/{column}"] = index
        embeddings.append(layers.Embedding(size + 1, 8, name=f"embedding_{column}")(index))
    x = layers.Concatenate(name="fusion_concat")(embeddings)
    x = layers.Dense(32, activation="relu", name="fusion_hidden")(x)
    x = layers.Dense(
        image_logits.shape[-1],
        use_bias=False,
        kernel_initializer="zeros",
        dtype="float32",
        name="fusion_logits",
    )(x)
    return inputs, layers.Add(dtype="float32", name="fusion_add")([image_logits, x])


class _Blocks:
    """The students' building blocks, bound to one Keras and one batch-norm momentum."""

    def __init__(self, keras, bn_momentum):
        self.keras = keras
        self.bn_momentum = bn_momentum

    def image(self, size, channels):
        """The input of raw 0..255 pixels, and the same scaled to -1..1."""
        image = self.keras.Input((size, size, channels), name="image")
        return image, self.keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(image)

    def conv(self, x, name, filters, kernel, strides=1, activation=None):
        """Convolution (depthwise if `filters` is None), batch norm, activation."""
        layers = self.keras.layers
        options = {"strides": strides, "padding": "same", "use_bias": False, "name": name}
        if filters is None:
            x = layers.DepthwiseConv2D(kernel, **options)(x)
        else:
            x = layers.Conv2D(filters, kernel, **options)(x)
        x = layers.BatchNormalization(momentum=self.bn_momentum, epsilon=1e-3, name=f"{name}_bn")(x)
        return x if activation is None else self.activate(x, activation, name)

    def activate(self, x, kind, name):
        """Activation `kind` as the layer `<name>_<kind>`.

        tf_keras has no hard_swish, and its hard_sigmoid is 0.2 x + 0.5, not the paper's. There
        ours are registered, which lets clone_model and from_config find them. In Keras 3 the
        built-in ones let a saved file load anywhere.
        """
        function = kind
        if kind in _HARD_ACTIVATIONS and not hasattr(self.keras.activations, "hard_swish"):
            register = self.keras.utils.register_keras_serializable("kdtf", name=kind)
            function = register(_HARD_ACTIVATIONS[kind])
        return self.keras.layers.Activation(function, name=f"{name}_{kind}")(x)

    def inverted_residual(
        self, x, prefix, expanded, channels, kernel, strides, squeeze, activation
    ):
        """Expand 1x1 (unless `expanded` is None), depthwise, squeeze-excite, project, shortcut."""
        shortcut = x
        if expanded is not None:
            x = self.conv(x, f"{prefix}expand", expanded, 1, activation=activation)
        # keras.applications pads by hand before a stride; that equals "same" at every image size.
        x = self.conv(x, f"{prefix}depthwise", None, kernel, strides, activation=activation)
        if squeeze:
            x = self.squeeze_excite(x, f"{prefix}squeeze_excite")
        x = self.conv(x, f"{prefix}project", channels, 1)
        if strides == 1 and shortcut.shape[-1] == channels:
            x = self.keras.layers.Add(name=f"{prefix}add")([shortcut, x])
        return x

    def squeeze_excite(self, x, name):
        """Scale each channel by a gate in [0, 1] computed from all channels' means."""
        layers, channels = self.keras.layers, x.shape[-1]
        gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_avg_pool")(x)
        gate = layers.Conv2D(_divisible_by_8(channels / 4), 1, name=f"{name}_conv")(gate)
        gate = self.activate(gate, "relu", name)
        gate = layers.Conv2D(channels, 1, name=f"{name}_conv_1")(gate)
        gate = self.activate(gate, "hard_sigmoid", name)
        return layers.Multiply(name=f"{name}_mul")([x, gate])

    def mean_logits(self, x, classes):
        """Global average pooling and a float32 classifier."""
        x = self.keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
        return self.keras.layers.Dense(classes, dtype="float32", name="logits")(x)


def _hard_sigmoid(x):
    return tf.nn.relu6(x + 3.0) / 6.0


def _hard_swish(x):
    return x * _hard_sigmoid(x)


_HARD_ACTIVATIONS = {"hard_sigmoid": _hard_sigmoid, "hard_swish": _hard_swish}


def _divisible_by_8(channels):
    """Nearest multiple of 8 that is at least 8 and at least 90 % of `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
