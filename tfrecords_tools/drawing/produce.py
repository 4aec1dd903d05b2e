"""Fruit and vegetables, loose in a crate: a heap of balls, pears and roots with coloured skins."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tfrecords_tools.drawing import packages
from tfrecords_tools.drawing.labels import mix

CRATES = ((60, 110, 70), (40, 42, 46), (150, 116, 74), (60, 90, 140))


@dataclass(frozen=True)
class Produce:
    """A kind of fruit or vegetable.

    Attributes:
      skin, blush: RGB of the upper side and of what it fades to.
      outline: function of height in [-1, 1] to half-width in [0, 1].
      aspect: width / height of one piece.
      pieces: how many lie across the crate.
      speckle: how strongly the skin's brightness varies, 0 to 1.
      stem: RGB of the stalk, or None.
      crate: RGB.
      style: seeds what is arbitrary.
    """

    skin: tuple
    blush: tuple
    outline: Callable
    aspect: float = 1.0
    pieces: int = 5
    speckle: float = 0.1
    stem: tuple | None = None
    crate: tuple = (60, 110, 70)
    style: int = 0


def heap(produce, yaw):
    """A crate of loose fruit or vegetables, the nearer pieces over the farther ones."""
    rng = np.random.default_rng([produce.style, round(1000 * abs(yaw)), int(yaw > 0)])
    width, height, lip = 190, 150, 24
    across = width / produce.pieces
    wide = max(8, round(1.22 * across * min(1.0, produce.aspect)))
    tall = max(8, round(1.22 * across / max(1.0, produce.aspect)))
    if produce.aspect > 1:
        wide = round(tall * produce.aspect)
    elif produce.aspect < 1:
        tall = round(wide / produce.aspect)
    pieces = [_piece(produce, (wide, tall), rng) for _ in range(4)]
    shades = [[_dimmed(piece, 0.55 + 0.15 * k) for piece in pieces] for k in range(4)]
    margin = 2 * max(wide, tall)
    art = Image.new("RGBA", (width + 2 * margin, height + 2 * margin))
    back = [(margin + x, margin + y) for x, y in ((8, 40), (182, 40), (189, 149), (0, 149))]
    ImageDraw.Draw(art).polygon(back, fill=mix(produce.crate, (0, 0, 0), 0.6))
    step = 0.52 * min(tall, across)
    for row, y in enumerate(np.arange(4, height - lip - 0.2 * min(tall, across), step)):
        tones = shades[min(3, int(4 * (y + step) / (height - lip)))]
        for x in np.arange(-0.5 * (1 + row % 2), produce.pieces, max(0.3, wide / across * 0.82)):
            piece = tones[rng.integers(len(tones))]
            left = (x + rng.normal(0, 0.08)) * across
            top = y + rng.normal(0, 0.06) * tall
            art.alpha_composite(piece, (margin + round(left), margin + round(top)))
    art = art.crop((margin, margin, margin + width, margin + height))
    draw = ImageDraw.Draw(art)
    draw.rectangle((0, height - lip, width, height), fill=produce.crate)
    edge, slot = mix(produce.crate, (255,) * 3, 0.4), mix(produce.crate, (0, 0, 0), 0.45)
    draw.line((0, height - lip, width, height - lip), fill=edge, width=2)
    for x in range(12, width, 34):
        draw.rectangle((x, height - lip + 8, x + 20, height - lip + 13), fill=slot)
    return art


def _dimmed(art, fraction):
    """The same picture, darker."""
    red, green, blue, alpha = art.split()
    return Image.merge(
        "RGBA", [c.point(lambda v: v * fraction) for c in (red, green, blue)] + [alpha]
    )


def _piece(produce, size, rng):
    """One fruit, turned a little at random."""
    width, height = size
    fade = np.linspace(-0.4, 1.4, height)[:, None, None] + rng.normal(0, 0.25)
    cheek = np.sin(np.linspace(0, 6.3, 2 * width) + rng.uniform(0, 6))
    fade = np.clip(fade + 0.5 * cheek[None, :, None], 0, 1)
    flat = np.asarray(produce.skin) * (1 - fade) + np.asarray(produce.blush) * fade
    flat = flat * rng.uniform(0.9, 1.08)
    spots = rng.normal(0, produce.speckle, (height // 2 + 1, width, 1)).repeat(2, 0).repeat(2, 1)
    flat = flat * (1 + spots[:height, : 2 * width])
    flat = Image.fromarray(flat.clip(0, 255).astype(np.uint8))
    art = packages.revolve(flat, produce.outline, width, height, gloss=0.3, bulge=0.0)
    rim = art.getchannel("A").filter(ImageFilter.GaussianBlur(1.2)).point(lambda v: v * 0.55)
    shadow = Image.new("RGBA", art.size)
    shadow.putalpha(rim)
    art = Image.alpha_composite(shadow, art)
    if produce.stem:
        draw = ImageDraw.Draw(art)
        x = width // 2
        draw.line((x, 0, x + rng.integers(-3, 4), max(4, height // 6)), fill=produce.stem, width=3)
    turn = rng.uniform(-28, 28)
    return art.rotate(turn, Image.Resampling.BICUBIC, expand=True)


@functools.cache
def outline_round(squareness=2.0):
    """Outline of a ball; above 2 it becomes blockier, as a bell pepper's."""
    return lambda y: (1 - np.abs(y) ** squareness) ** (1 / squareness)


def outline_pear(y):
    """Outline of a pear, narrow above."""
    return np.sqrt(np.clip(1 - y**2, 0, 1)) * (0.62 + 0.38 / (1 + np.exp(-7 * y)))


