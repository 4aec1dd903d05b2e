"""Photos that occur twice: the same bytes, or pixels that look the same; leaks across splits."""

from typing import NamedTuple

import numpy as np
from PIL import Image


class Fingerprint(NamedTuple):
    """By what a photo is compared with others.

    Attributes:
      split: name of its split.
      id: unique in the data set.
      content: hash of its bytes, hex.
      difference: its `difference_hash`.
    """

    split: str
    id: str
    content: str
    difference: int


class Duplicate(NamedTuple):
    """Two photos that are the same bytes (`exact`) or look the same; ids as `split/id`."""

    first: str
    second: str
    exact: bool
    across_splits: bool


def find_duplicates(fingerprints, max_bits=2):
    """Pairs of photos with equal content or dHashes that differ in at most `max_bits` < 4 bits.

    Equal quarters are compared only (two hashes that differ in under 4 bits share one of their
    four 16-bit quarters), so the cost stays far from quadratic. Flat photos, whose dHash has
    fewer than 8 bits set or unset, look alike without being alike and count only when equal.

    Args:
      fingerprints: list of `Fingerprint`.
      max_bits: largest Hamming distance.

    Returns:
      list of `Duplicate`, leaks across splits first.
    """
    duplicates = {}

    def add(a, b, exact):
        pair = tuple(sorted((f"{a.split}/{a.id}", f"{b.split}/{b.id}")))
        duplicates.setdefault(pair, Duplicate(*pair, exact, a.split != b.split))

    by_content = {}
    for fingerprint in fingerprints:
        first = by_content.setdefault(fingerprint.content, fingerprint)
        if first is not fingerprint:
            add(first, fingerprint, exact=True)
    buckets = {}
    for fingerprint in by_content.values():
        if 8 <= fingerprint.difference.bit_count() <= 56:
            for quarter in range(4):
                bits = fingerprint.difference >> (16 * quarter) & 0xFFFF
                buckets.setdefault((quarter, bits), []).append(fingerprint)
    for members in buckets.values():
        for index, a in enumerate(members):
            for b in members[index + 1 :]:
                if (a.difference ^ b.difference).bit_count() <= max_bits:
                    add(a, b, exact=False)
    return sorted(duplicates.values(), key=lambda d: (not d.across_splits, not d.exact, d))


def difference_hash(image):
    """64-bit dHash: whether brightness rises from each cell of a 9x8 thumbnail to the next.

    Re-encoding or resizing a photo changes few bits; other photos differ in about half of them.
    """
    cells = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = np.packbits((cells[:, 1:] > cells[:, :-1]).ravel())
    return int.from_bytes(bits.tobytes(), "big")
