"""Photo files to the JPEGs that a data set stores."""

import contextlib
import io
import threading
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from kdtf.data.photo_pixels import upright_rgb

ORIENTATION = 0x0112  # EXIF tag
LARGEST_STORED = 178_956_970  # pixels: where Pillow itself refuses to open, so what it shall reopen
LARGEST_SHRUNK = 1_000_000_000  # pixels: 3 GB while it is shrunk
_PILLOW_LIMIT = threading.RLock()


@dataclass(frozen=True)
class JpegEncoder:
    """Photo file -> upright RGB or grey JPEG bytes.

    A JPEG that is upright, small enough, RGB or grey and of a kind that TensorFlow decodes passes
    through untouched; anything else that Pillow opens is re-encoded from its
    `kdtf.data.photo_pixels.upright_rgb`.

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
        except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
            what = str(error) or type(error).__name__
            raise ValueError(f"{photo.source} cannot be read as a photo: {what}") from error

    def encode(self, raw):
        """JPEG bytes of any photo's bytes.

        Raises:
          ValueError: more pixels than can be stored or shrunk; greys without a known white.
          Exception: whatever Pillow raises where it cannot read all of it.
        """
        with open_photo(raw, LARGEST_SHRUNK if self.max_side else LARGEST_STORED) as image:
            small = self.max_side is None or max(image.size) <= self.max_side
            if not small and image.width * image.height > LARGEST_STORED:
                # Of a JPEG: fewer pixels at once.
                image.draft("RGB", (self.max_side, self.max_side))
            load(image)  # a truncated file fails here, not in training
            upright = image.getexif().get(ORIENTATION, 1) == 1
            if image.mode in ("RGB", "L") and upright and small and is_common_jpeg(raw):
                return raw
            image = upright_rgb(image)
            if not small:
                image.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS)
            if image.width * image.height > LARGEST_STORED:
                raise ValueError(_too_large(image, LARGEST_STORED))
            return to_jpeg(image, self.quality)


def open_photo(raw, most_pixels=LARGEST_STORED):
    """Pillow image of a photo's bytes, not yet decoded.

    Pillow's own limit, which depends on the process's settings and only warns at first, is not
    asked.

    Raises:
      ValueError: it has more than `most_pixels`.
      PIL.UnidentifiedImageError, OSError, SyntaxError: it is none.
    """
    with _without_pillow_limit():
        image = Image.open(io.BytesIO(raw))
    if image.width * image.height > most_pixels:
        raise ValueError(_too_large(image, most_pixels))
    return image


def load(image):
    """Decodes a photo that `open_photo` opened, all of it."""
    # One large photo at a time; those within Pillow's limit need not wait.
    is_large = image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0)
    with _without_pillow_limit() if is_large else contextlib.nullcontext():
        image.load()


@contextlib.contextmanager
def _without_pillow_limit():
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def is_common_jpeg(raw):
    """Whether bytes are a JPEG as every decoder reads it: baseline or progressive, of 8 bits.

    Pillow may read lossless ones too, which TensorFlow does not, and arithmetic-coded ones, which
    phones do not.
    """
    place = 2
    while raw[:2] == b"\xff\xd8" and place + 4 < len(raw) and raw[place] == 0xFF:
        marker = raw[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame's header
            return marker <= 0xC2 and raw[place + 4] == 8
        if marker == 0xFF:  # filling before a marker
            place += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            place += 2
        else:
            place += 2 + int.from_bytes(raw[place + 2 : place + 4], "big")
    return False


def to_jpeg(image, quality=95):
    """JPEG bytes of a Pillow RGB or L image."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _too_large(image, most_pixels):
    return (
        f"it has {image.width} x {image.height} pixels, more than {most_pixels / 1e6:,.0f} "
        "million: shrink photos with --max-side 4096, for example"
    )