def outline_root(y):
    """Outline of a carrot, pointed below."""
    return np.clip(1 - y, 0, 2) ** 0.55 / 2**0.55 * np.clip((y + 1) * 8, 0, 1) ** 0.5


def outline_head(y):
    """Outline of a lettuce or cabbage, ragged."""
    return np.sqrt(np.clip(1 - y**2, 0, 1)) * (0.93 + 0.07 * np.sin(17 * y))


_BROWN, _GREEN = (84, 60, 36), (70, 110, 44)
_ROUND = outline_round()
_BLOCKY = outline_round(3.2)
# Kind: variety -> skin, blush, outline, aspect, pieces, speckle, stem.
VARIETIES = {
    "Apple": {
        "Red": ((176, 28, 34), (206, 70, 50), _ROUND, 1.0, 5, 0.07, _BROWN),
        "Green": ((130, 180, 60), (160, 200, 80), _ROUND, 1.0, 5, 0.05, _BROWN),
        "Yellow": ((222, 196, 84), (214, 180, 90), _ROUND, 1.0, 5, 0.06, _BROWN),
        "Bicolour": ((196, 50, 44), (220, 190, 80), _ROUND, 1.0, 5, 0.07, _BROWN),
    },
    "Citrus": {
        "Orange": ((240, 140, 30), (244, 150, 40), _ROUND, 1.0, 5, 0.09, None),
        "Mandarin": ((238, 120, 26), (242, 134, 30), _ROUND, 1.15, 6, 0.09, _GREEN),
        "Lemon": ((244, 214, 60), (240, 206, 50), outline_pear, 0.8, 6, 0.08, None),
        "Lime": ((96, 156, 50), (120, 176, 60), _ROUND, 0.85, 7, 0.08, None),
        "Grapefruit": ((240, 176, 90), (236, 140, 90), _ROUND, 1.0, 4, 0.07, None),
    },
    "Pear": {
        "Green": ((166, 190, 80), (180, 196, 90), outline_pear, 0.72, 5, 0.07, _BROWN),
        "Brown": ((170, 130, 70), (180, 140, 76), outline_pear, 0.72, 5, 0.1, _BROWN),
        "Red": ((150, 50, 46), (190, 120, 70), outline_pear, 0.72, 5, 0.07, _BROWN),
    },
    "Stone-fruit": {
        "Peach": ((238, 160, 90), (206, 70, 60), _ROUND, 1.0, 5, 0.1, None),
        "Nectarine": ((206, 60, 44), (236, 150, 70), _ROUND, 1.0, 5, 0.05, None),
        "Plum": ((86, 40, 88), (70, 36, 80), _ROUND, 0.86, 7, 0.1, None),
        "Apricot": ((244, 170, 80), (240, 150, 70), _ROUND, 1.0, 7, 0.06, None),
    },
    "Tomato": {
        "Round": ((206, 40, 30), (216, 60, 36), _ROUND, 1.1, 5, 0.03, _GREEN),
        "Plum": ((204, 44, 32), (212, 58, 36), _ROUND, 0.7, 6, 0.03, _GREEN),
        "Yellow": ((240, 190, 50), (244, 200, 60), _ROUND, 1.05, 7, 0.03, _GREEN),
    },
    "Pepper": {
        "Red": ((190, 30, 26), (206, 40, 30), _BLOCKY, 0.9, 4, 0.03, _GREEN),
        "Green": ((50, 110, 44), (60, 124, 48), _BLOCKY, 0.9, 4, 0.03, _GREEN),
        "Yellow": ((240, 190, 30), (244, 200, 40), _BLOCKY, 0.9, 4, 0.03, _GREEN),
        "Orange": ((236, 120, 24), (240, 134, 30), _BLOCKY, 0.9, 4, 0.03, _GREEN),
    },
    "Root": {
        "Potato": ((196, 160, 104), (186, 150, 96), _ROUND, 1.35, 4, 0.12, None),
        "Red-potato": ((170, 90, 84), (180, 100, 90), _ROUND, 1.3, 4, 0.12, None),
        "Onion": ((206, 150, 76), (196, 136, 66), _ROUND, 1.0, 5, 0.1, _BROWN),
        "Red-onion": ((126, 40, 76), (140, 56, 86), _ROUND, 1.0, 5, 0.1, _BROWN),
        "Carrot": ((236, 120, 36), (230, 110, 30), outline_root, 0.3, 5, 0.08, _GREEN),
        "Parsnip": ((228, 210, 160), (220, 200, 150), outline_root, 0.32, 5, 0.08, None),
    },
    "Long": {
        "Cucumber": ((52, 104, 46), (70, 124, 56), _BLOCKY, 4.2, 3, 0.1, None),
        "Courgette": ((70, 112, 50), (96, 140, 66), _BLOCKY, 3.2, 3, 0.16, _GREEN),
        "Aubergine": ((56, 26, 62), (50, 22, 58), outline_pear, 0.5, 5, 0.03, _GREEN),
    },
    "Head": {
        "Lettuce": ((130, 186, 80), (160, 206, 110), outline_head, 1.1, 3, 0.3, None),
        "Cabbage": ((176, 206, 140), (150, 190, 120), outline_head, 1.0, 3, 0.12, None),
        "Red-cabbage": ((116, 60, 110), (100, 50, 100), outline_head, 1.0, 3, 0.12, None),
        "Broccoli": ((60, 110, 56), (76, 130, 66), outline_head, 1.15, 4, 0.4, None),
    },
}
