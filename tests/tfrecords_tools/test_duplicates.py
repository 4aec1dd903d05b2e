"""Photos that occur twice: hashes by hand, the naive search, leaks first."""

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_folders import saved
from PIL import Image

from tfrecords_tools.duplicates import Fingerprint, difference_hash, find_duplicates


def opened(raw):
    image = Image.open(io.BytesIO(raw))
    image.load()
    return image


def test_difference_hash_by_hand():
    rising = np.tile(np.arange(9, dtype=np.uint8) * 20, (8, 1))
    assert difference_hash(Image.fromarray(rising)) == 2**64 - 1
    assert difference_hash(Image.fromarray(rising[:, ::-1])) == 0
    one = np.zeros((8, 9), np.uint8)
    one[0, 1] = 255  # the first cell of the first row is darker than the second: the highest bit
    assert difference_hash(Image.fromarray(one)) == 1 << 63


def test_difference_hash_survives_re_encoding(data_dir):
    path = sorted((data_dir / "grocery" / "train").rglob("*.jpg"))[100]
    with Image.open(path) as photo:
        small = photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.BOX)
        again = opened(saved(small, "JPEG", quality=70))
        assert (difference_hash(photo) ^ difference_hash(again)).bit_count() <= 2


def naive_duplicates(fingerprints, max_bits):
    pairs = set()
    for i, a in enumerate(fingerprints):
        for b in fingerprints[i + 1 :]:
            lively = all(8 <= each.difference.bit_count() <= 56 for each in (a, b))
            near = (a.difference ^ b.difference).bit_count() <= max_bits
            if a.content != b.content and lively and near:
                pairs.add(frozenset((a.id, b.id)))
    return pairs


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_near_duplicates_match_the_naive_search(seed, max_bits):
    rng = np.random.default_rng(seed)
    base = [int(rng.integers(0, 2**63)) * 2 + 1 for _ in range(4)] + [0, 2**64 - 1]
    prints = []
    for index in range(24):
        value = base[rng.integers(len(base))]
        for bit in rng.integers(0, 64, rng.integers(0, 4)):
            value ^= 1 << int(bit)
        prints.append(Fingerprint("train", f"{index:02d}", f"content{index}", value))
    duplicates = find_duplicates(prints, max_bits)
    pairs = {frozenset((d.first[6:], d.second[6:])) for d in duplicates}
    assert pairs == naive_duplicates(prints, max_bits)
    assert len(duplicates) == len(pairs)


def test_exact_duplicates_and_leaks_come_first():
    lively = 0x0F0F0F0F0F0F0F0F
    prints = [
        Fingerprint("train", "a", "same", lively),
        Fingerprint("train", "b", "other", lively ^ 1),
        Fingerprint("test", "c", "same", lively),
        Fingerprint("val", "d", "flat", 0),
        Fingerprint("val", "e", "flat too", 0),
        Fingerprint("val", "f", "flat", 0),
    ]
    assert [tuple(duplicate) for duplicate in find_duplicates(prints)] == [
        ("test/c", "train/a", True, True),
        ("val/d", "val/f", True, False),
        ("train/a", "train/b", False, False),
    ]
