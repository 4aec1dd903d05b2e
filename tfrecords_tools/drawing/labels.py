"""What is printed on a package: brand, picture and text, laid out in a brand's own way."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WHITE = (248, 247, 242)
INK = (28, 28, 34)


@dataclass(frozen=True)
class Design:
    """How one category's package is printed.

    Attributes:
      brand, noun, flavour: words.
      primary, secondary: RGB of the brand.
      accent: RGB of the flavour.
      content: RGB of what is inside.
      icon: function (ImageDraw, x, y, radius, colour) that draws the flavour's picture.
      layout: function (Image, Design) that prints the label.
      style: int, seeds what is arbitrary.
    """

    brand: str
    noun: str
    flavour: str
    primary: tuple
    secondary: tuple
    accent: tuple
    content: tuple
    icon: Callable
    layout: Callable
    style: int


def draw(design, width, height):
    """RGB `Image` [height, width]: the printed front of a package."""
    image = Image.new("RGB", (width, height), design.primary)
    design.layout(image, design)
    return image


def mix(first, second, fraction):
    """RGB between two colours; `fraction` of the second."""
    return tuple(round(a + (b - a) * fraction) for a, b in zip(first, second, strict=True))


def readable_on(colour):
    """Dark or pale RGB, whichever stands out on `colour`."""
    return INK if np.dot(colour, (0.3, 0.59, 0.11)) > 150 else WHITE


def write(image, text, box, colour, bold=True, turn=0):
    """Prints text as large as fits in `box` (centre x, centre y, width, height, as fractions)."""
    glyphs = _glyphs(text, bold)
    width, height = box[2] * image.width, box[3] * image.height
    tall = min(height, 1.25 * width * glyphs.height / glyphs.width)
    wide = min(width, 1.25 * tall * glyphs.width / glyphs.height)
    mask = glyphs.resize((max(1, round(wide)), max(1, round(tall))), Image.Resampling.BOX)
    if turn:
        mask = mask.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    left = round(box[0] * image.width - mask.width / 2)
    top = round(box[1] * image.height - mask.height / 2)
    image.paste(colour, (left, top), mask)


@functools.lru_cache(maxsize=1024)
def _glyphs(text, bold):
    font = ImageFont.load_default(44)
    stroke = 2 if bold else 0
    left, top, right, bottom = font.getbbox(text, stroke_width=stroke)
    mask = Image.new("L", (max(1, int(right - left)), max(1, int(bottom - top))))
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=font, stroke_width=stroke)
    return mask


# --- layouts -------------------------------------------------------------------------------------


def banded(image, design):
    """Brand on a band above, picture in the middle, flavour on a band below."""
    w, h = image.size
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0.08 * h, w, 0.30 * h), fill=design.secondary)
    pen.rectangle((0, 0.72 * h, w, 0.90 * h), fill=design.accent)
    write(image, design.brand, (0.5, 0.19, 0.86, 0.15), readable_on(design.secondary))
    design.icon(pen, 0.5 * w, 0.51 * h, 0.32 * min(w, 0.55 * h), design.accent)
    write(image, design.flavour, (0.5, 0.81, 0.8, 0.11), readable_on(design.accent))
    write(image, design.noun, (0.5, 0.955, 0.6, 0.06), readable_on(design.primary), bold=False)


def badge(image, design):
    """Brand in an oval, picture at the foot."""
    w, h = image.size
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0.86 * h, w, h), fill=design.accent)
    pen.ellipse((0.05 * w, 0.10 * h, 0.95 * w, 0.44 * h), fill=mix(design.secondary, INK, 0.4))
    pen.ellipse((0.08 * w, 0.12 * h, 0.92 * w, 0.42 * h), fill=design.secondary)
    write(image, design.brand, (0.5, 0.27, 0.7, 0.14), readable_on(design.secondary), turn=6)
    write(image, design.noun, (0.5, 0.51, 0.7, 0.09), readable_on(design.primary), bold=False)
    r = 0.28 * min(w, 0.5 * h)
    for x in (0.3, 0.7):
        design.icon(pen, x * w, 0.70 * h, r, design.accent)
    write(image, design.flavour, (0.5, 0.93, 0.8, 0.09), readable_on(design.accent))


def slanted(image, design):
    """Flavour's colour below a diagonal, brand along it."""
    w, h = image.size
    pen = ImageDraw.Draw(image)
    pen.polygon([(0, 0.66 * h), (w, 0.40 * h), (w, h), (0, h)], fill=design.accent)
    pen.polygon([(0, 0.60 * h), (w, 0.34 * h), (w, 0.40 * h), (0, 0.66 * h)], fill=design.secondary)
    write(image, design.brand, (0.5, 0.24, 0.9, 0.2), readable_on(design.primary), turn=10)
    design.icon(pen, 0.66 * w, 0.70 * h, 0.3 * min(w, 0.6 * h), mix(design.accent, WHITE, 0.45))
    write(image, design.flavour, (0.45, 0.92, 0.8, 0.1), readable_on(design.accent))
    write(image, design.noun, (0.24, 0.78, 0.36, 0.07), readable_on(design.accent), bold=False)


