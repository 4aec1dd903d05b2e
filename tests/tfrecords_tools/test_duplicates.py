"""Photos that occur twice: copies of every kind are found, others are not; leaks come first."""

import time

import numpy as np
import pytest
from photo_folders import opened, saved
from PIL import Image, ImageDraw

from kdtf import data
from tfrecords_tools import duplicates
from tfrecords_tools.duplicates import Fingerprint, find_duplicates, thumbnail


def fingerprint(image, name, split="train"):
    return Fingerprint(split, name, f"{split}/{name}", thumbnail(np.asarray(image)))


def scene(seed, size=(320, 240), background=None):
    """A photo-like picture: a gradient or a plain background with some shapes."""
    rng = np.random.default_rng(seed)
    if background is None:
        corners = rng.integers(0, 256, (2, 3, 3), np.uint8)
        image = Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC)
    else:
        image = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(image)
    for _ in range(6 if background is None else 2):
        left, top = rng.integers(20, 200), rng.integers(20, 140)
        box = (left, top, left + rng.integers(30, 110), top + rng.integers(30, 90))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape([int(edge) for edge in box], fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def cropped(image, left, top, right, bottom):
    width, height = image.size
    return image.crop((left * width, top * height, (1 - right) * width, (1 - bottom) * height))


COPIES = {
    "re-encoded": lambda image: opened(saved(image, "JPEG", quality=50)),
    "half as large": lambda image: image.resize((160, 120), Image.Resampling.LANCZOS),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "4 % cropped, in the middle": lambda image: cropped(image, 0.02, 0.02, 0.02, 0.02),
    "4 % cropped, in a corner": lambda image: cropped(image, 0.04, 0, 0, 0.04),
    "4 % cropped, one side": lambda image: cropped(image, 0, 0, 0.04, 0),
    "cropped and mirrored": lambda image: cropped(image, 0.03, 0, 0, 0.03).transpose(0),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_nothing_else(kind):
    scenes = [scene(seed) for seed in range(60)]
    prints = [fingerprint(image, f"{n:02d}") for n, image in enumerate(scenes)]
    copies = [
        fingerprint(opened(saved(COPIES[kind](image), "JPEG", quality=80)), f"{n:02d}", "test")
        for n, image in enumerate(scenes[:30])
    ]
    pairs = find_duplicates(prints + copies)
    assert [(each.first, each.second, each.exact) for each in pairs] == [
        (f"test/{n:02d}", f"train/{n:02d}", False) for n in range(30)
    ]


def test_copies_of_real_photos(data_dir):
    paths = sorted((data_dir / "grocery" / "train").rglob("*.jpg"))[::40]
    photos = [Image.open(path).convert("RGB") for path in paths]
    prints = [fingerprint(image, path.stem) for path, image in zip(paths, photos, strict=True)]
    assert find_duplicates(prints) == []
    for make in COPIES.values():
        copies = [
            fingerprint(opened(saved(make(image), "JPEG", quality=75)), path.stem, "test")
            for path, image in zip(paths, photos, strict=True)
        ]
        pairs = find_duplicates(prints + copies)
        assert all(each.ids[0] == each.ids[1] for each in pairs)
        assert len(pairs) >= 0.98 * len(paths)


def test_a_colour_alone_makes_another_photo():
    red, green = (Image.new("RGB", (96, 96), (240, 240, 240)) for _ in range(2))
    # The same brightness: 0.299 * 200 = 0.587 * 102.
    ImageDraw.Draw(red).ellipse((20, 20, 70, 76), fill=(200, 0, 0))
    ImageDraw.Draw(green).ellipse((20, 20, 70, 76), fill=(0, 102, 0))
    assert find_duplicates([fingerprint(red, "a"), fingerprint(green, "b")]) == []


def test_exact_duplicates_and_leaks_come_first():
    lively, flat = scene(0), Image.new("RGB", (32, 32), (9, 9, 9))
    prints = [
        fingerprint(lively, "a"),
        fingerprint(COPIES["re-encoded"](lively), "b"),
        fingerprint(lively, "c", "test")._replace(content="train/a"),
        fingerprint(flat, "d", "val"),
        fingerprint(flat, "e", "val"),
        fingerprint(flat, "f", "val")._replace(content="val/d"),
    ]
    found = find_duplicates(prints)
    assert [(each.first, each.second, each.exact, each.across_splits) for each in found] == [
        ("test/c", "train/a", True, True),
        ("test/c", "train/b", False, True),
        ("val/d", "val/f", True, False),
        ("train/a", "train/b", False, False),
    ]
    assert str(found[0]) == "test/c and train/a are the same bytes"


def test_every_split_of_equal_photos_is_told():
    flat = Image.new("RGB", (32, 32))
    prints = [
        fingerprint(flat, name, split)._replace(content="same")
        for name, split in (("a", "val"), ("b", "train"), ("c", "test"), ("d", "test"))
    ]
    found = {(each.first, each.second) for each in find_duplicates(prints)}
    assert {("test/c", "train/b"), ("test/d", "train/b")} <= found


@pytest.mark.parametrize("photos", [[], [scene(0)]])
def test_few_photos(photos):
    assert find_duplicates([fingerprint(image, "a") for image in photos]) == []


def test_plain_backgrounds_are_not_compared_all_with_all(monkeypatch):
    prints = [fingerprint(scene(n, background="white"), f"{n}") for n in range(1200)]
    compared = []
    differences = duplicates._differences

    def count(stored, pairs, is_mirrored, cells):
        compared.append(len(pairs))
        return differences(stored, pairs, is_mirrored, cells)

    monkeypatch.setattr(duplicates, "_differences", count)
    started = time.process_time()
    assert find_duplicates(prints) == []
    assert sum(compared) < 5 * len(prints)  # of 720,000 pairs
    assert time.process_time() - started < 30
    # However alike: all photos are one scene under other noise.
    rng = np.random.default_rng(0)
    scene_pixels = np.asarray(scene(1), np.int16)
    noise = rng.integers(-40, 41, (150, *scene_pixels.shape))
    noisy = (scene_pixels + noise).clip(0, 255).astype(np.uint8)
    alike = [fingerprint(pixels, f"{n}") for n, pixels in enumerate(noisy)]
    del compared[:]
    assert find_duplicates(alike)
    assert sum(compared) <= 2 * 2 * 16 * len(alike)


def test_leaks_are_kept_with_the_data_set(tmp_path):
    leak = data.Duplicate(("test", "train"), ("c/1", "a"), True)
    splits = {name: data.Split((), (), {}) for name in ("train", "test")}
    for leaks in (None, (), (leak,)):
        info = data.DatasetInfo(tmp_path, (), {}, splits, leaks)
        info.save()
        assert data.DatasetInfo.load(tmp_path) == info
        assert ("leaks" in info.to_json()) == (leaks is not None)
    with pytest.raises(ValueError, match="1 pairs .* test/c/1 and train/a are .*--allow"):
        info.check_leaks()
    info.check_leaks(allow=True)
    val = data.Duplicate(("train", "val"), ("a", "b"), True)
    data.DatasetInfo(tmp_path, (), {}, splits, (val,)).check_leaks()
