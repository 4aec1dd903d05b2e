"""What light and a camera make of a scene: colour, glare, blur, noise, sharpening, JPEG."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter


class Camera(NamedTuple):
    """What a device does to a photo.

    Attributes:
      detail: resolved pixels over stored pixels.
      noise: standard deviation at mid grey in good light, in 0..255.
      sharpening: fraction of the unsharp mask that is added.
      vignette: how much darker the corners are.
      saturation: of its colours.
      warmth: red over blue gain of its white balance.
      quality: JPEG quality, lowest and highest.
    """

    detail: float
    noise: float
    sharpening: float
    vignette: float
    saturation: float
    warmth: float
    quality: tuple


class Lighting(NamedTuple):
    """A kind of light: its colour, range of exposure, unevenness, and odds of glare."""

    colour: tuple
    exposure: tuple
    falloff: float
    glare: float


CAMERAS = {
    "handheld-scanner": Camera(0.42, 9.0, 0.9, 0.22, 0.7, 0.97, (40, 62)),
    "phone-budget": Camera(0.62, 6.5, 1.2, 0.16, 1.08, 1.05, (55, 78)),
    "phone-flagship": Camera(1.0, 2.0, 0.5, 0.06, 1.12, 1.0, (82, 94)),
    "shelf-camera": Camera(0.5, 5.0, 0.2, 0.32, 0.85, 0.94, (45, 70)),
    "smart-glasses": Camera(0.55, 8.0, 0.3, 0.26, 0.9, 1.08, (50, 75)),
    "tablet": Camera(0.78, 4.0, 0.3, 0.1, 0.92, 1.02, (70, 88)),
}
LIGHTINGS = {
    "backlit": Lighting((0.98, 1.0, 1.05), (0.45, 0.75), 0.5, 0.35),
    "cold-led": Lighting((0.9, 1.0, 1.14), (0.85, 1.2), 0.15, 0.35),
    "daylight": Lighting((1.0, 1.0, 1.0), (0.9, 1.25), 0.35, 0.2),
    "dim": Lighting((1.05, 1.0, 0.9), (0.4, 0.64), 0.4, 0.1),
    "fluorescent": Lighting((0.93, 1.05, 0.96), (0.8, 1.15), 0.15, 0.3),
    "warm": Lighting((1.18, 1.0, 0.74), (0.65, 1.05), 0.3, 0.25),
}


def photograph(scene, tint, lighting, camera, rng):
    """Lights a scene and takes its photo.

    Args:
      scene: RGB `Image` [size, size].
      tint: (red, green, blue) factors of the store's lamps.
      lighting: a `Lighting`.
      camera: a `Camera`.
      rng: `numpy.random.Generator`; it decides exposure, glare, shake and noise.

    Returns:
      (RGB `Image` [size, size], JPEG quality that the camera stores it with).
    """
    pixels = _light(np.asarray(scene, np.float32), tint, lighting, rng)
    dark = lighting.exposure[0] < 0.6
    return _capture(pixels, camera, dark, rng), int(rng.integers(*camera.quality))


def _light(pixels, tint, lighting, rng):
    """float32 [size, size, 3]: exposure, colour and unevenness of the light, and its glare."""
    size = len(pixels)
    y = np.linspace(-1, 1, size, dtype=np.float32)[:, None]
    x = y.T
    slope = rng.normal(0, 1, 2)
    slope = slope / np.linalg.norm(slope) * lighting.falloff * rng.uniform(0.2, 1)
    field = 1 + np.float32(slope[0]) * x + np.float32(slope[1]) * y
    colour = np.multiply(tint, lighting.colour) * (1 + rng.normal(0, 0.02, 3))
    colour = (colour * rng.uniform(*lighting.exposure)).astype(np.float32)
    pixels = pixels * field[..., None] * colour
    if rng.random() < lighting.glare:
        cx, cy = rng.uniform(-0.5, 0.5, 2)
        turn, long, short = rng.uniform(0, 3.1), rng.uniform(0.25, 0.9), rng.uniform(0.06, 0.25)
        u = ((x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)) / long
        v = ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) / short
        glare = np.exp(-(u * u + v * v), dtype=np.float32) * np.float32(rng.uniform(70, 230))
        pixels += glare[..., None]
    return pixels


def _capture(pixels, camera, dark, rng):
    """RGB `Image`: blur, colour, noise, sharpening and vignette of a camera."""
    size = len(pixels)
    grey = pixels @ np.float32((0.299, 0.587, 0.114))
    pixels = grey[..., None] + (pixels - grey[..., None]) * np.float32(camera.saturation)
    pixels *= np.float32((camera.warmth, 1, 1 / camera.warmth))
    y = np.linspace(-1, 1, size, dtype=np.float32)[:, None]
    pixels *= (1 - np.float32(camera.vignette / 2) * (y**2 + y.T**2))[..., None]
    if rng.random() < (0.4 if dark else 0.15):
        pixels = _smear(pixels, size * rng.uniform(0.01, 0.045), rng.uniform(0, np.pi))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.004, 0.014)))
    coarse = max(8, round(size * camera.detail))
    if coarse < size:
        image = image.resize((coarse, coarse), Image.Resampling.BOX)
    pixels = np.asarray(image, np.float32)
    gain = np.float32(camera.noise * (1.7 if dark else 1.0) * rng.uniform(0.6, 1.3))
    shot = np.sqrt(pixels * np.float32(1 / 128) + np.float32(0.15))
    pixels = pixels + gain * shot * rng.standard_normal(pixels.shape, np.float32)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if coarse < size:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    if camera.sharpening:
        image = image.filter(ImageFilter.UnsharpMask(1.2, round(100 * camera.sharpening), 2))
    return image


def _smear(pixels, length, angle):
    """Motion blur: the mean of copies shifted along a line."""
    steps = max(2, round(length))
    shifts = np.linspace(-length / 2, length / 2, steps)
    total = np.zeros_like(pixels)
    for shift in shifts:
        dx, dy = round(shift * np.cos(angle)), round(shift * np.sin(angle))
        total += np.roll(pixels, (dy, dx), (0, 1))
    return total / steps
