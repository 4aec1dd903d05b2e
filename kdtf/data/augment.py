"""Stateless views of a photo: the same seed always gives the same crop, flip and colour.

A training view is a function of (encoded photo, seed) and nothing else, so that a teacher's
logits can be stored for exactly the view that the student sees (Beyer et al., 2022,
arXiv:2106.05237, show why that matters).
"""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Augmentation:
    """How a training view is drawn.

    Attributes:
      area: range of the crop's fraction of the photo's area, in (0, 1].
      aspect: range of the crop's width / height.
      flip: whether half of the views are mirrored left to right.
      brightness: largest relative change of brightness (0.2: a factor in [0.8, 1.2]).
      contrast: largest relative change of contrast, around the photo's mean grey.
      saturation: largest relative change of saturation, around each pixel's grey.
      mixup: Beta parameter of the weight with which `views` mixes a photo with another; 0 = never.
    """

    area: tuple[float, float] = (0.25, 1.0)
    aspect: tuple[float, float] = (0.75, 4 / 3)
    flip: bool = True
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    mixup: float = 0.0

    def __post_init__(self):
        low, high = self.area
        if not 0 < low <= high <= 1:
            raise ValueError(f"area must satisfy 0 < low <= high <= 1, got {self.area!r}")
        low, high = self.aspect
        if not 0 < low <= high:
            raise ValueError(f"aspect must satisfy 0 < low <= high, got {self.aspect!r}")
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value!r}")
        if self.mixup < 0:
            raise ValueError(f"mixup must be 0 (never) or a Beta parameter, got {self.mixup!r}")


GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as JPEG itself uses


def training_view(encoded, seed, size, augmentation=Augmentation()):  # noqa: B008 (frozen)
    """Random resized crop, flip and light colour jitter (Szegedy et al., 2014, arXiv:1409.4842).

    Only the crop is decoded: JPEG blocks above it and to its right are skipped. Of a crop at least
    2, 4 or 8 times as large as the view, JPEG's own transform gives a half, a quarter or an eighth:
    quicker, and the mean of pixels that bilinear resizing would skip. Its edges are then rounded to
    whole scaled pixels.

    Args:
      encoded: string [], a JPEG.
      seed: int32 or int64 [2].
      size: int, side of the view in pixels.
      augmentation: an `Augmentation`.

    Returns:
      float32 [size, size, 3], values in [0, 255].
    """
    seeds = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), num=3))
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(encoded),
        tf.zeros([1, 0, 4]),
        seeds[0],
        area_range=augmentation.area,
        aspect_ratio_range=augmentation.aspect,
        use_image_if_no_bounding_boxes=True,
    )
    image = _decode_scaled(encoded, begin[:2], extent[:2], size)
    image = tf.image.resize(image, (size, size))
    if augmentation.flip:
        image = tf.image.stateless_random_flip_left_right(image, seeds[1])
    return jitter_colour(image, seeds[2], augmentation)


def training_views(encoded, seeds, size, augmentation=Augmentation()):  # noqa: B008 (frozen)
    """`training_view` of each photo: string [batch], int [batch, 2] to float32 [batch, size, ...].

    One call of a `tf.data` map for a batch costs less than one for each of its photos.
    """
    return tf.map_fn(
        lambda photo: training_view(*photo, size, augmentation),
        (encoded, seeds),
        fn_output_signature=tf.TensorSpec((size, size, 3)),
    )


def jitter_colour(image, seed, augmentation):
    """Brightness, contrast and saturation by factors drawn from `seed`.

    Args:
      image: float32 [height, width, 3], values in [0, 255].
      seed: int32 [2].
      augmentation: an `Augmentation`.

    Returns:
      float32 [height, width, 3], values clipped to [0, 255].
    """
    strengths = tf.constant(
        [augmentation.brightness, augmentation.contrast, augmentation.saturation], tf.float32
    )
    factors = 1.0 + strengths * tf.random.stateless_uniform([3], seed, -1.0, 1.0)
    brightness, contrast, saturation = tf.unstack(factors)
    # x -> b x, a blend with its own grey, a blend with the mean grey: one matrix and one offset,
    # because every pass over the pixels counts.
    grey = tf.constant(GREY, tf.float32)
    blend = saturation * tf.eye(3) + (1.0 - saturation) * tf.tile(grey[:, tf.newaxis], [1, 3])
    mean = tf.tensordot(tf.reduce_mean(tf.reduce_mean(image, axis=0), axis=0), grey, axes=1)
    image = tf.tensordot(image, brightness * contrast * blend, axes=1)
    return tf.clip_by_value(image + brightness * (1.0 - contrast) * mean, 0.0, 255.0)


def evaluation_view(encoded, size, crop_fraction=0.875):
    """Resize and centre crop: the middle square, `crop_fraction` of the short side wide.

    Args:
      encoded: string [], a JPEG.
      size: int, side of the view in pixels.
      crop_fraction: side of the square over the photo's short side, in (0, 1].

    Returns:
      float32 [size, size, 3], values in [0, 255].
    """
    if not 0 < crop_fraction <= 1:
        raise ValueError(f"crop_fraction must be in (0, 1], got {crop_fraction!r}")
    shape = tf.io.extract_jpeg_shape(encoded)[:2]
    short = tf.cast(tf.reduce_min(shape), tf.float32)
    side = tf.maximum(tf.cast(tf.round(short * crop_fraction), tf.int32), 1)
    offset = (shape - side) // 2
    window = tf.concat([offset, [side, side]], axis=0)
    return tf.image.resize(_decode(encoded, window), (size, size), antialias=True)


def evaluation_views(encoded, size, crop_fraction=0.875):
    """`evaluation_view` of each photo: string [batch] to float32 [batch, size, size, 3]."""
    return tf.map_fn(
        lambda photo: evaluation_view(photo, size, crop_fraction),
        encoded,
        fn_output_signature=tf.TensorSpec((size, size, 3)),
    )


def decode(encoded):
    """All of a photo's pixels, as views are cut from them.

    Args:
      encoded: string [], a JPEG.

    Returns:
      uint8 [height, width, 3].

    Raises:
      tf.errors.InvalidArgumentError: TensorFlow cannot decode it.
    """
    shape = tf.io.extract_jpeg_shape(encoded)[:2]
    return _decode(encoded, tf.concat([[0, 0], shape], axis=0))


def _decode_scaled(encoded, offset, extent, size):
    """float32 [height, width, 3]: a crop, halved up to 3 times while both sides keep `size`."""
    ratios = [1, 2, 4, 8]
    fits = tf.reduce_min(extent) // tf.constant(ratios[1:]) >= size

    def decode(ratio):
        first, last = ((edge + ratio // 2) // ratio for edge in (offset, offset + extent))
        return _decode(encoded, tf.concat([first, last - first], axis=0), ratio)

    decoders = [lambda r=ratio: decode(r) for ratio in ratios]
    image = tf.switch_case(tf.reduce_sum(tf.cast(fits, tf.int32)), decoders)
    # tf.image.resize takes half as long for floats as for bytes.
    return tf.cast(image, tf.float32)


def _decode(encoded, window, ratio=1):
    # TensorFlow's default, the fast transform, is off by up to 4 levels from what phones decode.
    return tf.io.decode_and_crop_jpeg(
        encoded, window, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE"
    )
