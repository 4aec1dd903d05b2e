"""Package art: the front of a product as an RGBA picture, one function per shape.

Everything round (bottle, can, jar, tub) is a flat picture wrapped around a solid of revolution;
everything flat (box, carton, bag, tray) is a printed label with folds and shading.
`PIXELS` is the height of a unit of shelf: a tall bottle is one unit high.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tfrecords_tools.drawing import labels
from tfrecords_tools.drawing.labels import mix

PIXELS = 240
METAL = (196, 198, 203)


def revolve(flat, outline, width, height, yaw=0.0, gloss=0.4, bulge=0.02, alpha=255):
    """Wraps a flat picture around a solid of revolution, lit from the upper left.

    Args:
      flat: RGB `Image`; its middle half is what faces the viewer.
      outline: function of float [height] in [-1, 1], top to bottom, to half-width in [0, 1].
      width, height: pixels of the result.
      yaw: turn, in fractions of the flat picture's width.
      gloss: strength of the highlight, 0 to 1.
      bulge: how far below its edges the front of a printed line hangs, in heights.
      alpha: opacity, 0 to 255.

    Returns:
      RGBA `Image` [height, width].
    """
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    half = np.maximum(outline(y), 1e-3)
    u = np.clip(x / half, -1, 1)
    facing = np.sqrt(1 - u**2)
    pixels = np.asarray(flat, np.float32)
    rows, columns = pixels.shape[:2]
    across = (np.arcsin(u) / (2 * np.pi) + 0.5 + yaw) % 1
    down = ((y + 1) / 2 - bulge * facing) / (1 - bulge)
    row = np.clip(down * (rows - 1), 0, rows - 1).astype(int)
    wrapped = pixels[row, (across * (columns - 1)).astype(int)]
    light = 0.42 + 0.62 * np.clip(0.92 * facing - 0.3 * u, 0, None)
    shine = np.exp(-(((u + 0.45) / 0.09) ** 2)) + 0.4 * np.exp(-(((u - 0.62) / 0.05) ** 2))
    wrapped = wrapped * light[..., None] + (120 * gloss * shine * facing)[..., None]
    side = np.clip((half - np.abs(x)) * width / 2 + 0.5, 0, 1)
    base = np.clip((1 - down) * height + 0.5, 0, 1)  # seen from above, the foot is an arc too
    return to_rgba(wrapped, side * base * alpha)


def bottle(design, yaw):
    """A plastic bottle: cap, shoulders, drink, a label around its waist."""
    width, height = 92, PIXELS
    flat = Image.new("RGB", (2 * width, height), design.content)
    draw = ImageDraw.Draw(flat)
    draw.rectangle((0, 0, 2 * width, 40), fill=mix(design.content, (235, 240, 240), 0.6))
    draw.rectangle((0, 0, 2 * width, 19), fill=design.accent)
    _wrap_label(flat, design, 88, 175)

    def outline(y):
        neck = 0.30 + 0.70 / (1 + np.exp(-16 * (y + 0.55)))
        waist = 1 - 0.05 * np.exp(-(((y - 0.62) / 0.1) ** 2))
        return np.where(y < -0.84, 0.36, np.minimum(neck, waist))

    return revolve(flat, outline, width, height, yaw, gloss=0.9, alpha=248)


def can(design, yaw):
    """A drink can, printed all over."""
    width, height = 94, 165
    flat = Image.new("RGB", (2 * width, height), METAL)
    _wrap_label(flat, design, 12, height - 9)
    draw = ImageDraw.Draw(flat)
    draw.rectangle((0, 4, 2 * width, 7), fill=(120, 122, 128))

    def outline(y):
        return 1 - 0.2 * np.clip((np.abs(y) - 0.86) / 0.14, 0, 1)

    return revolve(flat, outline, width, height, yaw, gloss=0.75, bulge=0.03)


def tin(design, yaw):
    """A food tin with a paper label and ribbed rims."""
    width, height = 112, 138
    flat = Image.new("RGB", (2 * width, height), METAL)
    draw = ImageDraw.Draw(flat)
    for y in (3, height - 5):
        draw.line((0, y, 2 * width, y), fill=(110, 112, 118), width=2)
    _wrap_label(flat, design, 10, height - 9)
    return revolve(flat, lambda y: np.where(np.abs(y) > 0.93, 1, 0.965), width, height, yaw, 0.3)


def jar(design, yaw):
    """A glass jar: lid, contents with bits in them, a label."""
    width, height = 112, 150
    flat = Image.new("RGB", (2 * width, height), design.content)
    draw = ImageDraw.Draw(flat)
    rng = np.random.default_rng(design.style)
    for x, y, r in zip(
        rng.integers(0, 2 * width, 90),
        rng.integers(30, height, 90),
        rng.integers(2, 6, 90),
        strict=True,
    ):
        tone = mix(design.content, (20, 10, 5) if r % 2 else (255, 240, 220), 0.3)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tone)
    draw.rectangle((0, 0, 2 * width, 26), fill=design.secondary)
    draw.rectangle((0, 22, 2 * width, 27), fill=mix(design.secondary, (0, 0, 0), 0.4))
    _wrap_label(flat, design, 54, 130, span=0.8)

    def outline(y):
        return np.where(y < -0.66, 0.86, 1 - 0.3 * np.clip(-y - 0.42, 0, 1) ** 0.8)

    return revolve(flat, outline, width, height, yaw, gloss=0.8)


def tub(design, yaw):
    """A yoghurt or ice cream cup, wider at its lid."""
    width, height = 130, 132
    flat = Image.new("RGB", (2 * width, height), design.primary)
    _wrap_label(flat, design, 16, height)
    ImageDraw.Draw(flat).rectangle((0, 0, 2 * width, 15), fill=mix(design.accent, METAL, 0.55))

    def outline(y):
        return np.where(y < -0.78, 1.0, 0.93 - 0.1 * (y + 0.78))

    return revolve(flat, outline, width, height, yaw, gloss=0.35, bulge=0.04)


def flask(design, yaw):
    """A flat shampoo or detergent bottle with a flip cap."""
    width, height = 104, 215
    flat = Image.new("RGB", (2 * width, height), design.primary)
    ImageDraw.Draw(flat).rectangle((0, 0, 2 * width, 36), fill=design.accent)
    _wrap_label(flat, design, 68, 200, span=0.84)

    def outline(y):
        body = 0.92 + 0.08 * np.cos(2.2 * (y - 0.2))
        return np.where(y < -0.68, 0.42, body * np.clip((y + 0.74) * 9, 0.35, 1) ** 0.5)

    return revolve(flat, outline, width, height, yaw, gloss=0.7, bulge=0.0)


def box(design, yaw, width=132, height=190):
    """A folding box; turned to either side it shows that side too."""
    front = labels.draw(design, width, height)
    side = round(abs(yaw) * 260)
    art = Image.new("RGBA", (width + side, height + 6))
    left = side if yaw > 0 else 0
    art.paste(front, (left, 6))
    draw = ImageDraw.Draw(art)
    x = 0 if yaw > 0 else width
    if side:
        edge = labels.draw(design, 64, height).resize((side, height)).point(lambda v: v * 0.6)
        art.paste(edge, (x, 6))
    lid = mix(design.primary, (255, 255, 255), 0.35)
    draw.polygon([(left, 6), (left + 5, 0), (left + width - 5, 0), (left + width, 6)], fill=lid)
    draw.line((left, 6, left, height + 6), fill=mix(design.primary, (0, 0, 0), 0.35))
    return _lit(art, 0.12)


def wide_box(design, yaw):
    """A biscuit or tea box lying on its long side."""
    return box(design, yaw, 176, 104)


def carton(design, yaw):
    """A gable-top drink carton."""
    width, height = 96, 222
    roof = 42
    art = Image.new("RGBA", (width, height))
    art.paste(labels.draw(design, width, height - roof), (0, roof))
    draw = ImageDraw.Draw(art)
    lean = round(60 * yaw)
    slope = mix(design.primary, (0, 0, 0), 0.18)
    gable = [(0, roof), (width - 1, roof), (width - 12 + lean, 12), (12 + lean, 12)]
    draw.polygon(gable, fill=slope)
    ridge = mix(design.primary, (255, 255, 255), 0.3)
    draw.rectangle((10 + lean, 0, width - 10 + lean, 12), fill=ridge)
    if design.style % 2:
        x = width // 2 + lean
        draw.ellipse((x - 15, 14, x + 15, 36), fill=mix(design.accent, (0, 0, 0), 0.25))
        draw.ellipse((x - 13, 12, x + 13, 32), fill=design.accent)
    draw.line((0, roof, width, roof), fill=mix(design.primary, (0, 0, 0), 0.35), width=2)
    return _lit(art, 0.18 + yaw)


def bag(design, yaw):
    """A pillow bag of crisps or sweets: puffed up, crimped above and below."""
    return _soft_bag(design, yaw, 150, 200, puff=0.55, crimp=9)


def pouch(design, yaw):
    """A coffee or frozen food pouch with a folded top."""
    return _soft_bag(design, yaw, 118, 186, puff=0.3, crimp=16)


def tray(design, yaw):
    """A tray of fresh food under film, with a sticker."""
    width, height = 178, 118
    rng = np.random.default_rng(design.style)
    art = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(art)
    shell = (28, 28, 32) if design.style % 2 else (222, 224, 226)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), 14, fill=shell)
    inner = Image.new("RGB", (width - 18, height - 18), mix(design.content, (0, 0, 0), 0.35))
    pen = ImageDraw.Draw(inner)
    for row in range(5):
        for column in range(6):
            x, y = 30 * column + rng.integers(-8, 8), 24 * row + rng.integers(-6, 6)
            w, h = rng.integers(24, 34), rng.integers(18, 28)
            tone = mix(design.content, (255, 235, 225), rng.uniform(0, 0.3))
            pen.ellipse((x, y, x + w, y + h), fill=mix(tone, (0, 0, 0), 0.4))
            pen.ellipse((x, y, x + w - 3, y + h - 4), fill=tone)
            pen.arc((x + 4, y + 3, x + w - 8, y + h - 8), 180, 290, fill=mix(tone, (255,) * 3, 0.6))
    art.paste(inner.filter(ImageFilter.GaussianBlur(0.8)), (9, 9))
    sticker = labels.draw(design, 100, 66)
    art.paste(sticker, (round(36 + 90 * yaw), 30))
    art.alpha_composite(_streaks(width, height, rng))
    return _lit(art, 0.1)


def _soft_bag(design, yaw, width, height, puff, crimp):
    rng = np.random.default_rng(design.style)
    pixels = np.asarray(labels.draw(design, width, height), np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    slopes, phases = rng.uniform(-9, 9, (4, 2)), rng.uniform(0, 6, 4)
    folds = 0.045 * sum(
        np.sin(np.float32(a) * x + np.float32(b) * y + np.float32(c))
        for (a, b), c in zip(slopes, phases, strict=True)
    )
    light = 1.02 - puff * ((x + 0.25 - yaw) ** 2) - 0.5 * puff * y**4 + folds
    glints = np.clip(folds - 0.07, 0, 1) * 900 * puff
    sealed = np.abs(y) > 1 - 2 * crimp / height
    light = np.where(sealed, 0.82 + 0.12 * np.sin(x * width * 0.8), light)
    edge = 0.93 + 0.07 * y**4 + 0.012 * np.sin(21 * y + design.style)
    alpha = np.clip((edge - np.abs(x)) * width / 2, 0, 1) * 255
    return to_rgba(pixels * light[..., None] + glints[..., None], alpha)


def _wrap_label(flat, design, top, bottom, span=1.0):
    """Prints a label on the front half of a flat wrap; its back carries the small print."""
    width = flat.width
    draw = ImageDraw.Draw(flat)
    if span == 1.0:
        draw.rectangle((0, top, width, bottom - 1), fill=design.primary)
        for y in range(top + 10, bottom - 6, 7):
            for x in (width // 16, width - 3 * width // 16):
                draw.line((x, y, x + width // 8, y), fill=mix(design.primary, (255,) * 3, 0.5))
    front = round(width * 0.36 * span)
    art = labels.draw(design, front, bottom - top)
    flat.paste(art, ((width - front) // 2, top))


def _lit(art, slant):
    """Darkens a flat package towards one side."""
    pixels = np.asarray(art, np.float32)
    x = np.linspace(-1, 1, art.width)[None, :, None]
    y = np.linspace(-1, 1, art.height)[:, None, None]
    return to_rgba(pixels[..., :3] * (0.98 - slant * x - 0.06 * y), pixels[..., 3])


def _streaks(width, height, rng):
    """Reflections of a film: pale slanted stripes."""
    x = np.arange(width)[None] + 0.6 * np.arange(height)[:, None]
    stripes = zip(rng.uniform(0, 240, 3), (5, 9, 3), strict=True)
    glow = sum(np.exp(-(((x - centre) / spread) ** 2)) for centre, spread in stripes)
    white = np.full((height, width, 3), 255.0)
    glow[:8], glow[-8:] = 0, 0
    return to_rgba(white, np.clip(glow, 0, 1) * 90)


def to_rgba(pixels, alpha):
    """RGBA `Image` of float [height, width, 3] in 0..255 and an opacity that broadcasts."""
    stack = np.concatenate([pixels, np.broadcast_to(alpha, pixels.shape[:2])[..., None]], -1)
    return Image.fromarray(np.clip(stack, 0, 255).astype(np.uint8))
