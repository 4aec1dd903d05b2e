"""Photos as JPEG bytes, and those of TensorFlow Datasets."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kdtf.data import names
from tfrecords_tools.shards import Photo

ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True)
class JpegEncoder:
    """Photo file -> upright RGB or grey JPEG bytes.

    A JPEG that is upright, small enough and RGB or grey passes through untouched; anything else
    that Pillow opens is re-encoded. Transparent pixels become white.

    Attributes:
      max_side: longest side in pixels after which a photo is shrunk (Lanczos); None = never.
      quality: JPEG quality of what is re-encoded, 1 to 100.
    """

    max_side: int | None = None
    quality: int = 95

    def __post_init__(self):
        if self.max_side is not None and self.max_side < 1:
            raise ValueError(f"max_side must be at least 1 pixel, got {self.max_side!r}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be in 1..100, got {self.quality!r}")

    def __call__(self, photo):
        try:
            return self.encode(Path(photo.source).read_bytes())
        except UnidentifiedImageError as error:
            raise ValueError(f"{photo.source} is not a photo that Pillow knows") from error
        except OSError as error:
            raise ValueError(f"{photo.source} cannot be read as a photo: {error}") from error

    def encode(self, raw):
        """JPEG bytes of any photo's bytes; OSError where Pillow cannot read all of it."""
        with Image.open(io.BytesIO(raw)) as image:
            image.load()  # a truncated file fails here, not in training
            upright = image.getexif().get(ORIENTATION, 1) == 1
            small = self.max_side is None or max(image.size) <= self.max_side
            if image.format == "JPEG" and image.mode in ("RGB", "L") and upright and small:
                return raw
            image = flatten(ImageOps.exif_transpose(image))
            if not small:
                image.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS)
            return to_jpeg(image, self.quality)


def flatten(image):
    """RGB copy of any Pillow image, transparent pixels on white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode.startswith(("I", "F")):  # 16 or more bits of grey: Pillow's convert would clip
        pixels = np.asarray(image, np.float64)
        top = 65535 if pixels.max() > 255 else 255
        image = Image.fromarray((pixels.clip(0, top) * (255 / top)).astype(np.uint8))
    return image.convert("RGB")


def to_jpeg(image, quality=95):
    """JPEG bytes of a Pillow RGB or L image."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def from_tfds(name, spool, data_dir=None):
    """Photos of a TensorFlow Datasets image classification set, its splits and class names.

    The photos are written to the folder `spool` as they are stored (JPEG or PNG, undecoded), so
    memory does not grow with their number. A validation split is called "val" here.

    Raises:
      ValueError: the set has no `image` and `label`.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    builder.download_and_prepare()
    if not {"image", "label"} <= set(builder.info.features):
        raise ValueError(
            f"tfds:{name} has features {sorted(builder.info.features)}; 'image' and 'label' needed"
        )
    classes = tuple(builder.info.features["label"].names)
    spool = Path(spool)
    spool.mkdir(parents=True, exist_ok=True)
    undecoded = {"image": tfds.decode.SkipDecoding()}
    photos = []
    for split in builder.info.splits:
        stored = builder.as_dataset(split=split, decoders=undecoded)
        for index, example in enumerate(tfds.as_numpy(stored)):
            path = spool / f"{split}-{index:08d}"
            path.write_bytes(example["image"])
            label = classes[example["label"]] if example["label"] >= 0 else None
            photos.append(Photo(path.name, str(path), names.split_name(split), label))
    return photos, classes
