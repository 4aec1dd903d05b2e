"""Photo files to stored JPEGs: the pixels are kept, what cannot be read is named."""

import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from photo_folders import noise, opened, pixels, saved
from PIL import Image

from kdtf.data import augment
from tfrecords_tools import encoding
from tfrecords_tools.encoding import JpegEncoder
from tfrecords_tools.shards import Photo


def gradient(width=48, height=32):
    """A smooth photo that JPEG hardly harms: red grows rightwards, green downwards."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return Image.fromarray((np.stack([x, y, 0.5 + 0 * x], -1) * 255).astype(np.uint8))


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
    exif[encoding.ORIENTATION] = orientation
    raw = saved(stored, "JPEG", quality=98, exif=exif)
    encoded = JpegEncoder().encode(raw)
    got = opened(encoded)
    assert got.size == (48, 32)
    np.testing.assert_allclose(pixels(got), pixels(gradient()), atol=8)
    assert got.getexif().get(encoding.ORIENTATION, 1) == 1
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


def grey_file(form, array, **options):
    return saved(Image.fromarray(array), form, **options)


@pytest.mark.parametrize(
    ("raw", "levels"),
    [
        (grey_file("PNG", np.full((16, 16), 200, np.uint16)), 200 / 257),  # dark, not 8 bits
        (grey_file("TIFF", np.full((16, 16), 40_000, np.uint16)), 40_000 / 257),
        (grey_file("TIFF", np.full((16, 16), 0.5, np.float32)), 127.5),
        (b"P5 16 16 4095\n" + np.full((16, 16), 2048, ">u2").tobytes(), 127.5),
        (grey_file("TIFF", np.full((16, 16), 60_000, np.uint16), tiffinfo={262: 0}), 21.5),
        (grey_file("PNG", np.full((16, 16), 9, np.uint16), transparency=9), 255),
        (grey_file("PNG", np.full((16, 16), 9, np.uint16), transparency=8), 0),
        (saved(Image.new("LA", (16, 16), (0, 51)), "PNG"), 204),
    ],
)
def test_greys_are_scaled_by_their_format_s_white(raw, levels):
    got = pixels(opened(JpegEncoder().encode(raw)))
    np.testing.assert_allclose(got, levels, atol=1.1)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (
            grey_file("TIFF", np.full((4, 4), 200, np.float32)),
            "from 200 to 200, .* 1 white",
        ),
        (grey_file("TIFF", np.full((4, 4), -0.5, np.float32)), "greys go from -0.5"),
        (grey_file("TIFF", np.full((4, 4), np.nan, np.float32)), "greys go from nan"),
        (grey_file("TIFF", np.full((4, 4), 7, np.int32)), "greys have 32 bits"),
        (saved(noise(0), "PNG")[:-300], "truncated"),
        (saved(noise(0), "PNG")[:500] + bytes(3000), "cannot be read as a photo"),
        (b"", "is not a photo that Pillow knows"),
        (b"a note", "is not a photo that Pillow knows"),
    ],
)
def test_photos_that_cannot_be_read_are_named(tmp_path, raw, complaint):
    (tmp_path / "photo").write_bytes(raw)
    photo = Photo("photo", str(tmp_path / "photo"), "train")
    with pytest.raises(ValueError, match=complaint) as stop:
        JpegEncoder()(photo)
    assert str(stop.value).startswith(f"{tmp_path / 'photo'} ")


def png(width, height, *chunks):
    """A grey PNG of one bit, all black, built by hand: as large as can be, in few bytes."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    row = b"\0" * (1 + (width + 7) // 8)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
            *(chunk(*each) for each in chunks),
            chunk(b"IDAT", zlib.compress(row * height)),
            chunk(b"IEND", b""),
        ]
    )


def test_photos_of_200_megapixels_are_shrunk_or_named(tmp_path):
    (tmp_path / "huge").write_bytes(png(20_000, 10_000))
    photo = Photo("huge", str(tmp_path / "huge"), "train")
    assert opened(JpegEncoder(max_side=200)(photo)).size == (200, 100)
    with pytest.raises(ValueError, match="huge .*20000 x 10000 pixels.*--max-side"):
        JpegEncoder()(photo)
    (tmp_path / "huge").write_bytes(png(40_000, 40_000))
    with pytest.raises(ValueError, match="huge .*more than 1,000 million"):
        JpegEncoder(max_side=200)(photo)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP", "GIF"])
def test_pillow_s_own_limit_is_neither_asked_nor_changed(monkeypatch, recwarn, form):
    raw = saved(noise(0), form)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert JpegEncoder(max_side=20).encode(raw)
    assert Image.MAX_IMAGE_PIXELS == 100 and not recwarn.list


def test_a_text_that_is_too_long_names_its_photo(tmp_path):
    text = b"note\0\0" + zlib.compress(b"x" * 2_000_000)
    (tmp_path / "a.png").write_bytes(png(8, 8, (b"zTXt", text)))
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a photo: .*MAX_TEXT_CHUNK"):
        JpegEncoder()(Photo("a", str(tmp_path / "a.png"), "train"))


def lossless_jpeg():
    """SOF3, predictor 1, 8 bits of one component: 2 x 2 pixels of the level 128."""
    table = b"\xff\xc4" + struct.pack(">HB", 20, 0) + bytes([1] + 15 * [0]) + b"\0"
    frame = b"\xff\xc3" + struct.pack(">HBHHBBBB", 11, 8, 16, 16, 1, 1, 0x11, 0)
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8" + table + frame + scan + bytes(32) + b"\xff\xd9"


def tensorflow_reads(raw):
    try:
        augment.decode(tf.constant(raw))
    except tf.errors.InvalidArgumentError:
        return False
    return True


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_common_jpegs_are_those_that_pass(options):
    raw = saved(noise(0), "JPEG", **options)
    assert encoding.is_common_jpeg(raw) and tensorflow_reads(raw)
    assert encoding.is_common_jpeg(raw[:2] + b"\xff\xff\xff" + raw[3:])  # filling before a marker
    for marker in range(0xC3, 0xD0):
        if marker not in (0xC4, 0xC8, 0xCC):
            place = max(raw.find(b"\xff\xc0\0\x11"), raw.find(b"\xff\xc2\0\x11"))
            other = raw[: place + 1] + bytes([marker]) + raw[place + 2 :]
            assert not encoding.is_common_jpeg(other)
    assert not encoding.is_common_jpeg(raw[:20]) and not encoding.is_common_jpeg(b"")


def test_what_tensorflow_cannot_decode_is_re_encoded():
    raw = lossless_jpeg()
    assert not tensorflow_reads(raw)
    encoded = JpegEncoder().encode(raw)
    assert tensorflow_reads(encoded) and encoded != raw
    np.testing.assert_array_equal(pixels(opened(encoded)), 128)