def striped(image, design):
    """Vertical stripes with a pale panel."""
    w, h = image.size
    pen = ImageDraw.Draw(image)
    for k in range(0, 11, 2):
        pen.rectangle((k * w / 11, 0, (k + 1) * w / 11, h), fill=design.secondary)
    pen.rounded_rectangle((0.1 * w, 0.14 * h, 0.9 * w, 0.80 * h), 0.08 * w, fill=WHITE)
    pen.rectangle((0.1 * w, 0.40 * h, 0.9 * w, 0.46 * h), fill=design.accent)
    write(image, design.brand, (0.5, 0.27, 0.7, 0.16), design.primary)
    design.icon(pen, 0.5 * w, 0.61 * h, 0.24 * min(w, 0.6 * h), design.accent)
    pen.rectangle((0, 0.84 * h, w, 0.97 * h), fill=design.accent)
    write(image, design.flavour, (0.5, 0.905, 0.84, 0.09), readable_on(design.accent))


def wavy(image, design):
    """A wave of the flavour's colour below, brand above."""
    w, h = image.size
    pen = ImageDraw.Draw(image)
    x = np.linspace(0, w, 24)
    for shift, colour in ((-0.05, design.secondary), (0.0, design.accent)):
        y = h * (0.56 + shift + 0.06 * np.sin(6.3 * x / w + design.style))
        pen.polygon([*zip(x, y, strict=True), (w, h), (0, h)], fill=colour)
    write(image, design.brand, (0.5, 0.2, 0.9, 0.2), readable_on(design.primary))
    write(image, design.noun, (0.5, 0.38, 0.6, 0.08), readable_on(design.primary), bold=False)
    design.icon(pen, 0.5 * w, 0.68 * h, 0.26 * min(w, 0.6 * h), mix(design.accent, WHITE, 0.5))
    write(image, design.flavour, (0.5, 0.91, 0.84, 0.11), readable_on(design.accent))


def plain(image, design):
    """Pale and sparse: a frame, brand, a small picture."""
    w, h = image.size
    pen = ImageDraw.Draw(image)
    paper = mix(design.secondary, WHITE, 0.75)
    pen.rectangle((0, 0, w, h), fill=paper)
    pen.rectangle((0, 0, w, 0.10 * h), fill=design.primary)
    pen.rectangle((0, 0.88 * h, w, h), fill=design.primary)
    write(image, design.brand, (0.5, 0.25, 0.84, 0.16), design.primary)
    design.icon(pen, 0.5 * w, 0.54 * h, 0.26 * min(w, 0.6 * h), design.accent)
    write(image, design.flavour, (0.5, 0.77, 0.76, 0.1), mix(design.accent, INK, 0.35))
    write(image, design.noun, (0.5, 0.94, 0.5, 0.06), readable_on(design.primary), bold=False)


# --- pictures ------------------------------------------------------------------------------------


def _disc(pen, x, y, r, colour, aspect=1.0):
    pen.ellipse((x - r, y - r * aspect, x + r, y + r * aspect), fill=colour)


def slice_(pen, x, y, r, colour):
    """A slice of citrus."""
    _disc(pen, x, y, r, mix(colour, INK, 0.15))
    _disc(pen, x, y, 0.86 * r, mix(colour, WHITE, 0.75))
    for k in range(8):
        ring = (x - 0.78 * r, y - 0.78 * r, x + 0.78 * r, y + 0.78 * r)
        pen.pieslice(ring, 45 * k + 4, 45 * k + 41, fill=colour)


