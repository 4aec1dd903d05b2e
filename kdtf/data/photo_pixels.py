"""How a photo file becomes pixels: one definition, for building data sets and for the model card.

The model card's program holds the source text of this module's functions, so they need NumPy and
Pillow alone, and each other.
"""

import inspect

import numpy as np
from PIL import Image, ImageOps


def upright_rgb(image):
    """Any photo that Pillow opens, turned upright, as RGB on white: Pillow image of mode RGB.

    Transparent pixels become white. Greys of more than 8 bits are scaled by what their format calls
    white, never by what the photo happens to hold.

    Raises:
      ValueError: black and white of a photo's pixels cannot be known, or are exceeded.
    """
    image.load()  # turns a TIFF already, after which its size is another
    if image.mode.startswith(("I", "F")):
        image = wide_grey(image)
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def wide_grey(image):
    """Greys of 12, 16 or 32 bits in 8: Pillow image of mode L, or LA where some is transparent."""
    tags = getattr(image, "tag_v2", {})  # of TIFF
    pixels = np.asarray(image, np.float64)
    if image.mode == "F":
        white = 1.0
    elif image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):
        white = 2.0 ** tags.get(258, (16,))[0] - 1
    else:
        raise ValueError("its greys have 32 bits, of which none is known to be white: save 8 or 16")
    if not (pixels.min() >= 0 and pixels.max() <= white):
        raise ValueError(
            f"its greys go from {pixels.min():g} to {pixels.max():g}, where 0 must be black and "
            f"{white:g} white: save it with 8 or 16 bits"
        )
    levels = np.round(pixels * (255 / white))
    if tags.get(262) == 0:  # white is zero
        levels = 255 - levels
    grey = Image.fromarray(levels.astype(np.uint8))
    if "transparency" in image.info:
        opaque = (pixels != image.info["transparency"]) * np.uint8(255)
        grey.putalpha(Image.fromarray(opaque))
    grey.getexif().update(image.getexif())
    return grey


def source():
    """Text of Python that defines `upright_rgb`, for a program that imports np, Image, ImageOps."""
    return "\n\n".join(inspect.getsource(function) for function in (upright_rgb, wide_grey))
