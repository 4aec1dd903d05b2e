"""Views: the same seed gives the same view, within bounds, of the right part of the photo."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdtf.data import augment

STILL = augment.Augmentation(
    area=(1.0, 1.0), aspect=(1.0, 1.0), flip=False, brightness=0, contrast=0, saturation=0
)


def jpeg(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG", quality=100, subsampling=0)
    return stream.getvalue()


def gradient(height=64, width=96):
    """Red grows to the right, green downwards, so that a crop tells where it was taken."""
    pixels = np.zeros((height, width, 3))
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return pixels


SEEDS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))


@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(seeds=st.lists(SEEDS, min_size=3, max_size=5))
def test_a_view_is_a_function_of_photo_and_seed(seeds):
    """Eagerly, in tf.data, and whatever else is in the batch: the same numbers."""
    photos = [jpeg(gradient(64 + 40 * (n % 3), 96)) for n in range(len(seeds))]
    seeds = tf.constant(seeds, tf.int64)
    eager = [augment.training_view(*photo, 32) for photo in zip(photos, seeds, strict=True)]
    inside = tf.data.Dataset.from_tensor_slices((photos, seeds)).map(
        lambda photo, seed: augment.training_view(photo, seed, 32)
    )
    batches = tf.data.Dataset.from_tensor_slices((photos[::-1], seeds[::-1])).batch(len(photos))
    batched = next(iter(batches.map(lambda p, s: augment.training_views(p, s, 32))))
    np.testing.assert_array_equal(eager, list(inside))
    np.testing.assert_array_equal(eager, batched[::-1])
    assert batched.shape[1:] == (32, 32, 3) and batched.dtype == tf.float32
    assert 0 <= batched.numpy().min() and batched.numpy().max() <= 255


@pytest.mark.parametrize(("side", "mixed"), [(63, False), (64, True), (250, True), (256, True)])
def test_large_crops_are_averaged_while_decoded(side, mixed):
    """A chessboard of single pixels is grey where neighbours are averaged, else black and white."""
    board = np.indices((side, side)).sum(0)[..., None] % 2 * np.full(3, 255)
    view = augment.training_view(jpeg(board), (1, 2), 32, STILL).numpy()
    assert (np.abs(view[:-1, :-1] - 127.5).max() < 3) == mixed


def test_scaled_crops_lie_where_unscaled_ones_do():
    """The same seed, once through the scaled transform and once not."""
    photo = jpeg(gradient(400, 400))
    still = augment.Augmentation(brightness=0, contrast=0, saturation=0)
    for number in range(20):
        large = augment.training_view(photo, (2, number), 200, still)
        small = augment.training_view(photo, (2, number), 20, still)
        means = tf.image.resize(large, (20, 20), method="area")
        np.testing.assert_allclose(small, means, atol=4)


def test_evaluation_views_are_views():
    photos = [jpeg(gradient(64, 96)), jpeg(gradient(50, 40))]
    want = [augment.evaluation_view(photo, 24, 0.8) for photo in photos]
    np.testing.assert_array_equal(augment.evaluation_views(tf.constant(photos), 24, 0.8), want)


def test_other_seeds_give_other_views():
    photo = jpeg(gradient())
    views = [augment.training_view(photo, (0, n), 16).numpy().tobytes() for n in range(50)]
    assert len(set(views)) == 50


def test_the_global_seed_changes_nothing():
    photo = jpeg(gradient())
    tf.random.set_seed(1)
    first = augment.training_view(photo, (3, 4), 16)
    tf.random.set_seed(2)
    np.testing.assert_array_equal(first, augment.training_view(photo, (3, 4), 16))


def test_half_of_the_views_are_mirrored():
    mirrored = augment.Augmentation(
        area=(1, 1), aspect=(1.5, 1.5), brightness=0, contrast=0, saturation=0
    )
    views = [
        augment.training_view(jpeg(gradient()), (7, n), 16, mirrored).numpy() for n in range(400)
    ]
    share = np.mean([view[:, 0, 0].mean() > view[:, -1, 0].mean() for view in views])
    assert 0.42 < share < 0.58


@settings(max_examples=25, deadline=None)
@given(number=st.integers(0, 2**31 - 1))
def test_crops_keep_to_area_and_aspect(number):
    wanted = augment.Augmentation(
        area=(0.3, 0.6), aspect=(0.8, 1.25), flip=False, brightness=0, contrast=0, saturation=0
    )
    photo = jpeg(gradient(256, 256))
    view = augment.training_view(photo, (1, number), 64, wanted).numpy()
    width = (view[:, -1, 0].mean() - view[:, 0, 0].mean()) / 255
    height = (view[-1, :, 1].mean() - view[0, :, 1].mean()) / 255
    assert 0.27 < width * height < 0.63
    assert 0.75 < width / height < 1.34


def test_colour_factors_match_numpy():
    rng = np.random.default_rng(0)
    image = rng.uniform(40, 120, (8, 9, 3)).astype(np.float32)
    settings_ = augment.Augmentation(brightness=0.3, contrast=0.2, saturation=0.4)
    seed = tf.constant([5, 6])
    drawn = tf.random.stateless_uniform([3], seed, -1.0, 1.0).numpy()
    b, c, s = 1 + np.array([0.3, 0.2, 0.4]) * drawn
    bright = b * image
    grey = (bright * [0.299, 0.587, 0.114]).sum(-1, keepdims=True)
    want = c * (s * bright + (1 - s) * grey) + (1 - c) * grey.mean()
    got = augment.jitter_colour(image, seed, settings_)
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_without_jitter_colours_stay():
    view = augment.training_view(jpeg(np.full((40, 40, 3), 77)), (1, 2), 40, STILL)
    np.testing.assert_allclose(view, 77, atol=1.01)


def test_evaluation_view_is_the_middle_square():
    view = augment.evaluation_view(jpeg(gradient(64, 96)), 64, crop_fraction=1.0).numpy()
    # columns 16..79 of 96: red from 16/95 to 79/95
    np.testing.assert_allclose(view[:, 0, 0].mean(), 255 * 16 / 95, atol=2)
    np.testing.assert_allclose(view[:, -1, 0].mean(), 255 * 79 / 95, atol=2)
    np.testing.assert_allclose(view[0, :, 1].mean(), 0, atol=2)


def test_decoding_equals_what_other_decoders_give():
    pixels = np.random.default_rng(0).uniform(0, 255, (24, 24, 3))
    photo = jpeg(pixels)
    want = np.asarray(Image.open(io.BytesIO(photo)), np.float32)
    np.testing.assert_allclose(augment.evaluation_view(photo, 24, 1.0), want, atol=1)


def test_evaluation_crop_fraction():
    view = augment.evaluation_view(jpeg(gradient(80, 80)), 40, crop_fraction=0.5).numpy()
    np.testing.assert_allclose(view[:, 0, 0].mean(), 255 * 20.5 / 79, atol=3)
    np.testing.assert_allclose(view[:, -1, 0].mean(), 255 * 58.5 / 79, atol=3)


@pytest.mark.parametrize("view", ["training", "evaluation"])
def test_grey_photos_become_three_equal_channels(view):
    photo = jpeg(np.linspace(0, 255, 32 * 32).reshape(32, 32))
    if view == "training":
        got = augment.training_view(photo, (1, 1), 16, STILL)
    else:
        got = augment.evaluation_view(photo, 16)
    np.testing.assert_array_equal(got[..., 0], got[..., 2])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"area": (0.0, 1.0)}, r"area .*\(0.0, 1.0\)"),
        ({"area": (0.8, 0.2)}, "area"),
        ({"aspect": (2.0, 1.0)}, "aspect"),
        ({"brightness": 1.0}, "brightness .* 1.0"),
        ({"saturation": -0.1}, "saturation"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        augment.Augmentation(**wrong)


def test_crop_fraction_out_of_range_is_refused():
    with pytest.raises(ValueError, match="crop_fraction .* 1.5"):
        augment.evaluation_view(jpeg(gradient()), 16, crop_fraction=1.5)
