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
      area: range of the crop's share of the photo's area, in (0, 1].
      aspect: range of the crop's width / height.
      flip: whether half of the views are mirrored left to right.
      brightness: largest relative change of brightness (0.2: a factor in [0.8, 1.2]).
      contrast: largest relative change of contrast, around the photo's mean grey.
      saturation: largest relative change of saturation, around each pixel's grey.
      mixup: Beta parameter of the share with which `views` mixes a photo with another; 0 = never.
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

    Only the crop is decoded: JPEG blocks above it and to its right are skipped.

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
    window = tf.concat([begin[:2], extent[:2]], axis=0)
    image = tf.image.resize(_decode(encoded, window), (size, size))
    if augmentation.flip:
        image = tf.image.stateless_random_flip_left_right(image, seeds[1])
    return jitter_colour(image, seeds[2], augmentation)


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
    # All three are affine in the pixel: x -> c(b x - m) + m, then a blend with its own grey.
    image = brightness * image
    grey = tf.tensordot(image, tf.constant(GREY), axes=1)[..., tf.newaxis]
    mean = tf.reduce_mean(grey)
    image = saturation * image + (1.0 - saturation) * grey
    image = contrast * image + (1.0 - contrast) * mean
    return tf.clip_by_value(image, 0.0, 255.0)


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


def _decode(encoded, window):
    # TensorFlow's default, the fast transform, is off by up to 4 levels from what phones decode.
    return tf.io.decode_and_crop_jpeg(encoded, window, channels=3, dct_method="INTEGER_ACCURATE")