def berries(pen, x, y, r, colour):
    """A bunch of berries."""
    for dx, dy in ((-0.5, -0.3), (0.45, -0.35), (0.0, 0.1), (-0.45, 0.5), (0.5, 0.45)):
        _disc(pen, x + dx * r, y + dy * r, 0.46 * r, mix(colour, INK, 0.3))
        _disc(pen, x + dx * r - 0.04 * r, y + dy * r - 0.05 * r, 0.38 * r, colour)
        _disc(pen, x + (dx - 0.14) * r, y + (dy - 0.16) * r, 0.1 * r, mix(colour, WHITE, 0.7))


def fruit(pen, x, y, r, colour):
    """A round fruit with a leaf."""
    _disc(pen, x, y + 0.1 * r, 0.86 * r, mix(colour, INK, 0.25))
    _disc(pen, x - 0.06 * r, y + 0.06 * r, 0.76 * r, colour)
    _disc(pen, x - 0.32 * r, y - 0.2 * r, 0.17 * r, mix(colour, WHITE, 0.65))
    stalk = (x, y - 0.6 * r, x + 0.1 * r, y - 1.0 * r)
    pen.line(stalk, fill=(90, 60, 30), width=max(1, int(0.1 * r)))
    _disc(pen, x + 0.4 * r, y - 0.82 * r, 0.34 * r, (70, 140, 50), 0.5)


def leaf(pen, x, y, r, colour):
    """Two leaves."""
    for side in (-1, 1):
        t = np.linspace(0, np.pi, 12)
        tip = np.stack([np.linspace(0, 1, 12), 0.42 * np.sin(t)], 1)
        outline = np.concatenate([tip, (tip * (1, -1))[::-1]])
        turn = np.array([[0.64 * side, -0.77], [0.77 * side, 0.64]]) * r * 1.15
        points = outline @ turn + (x, y + 0.55 * r)
        pen.polygon([tuple(p) for p in points], fill=mix(colour, INK, 0.1 + 0.1 * side))
        pen.line([tuple(points[0]), tuple(points[11])], fill=mix(colour, WHITE, 0.6))


def drop(pen, x, y, r, colour):
    """A drop."""
    pen.polygon([(x, y - r), (x - 0.56 * r, y + 0.2 * r), (x + 0.56 * r, y + 0.2 * r)], fill=colour)
    _disc(pen, x, y + 0.35 * r, 0.6 * r, colour)
    _disc(pen, x - 0.2 * r, y + 0.4 * r, 0.16 * r, mix(colour, WHITE, 0.7))


def grain(pen, x, y, r, colour):
    """Ears of grain."""
    for side in (-0.45, 0.0, 0.45):
        pen.line((x, y + r, x + side * r, y - 0.4 * r), fill=mix(colour, INK, 0.4), width=2)
        for k in range(4):
            px, py = x + side * r * (0.4 + 0.25 * k), y + (0.2 - 0.34 * k) * r
            _disc(pen, px, py, 0.17 * r, mix(colour, WHITE, 0.12 * k), 1.5)


def bean(pen, x, y, r, colour):
    """Beans or nuts."""
    for dx, dy in ((-0.35, -0.35), (0.4, 0.0), (-0.25, 0.5)):
        _disc(pen, x + dx * r, y + dy * r, 0.5 * r, mix(colour, INK, 0.35), 0.72)
        _disc(pen, x + dx * r, y + dy * r - 0.05 * r, 0.42 * r, colour, 0.66)
        pen.arc(
            (x + (dx - 0.3) * r, y + (dy - 0.5) * r, x + (dx + 0.3) * r, y + (dy + 0.1) * r),
            30,
            150,
            fill=mix(colour, INK, 0.55),
            width=2,
        )


def swirl(pen, x, y, r, colour):
    """Whipped cream or waves."""
    for k, width in enumerate((1.0, 0.78, 0.54, 0.28)):
        _disc(pen, x, y + (0.55 - 0.42 * k) * r, width * r, mix(colour, WHITE, 0.2 * k), 0.42)


def sun(pen, x, y, r, colour):
    """A sun or spark."""
    turn = np.linspace(0, 2 * np.pi, 25)[:-1]
    reach = np.where(np.arange(24) % 2, 0.62, 1.0) * r
    points = zip(x + reach * np.cos(turn), y + reach * np.sin(turn), strict=True)
    pen.polygon(list(points), fill=colour)
    _disc(pen, x, y, 0.4 * r, mix(colour, WHITE, 0.5))


LAYOUTS = (banded, badge, slanted, striped, wavy, plain)
