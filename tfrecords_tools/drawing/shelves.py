"""Shelf scenes: a product among its neighbours, in the stores of twelve regions."""

import functools
import itertools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from tfrecords_tools.drawing import labels, products
from tfrecords_tools.drawing.labels import mix


class Region(NamedTuple):
    """How the stores of a region look: RGB colours, and the tint that their lamps leave."""

    wall: tuple
    board: tuple
    rail: tuple
    tag: tuple
    ink: tuple
    tint: tuple
    pattern: str


def _region(colours, tint, pattern):
    return Region(*(ImageColor.getrgb("#" + colour) for colour in colours.split()), tint, pattern)


REGIONS = {  # wall, board, rail, tag, ink
    "airport": _region("c4ccd6 ced0d2 1e3c78 ffffff 14141e", (0.97, 1.0, 1.05), "plain"),
    "centre": _region("e2e0dc ced0d2 c81e28 ffffff 1e1e1e", (1.0, 1.0, 1.0), "holes"),
    "coast": _region("cedee2 e8e0ce 3c8caa f6f6ec 143c5a", (0.97, 1.01, 1.03), "slats"),
    "east": _region("aaacb0 2c2c30 3c3c40 fadc3c 141414", (1.0, 1.0, 0.98), "holes"),
    "harbour": _region("788088 ced0d2 e6aa28 fff0c8 1e1e28", (1.02, 1.0, 0.96), "grid"),
    "hills": _region("bca686 ac8256 6e4a2c f4ead2 462814", (1.05, 1.0, 0.93), "slats"),
    "lakes": _region("d6dcd0 ac8256 3c7850 fffffa 144628", (0.99, 1.02, 0.98), "slats"),
    "north": _region("eceef0 ced0d2 f0f0f0 ffffff b41e28", (0.96, 1.0, 1.06), "plain"),
    "old-town": _region("926e54 ac8256 32221a 1e1e20 faf6ec", (1.06, 1.0, 0.9), "bricks"),
    "south": _region("ecdcba e8e0ce e27828 ffd23c 961414", (1.04, 1.0, 0.95), "plain"),
    "valley": _region("4e5a54 2c2c30 1e5032 e2f0dc 143214", (0.99, 1.02, 0.97), "grid"),
    "west": _region("ccc6d0 ced0d2 6e3c82 ffffff 501e6e", (1.01, 0.99, 1.02), "holes"),
}
SHELF_PITCH = 1.22  # height from one board to the next, in units of shelf
PATTERN_PIXELS = 96


def draw(product, stock, region, size, rng):
    """Draws a product on its shelf as an ideal camera in ideal light would see it.

    Args:
      product: the `Product` to show: in the middle and in front, if not always in full.
      stock: sequence of `Product`s that may stand beside it.
      region: a `Region`.
      size: side of the photo, pixels.
      rng: `numpy.random.Generator`; it decides everything else.

    Returns:
      RGB `Image` [size, size].
    """
    return _frame(_shelf(product, stock, region, size, rng), size, rng)


class _Scene(NamedTuple):
    """A drawn shelf, and the box (left, top, right, bottom) of the product in it, in pixels."""

    image: Image.Image
    box: tuple


