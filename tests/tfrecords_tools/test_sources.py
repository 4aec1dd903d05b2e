"""Re-encoding of photos."""

import io

import numpy as np
import pytest
from photo_folders import noise, saved
from PIL import Image

from tfrecords_tools import sources
from tfrecords_tools.sources import JpegEncoder


def gradient(width=48, height=32):
    """A smooth photo that JPEG hardly harms: red grows rightwards, green downwards."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return Image.fromarray((np.stack([x, y, 0.5 + 0 * x], -1) * 255).astype(np.uint8))


def opened(raw):
    image = Image.open(io.BytesIO(raw))
    image.load()
    return image


def pixels(image):
    return np.asarray(image, np.float64)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_upright_jpeg_passes_through_byte_for_byte(mode):
    raw = saved(noise(0).convert(mode), "JPEG", quality=61, comment=b"kept")
    assert JpegEncoder().encode(raw) == raw
    assert JpegEncoder(max_side=40).encode(raw) == raw


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_other_formats_become_jpeg_with_the_same_pixels(form):
    options = {"lossless": True} if form == "WEBP" else {}
    got = opened(JpegEncoder().encode(saved(gradient(), form, **options)))
    assert (got.format, got.mode, got.size) == ("JPEG", "RGB", (48, 32))
    np.testing.assert_allclose(pixels(got), pixels(gradient()), atol=24 if form == "GIF" else 9)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_removed(orientation):
    """The stored pixels are turned such that their viewer, obeying EXIF, sees `gradient`."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = gradient().transpose(undo[orientation]) if orientation > 1 else gradient()
    exif = Image.Exif()
    exif[sources.ORIENTATION] = orientation
    raw = saved(stored, "JPEG", quality=98, exif=exif)
    encoded = JpegEncoder().encode(raw)
    got = opened(encoded)
    assert got.size == (48, 32)
    np.testing.assert_allclose(pixels(got), pixels(gradient()), atol=8)
    assert got.getexif().get(sources.ORIENTATION, 1) == 1
    assert (encoded == raw) == (orientation == 1)


def test_transparent_pixels_become_white():
    image = gradient().convert("RGBA")
    alpha = np.full((32, 48), 255, np.uint8)
    alpha[:, :16] = 0
    image.putalpha(Image.fromarray(alpha))
    got = pixels(opened(JpegEncoder().encode(saved(image, "PNG"))))
    assert got[:, :8].min() > 250
    np.testing.assert_allclose(got[:, 24:], pixels(gradient())[:, 24:], atol=9)


def test_half_transparent_pixels_are_blended_with_white():
    raw = saved(Image.new("RGBA", (16, 16), (0, 0, 0, 51)), "PNG")
    np.testing.assert_allclose(pixels(opened(JpegEncoder().encode(raw))), 204, atol=2)


def test_transparent_palette_and_grey():
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([10, 10, 10, 200, 30, 30])
    palette.paste(1, (8, 0, 16, 16))
    got = pixels(opened(JpegEncoder().encode(saved(palette, "PNG", transparency=0))))
    assert got[:, :6].min() > 235
    np.testing.assert_allclose(got[4, 13], [200, 30, 30], atol=14)
    grey = saved(Image.new("LA", (16, 16), (40, 0)), "PNG")
    assert pixels(opened(JpegEncoder().encode(grey))).min() > 250


def test_sixteen_bits_keep_their_scale():
    ramp = np.linspace(0, 65535, 48).astype(np.uint16)[None].repeat(32, 0)
    got = opened(JpegEncoder().encode(saved(Image.fromarray(ramp), "PNG")))
    assert got.mode == "RGB"
    np.testing.assert_allclose(pixels(got)[..., 0], ramp / 257, atol=6)


def test_cmyk_becomes_rgb():
    raw = saved(gradient().convert("CMYK"), "JPEG", quality=98)
    got = opened(JpegEncoder().encode(raw))
    assert got.mode == "RGB"
    np.testing.assert_allclose(pixels(got), pixels(gradient()), atol=12)


@pytest.mark.parametrize(("size", "want"), [((400, 100), (200, 50)), ((90, 300), (60, 200))])
def test_max_side_keeps_proportions(size, want):
    got = opened(JpegEncoder(max_side=200).encode(saved(gradient(*size), "JPEG")))
    assert got.size == want
    np.testing.assert_allclose(pixels(got), pixels(gradient(*want)), atol=12)


def test_quality_sets_the_size_of_what_is_re_encoded():
    raw = saved(noise(0, (128, 128)), "PNG")
    assert len(JpegEncoder(quality=30).encode(raw)) < 0.5 * len(JpegEncoder(quality=95).encode(raw))


@pytest.mark.parametrize("bad", [{"max_side": 0}, {"quality": 0}, {"quality": 101}])
def test_encoder_refuses(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name} must be .* got {value}"):
        JpegEncoder(**bad)