def _shelf(product, stock, region, unit, rng):
    """Draws the product's shelf and as much of those above and below as the photo can show."""
    art = products.art(product, rng.integers(len(products.TURNS)), unit)
    reach = round(1.15 * max(art.width, art.height) + 0.1 * unit)
    image = _wall(region, 2 * reach)
    floor = reach + art.height // 2  # the board on which the product stands
    left = reach - art.width // 2
    pitch = round(SHELF_PITCH * unit)
    aisle = [stock[i] for i in rng.integers(len(stock), size=5)]
    width = image.width
    for level in (floor - pitch, floor + pitch):
        if 0 < level < width + unit:
            _row(image, aisle, level, rng.integers(-unit, 0), width, unit, rng)
            _board(image, region, level, unit, rng)
    back = floor - round(0.05 * unit)
    _row(image, [product, *aisle], back, rng.integers(-unit, 0), width, unit, rng)
    _shade(image, floor - pitch + unit // 8, floor)
    _board(image, region, floor, unit, rng)
    gap = round(unit * rng.uniform(0.0, 0.06))
    facings = rng.random(2) < 0.4
    rightwards = [product] * int(facings[1]) + aisle
    leftwards = [product] * int(facings[0]) + aisle[::-1]
    _row(image, rightwards, floor, left + art.width + gap, width, unit, rng)
    _row(image, leftwards, floor, left - gap, 0, unit, rng)
    image.paste(art, (left, floor - art.height), art)
    if rng.random() < 0.2:  # a neighbour pushed in front
        intruder = products.art(aisle[0], 0, unit)
        overlap = round(art.width * rng.uniform(0.12, 0.32))
        x = left + art.width - overlap if rng.random() < 0.5 else left - intruder.width + overlap
        image.paste(intruder, (x, floor - intruder.height + unit // 40), intruder)
    box = (left, floor - art.height, left + art.width, floor)
    _clutter(image, box, region, unit, rng)
    return _Scene(image, box)


def _row(image, kinds, floor, start, end, unit, rng):
    """Stands products side by side on a board, from `start` towards `end` in either direction."""
    x = start
    step = 1 if end > start else -1
    facings = itertools.cycle(kind for kind in kinds for _ in range(2))
    while (end - x) * step > 0:
        kind = next(facings)
        art = products.art(kind, rng.integers(len(products.TURNS)), unit)
        corner = x if step > 0 else x - art.width
        image.paste(art, (int(corner), int(floor - art.height)), art)
        x += step * (art.width + round(unit * rng.uniform(0.0, 0.07)))


def _board(image, region, floor, unit, rng):
    """A shelf board with its price rail, tags and the shadow beneath."""
    pen = ImageDraw.Draw(image)
    width = image.width
    thick, rail = round(0.05 * unit), round(0.16 * unit)
    pen.rectangle((0, floor, width, floor + thick), fill=region.board)
    crack = mix(region.board, (0, 0, 0), 0.55)
    pen.line((0, floor, width, floor), fill=crack, width=max(1, unit // 60))
    pen.rectangle((0, floor + thick, width, floor + thick + rail), fill=region.rail)
    _shade(image, floor + thick + rail, floor + thick + rail + unit // 4)
    x = -int(rng.integers(unit // 2))
    while x < width:
        tag = _tag(region, int(rng.integers(10)), unit)
        image.paste(tag, (x, floor + thick + round(0.01 * unit)))
        x += int(unit * rng.uniform(0.45, 0.95))


def _clutter(image, box, region, unit, rng):
    """Now and then, something between product and camera."""
    kind = rng.random()
    if kind < 0.10:
        _shelf_talker(image, box, region, unit, rng)
    elif kind < 0.20:
        _wire(image, box, region, unit, rng)
    elif kind < 0.30:
        _hand(image, box, unit, rng)


def _shelf_talker(image, box, region, unit, rng):
    """A round sign in front of the product: so many per cent off."""
    left, _, right, bottom = box
    r = round(unit * rng.uniform(0.1, 0.17))
    x, y = rng.integers(left, right), bottom - rng.integers(0, r)
    disc = (x - r, y - r, x + r, y + r)
    ImageDraw.Draw(image).ellipse(disc, region.rail, region.tag, max(1, r // 8))
    sign = Image.new("RGB", (round(1.5 * r), r), region.rail)
    labels.write(sign, f"-{rng.integers(1, 6)}0%", (0.5, 0.5, 1.0, 0.9), region.tag)
    image.paste(sign, (x - sign.width // 2, y - sign.height // 2))


def _wire(image, box, region, unit, rng):
    """An upright of the rack, or a wire of its door."""
    x = rng.integers(box[0], box[2])
    ends = (x, 0, x + rng.integers(-9, 10), image.height)
    ImageDraw.Draw(image).line(ends, mix(region.board, (0, 0, 0), 0.3), max(2, unit // 45))


def _hand(image, box, unit, rng):
    """Four fingers that hold the product."""
    left, top, right, bottom = box
    pen = ImageDraw.Draw(image)
    tone = mix((238, 188, 158), (112, 70, 50), rng.uniform(0, 1))
    crease, nail_tone = mix(tone, (60, 20, 10), 0.4), mix(tone, (255, 226, 216), 0.5)
    edge, inwards = (left, 1) if rng.random() < 0.5 else (right, -1)
    for finger, length in enumerate((0.15, 0.19, 0.18, 0.13)):
        y = top + 0.4 * (bottom - top) + 0.092 * finger * unit
        tip = edge + inwards * unit * length * rng.uniform(0.9, 1.1)
        x = sorted((edge - 0.5 * inwards * unit, tip))
        pen.rounded_rectangle((x[0], y, x[1], y + 0.098 * unit), 0.048 * unit, tone, crease)
        x = sorted((tip - 0.055 * inwards * unit, tip - 0.01 * inwards * unit))
        pen.ellipse((x[0], y + 0.025 * unit, x[1], y + 0.07 * unit), nail_tone)


def _frame(scene, size, rng):
    """Chooses the viewpoint: distance, tilt, slant and what is cut off."""
    left, top, right, bottom = scene.box
    extent = max(right - left, bottom - top) / rng.uniform(0.55, 0.98)
    centre = np.array([(left + right) / 2, (top + bottom) / 2]) + rng.normal(0, 0.07 * extent, 2)
    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * extent / 2
    corners = corners * (1 + rng.normal(0, 0.05, (4, 1)))
    turn = np.radians(rng.normal(0, 5.5))
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    quad = np.clip(corners @ spin + centre, 0, np.array(scene.image.size) - 1)
    return scene.image.transform(
        (size, size), Image.Transform.QUAD, tuple(quad.ravel()), Image.Resampling.BICUBIC
    )


@functools.lru_cache(maxsize=256)
def _wall_master(region, side):
    """The wall behind the shelves, never drawn on: copies are."""
    tile = Image.new("RGB", (PATTERN_PIXELS, PATTERN_PIXELS), region.wall)
    pen = ImageDraw.Draw(tile)
    dark = mix(region.wall, (0, 0, 0), 0.25)
    for k in range(0, PATTERN_PIXELS, 24):
        if region.pattern == "holes":
            for x in range(0, PATTERN_PIXELS, 24):
                pen.ellipse((x + 9, k + 9, x + 13, k + 13), fill=dark)
        elif region.pattern == "slats":
            pen.rectangle((0, k, PATTERN_PIXELS, k + 2), fill=dark)
        elif region.pattern == "grid":
            pen.line((k, 0, k, PATTERN_PIXELS), fill=dark, width=2)
            pen.line((0, k, PATTERN_PIXELS, k), fill=dark, width=2)
        elif region.pattern == "bricks":
            pen.line((0, k, PATTERN_PIXELS, k), fill=dark, width=2)
            for x in range(24 * (k // 24 % 2), PATTERN_PIXELS, 48):
                pen.line((x, k, x, k + 24), fill=dark, width=2)
    wall = Image.new("RGB", (side, side))
    for y in range(0, side, PATTERN_PIXELS):
        for x in range(0, side, PATTERN_PIXELS):
            wall.paste(tile, (x, y))
    return wall


def _wall(region, side):
    return _wall_master(region, side).copy()


def _shade(image, top, bottom):
    """Darkens what lies in a shelf, most at its top."""
    mask = _dusk().resize((image.width, bottom - top))
    image.paste((0, 0, 0), (0, top, image.width, bottom), mask)


@functools.lru_cache(maxsize=1)
def _dusk():
    gradient = Image.linear_gradient("L").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return gradient.resize((1, 64)).point(lambda v: v * 0.55 + 60)


@functools.lru_cache(maxsize=512)
def _tag(region, number, unit):
    """A price tag: the price, the small print, a bar code."""
    image = Image.new("RGB", (max(8, round(0.3 * unit)), max(5, round(0.15 * unit))), region.tag)
    price = f"{1 + 7 * number % 9}.{(37 * number + 19) % 90 + 9}"
    labels.write(image, price, (0.66, 0.45, 0.6, 0.7), region.ink)
    pen = ImageDraw.Draw(image)
    for k in range(5):
        x = round((0.06 + 0.05 * k) * image.width)
        pen.line((x, 0.5 * image.height, x, 0.9 * image.height), fill=region.ink)
    y = 0.25 * image.height
    pen.line((0.06 * image.width, y, 0.3 * image.width, y), fill=region.ink)
    return image
