"""Photos that occur twice: the same bytes, or pixels that look the same; leaks across splits.

How near two photos look is measured on grey thumbnails, in parts of the photos' own contrast: the
root mean square of their difference once one of them is cropped, and mirrored, as fits best.
`docs/duplicates.md` has the measurements by which the limit was chosen.
"""

import functools
from typing import NamedTuple

import numpy as np
from PIL import Image

from kdtf.data import Duplicate

LIMIT = 0.08  # of the difference, in parts of the contrast, of photos that look the same
SIDE = 32  # cells of a thumbnail's grey
COLOUR_SIDE = 4  # cells of its colours
_COLOUR_LIMIT = 8.0  # levels between the colours of photos that look the same
_FLAT = 4.0  # levels of contrast, below which photos look alike without being alike
_COARSE_LIMIT = 0.22  # of the difference of 4 x 4 cells, without cropping
_NEIGHBOURS = 16  # of each split that a photo is compared with at most
_CROPS, _OFFSETS = (0.01, 0.02, 0.03, 0.04, 0.05), 5  # of a side, and where it is cut
_CHUNK = 64  # pairs compared at once
# Cells a side, and the limit's multiple there. In 4 cells photos never differ more than in 8: those
# are but the quicker. 16 tell apart what is alike in its outlines only.
_STAGES = (4, 1.0), (8, 1.0), (16, 2.3)


class Fingerprint(NamedTuple):
    """By what a photo is compared with others.

    Attributes:
      split: name of its split.
      id: unique in the data set.
      content: hash of its bytes, hex.
      thumbnail: its `thumbnail`.
    """

    split: str
    id: str
    content: str
    thumbnail: bytes


def thumbnail(pixels):
    """bytes: a photo's brightness in 32 x 32 cells, then two colours in 4 x 4 cells (YCbCr).

    Args:
      pixels: uint8 [height, width, 3], RGB.
    """
    image = Image.fromarray(pixels)
    grey, *colours = image.resize((SIDE, SIDE), Image.Resampling.BOX).convert("YCbCr").split()
    small = (COLOUR_SIDE, COLOUR_SIDE)
    parts = [grey, *(each.resize(small, Image.Resampling.BOX) for each in colours)]
    return b"".join(part.tobytes() for part in parts)


def find_duplicates(fingerprints, limit=LIMIT):
    """Pairs of photos with equal content, or that look the same but for a crop of 5 % or mirroring.

    Each photo is compared with the nearest few of each split only, so the cost is not quadratic
    whatever the photos show. Of equal photos the first of each split stands for the others.
    Flat photos, of next to no contrast, look alike without being alike and count only when equal.

    Args:
      fingerprints: list of `Fingerprint`.
      limit: largest difference, in parts of the contrast, of photos that look the same.

    Returns:
      list of `kdtf.data.Duplicate`, leaks across splits first.
    """
    duplicates = {}

    def add(a, b, exact):
        (split, name), (other_split, other) = sorted(((a.split, a.id), (b.split, b.id)))
        pair = Duplicate((split, other_split), (name, other), exact)
        duplicates.setdefault(pair[:2], pair)

    by_content = {}
    for fingerprint in fingerprints:
        first_of_splits = by_content.setdefault(fingerprint.content, {})
        for first in first_of_splits.values():
            add(first, fingerprint, exact=True)
        first_of_splits.setdefault(fingerprint.split, fingerprint)
    singles = [each for firsts in by_content.values() for each in firsts.values()]
    for first, second in _alike(singles, limit):
        add(singles[first], singles[second], exact=False)
    return sorted(duplicates.values(), key=lambda d: (not d.across_splits, not d.exact, d))


def _alike(fingerprints, limit):
    """Yields pairs of positions of photos that look the same."""
    stored = np.array([np.frombuffer(each.thumbnail, np.uint8) for each in fingerprints])
    contrasts = np.array([row[: SIDE * SIDE].std() for row in stored])
    lively = np.flatnonzero(contrasts >= _FLAT)
    if len(lively) < 2:
        return
    stored, contrasts = stored[lively], contrasts[lively]
    splits = np.array([fingerprints[place].split for place in lively])
    for is_mirrored in (False, True):
        pairs = _candidates(stored, contrasts, splits, is_mirrored)
        for start in range(0, len(pairs), _CHUNK):
            part = pairs[start : start + _CHUNK]
            for cells, share in _STAGES:
                near = _differences(stored, part, is_mirrored, cells)
                part = part[near <= share * limit * contrasts[part].min(1)]
            yield from lively[part].tolist()


def _candidates(stored, contrasts, splits, is_mirrored):
    """int [pairs, 2]: positions of photos that are near in coarse greys and colours."""
    from scipy.spatial import cKDTree

    coarse = _cells(_greys(stored), 4).reshape(len(stored), -1) / 4  # a distance is an RMS
    asked = _cells(_greys(stored, is_mirrored), 4).reshape(len(stored), -1) / 4
    pairs = [np.zeros((0, 2), np.int64)]
    for split in np.unique(splits):
        members = np.flatnonzero(splits == split)
        count = min(_NEIGHBOURS, len(members))
        distances, places = cKDTree(coarse[members]).query(
            asked, np.arange(1, count + 1), distance_upper_bound=_COARSE_LIMIT * contrasts.max()
        )
        rows, columns = np.nonzero(np.isfinite(distances))
        found = np.stack([rows, members[places[rows, columns]]], 1)
        found = found[found[:, 0] != found[:, 1]]
        pairs.append(found)
    pairs = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    first, second = pairs.T
    distances = np.linalg.norm(asked[first] - coarse[second], axis=1)
    is_near = distances <= _COARSE_LIMIT * contrasts[pairs].min(1)
    colours = (_colours(stored, is_mirrored)[first] - _colours(stored)[second]) ** 2
    return pairs[is_near & (np.sqrt(colours.mean((1, 2, 3))) <= _COLOUR_LIMIT)]


def _differences(stored, pairs, is_mirrored, cells):
    """float [pairs]: RMS of the greys, one photo of each pair cropped as fits best, in levels.

    The greys are compared in cells x cells means: the fewer, the less they differ.
    """
    windows = _crop_windows(cells)
    first, second = (_greys(stored[pairs[:, 0]], is_mirrored), _greys(stored[pairs[:, 1]]))
    best = np.full(len(pairs), np.inf, np.float32)
    for cropped, whole in ((first, second), (second, first)):
        whole = _cells(whole, cells)[:, np.newaxis]
        rows = windows[np.newaxis] @ cropped[:, np.newaxis]  # [pairs, crops, cells, 32]
        rows = rows.reshape(-1, SIDE)
        for window in windows:
            views = (rows @ window.T).reshape(-1, len(windows), cells, cells)
            views -= whole
            best = np.minimum(best, np.einsum("nvij,nvij->nv", views, views).min(1))
    return np.sqrt(best) / cells


def _greys(stored, is_mirrored=False):
    """float32 [photos, 32, 32]."""
    greys = stored[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE).astype(np.float32)
    return greys[:, :, ::-1] if is_mirrored else greys


def _colours(stored, is_mirrored=False):
    """float32 [photos, 2, 4, 4]."""
    colours = stored[:, SIDE * SIDE :].reshape(-1, 2, COLOUR_SIDE, COLOUR_SIDE).astype(np.float32)
    return colours[..., ::-1] if is_mirrored else colours


def _cells(greys, side):
    """float32 [photos, side, side]: means over cells of equal size."""
    return greys.reshape(-1, side, SIDE // side, side, SIDE // side).mean((2, 4))


@functools.cache
def _crop_windows(cells):
    """float32 [crops, cells, 32]: matrices that cut a row and average what is left to cells."""
    crops = [(0.0, 0.0)] + [
        (crop, part) for crop in _CROPS for part in np.linspace(0, crop, _OFFSETS)
    ]
    ends = [np.linspace(part, 1 - crop + part, cells + 1) for crop, part in crops]
    edges = np.array(ends) * SIDE
    place = np.arange(SIDE)
    overlap = np.minimum(edges[:, 1:, None], place + 1) - np.maximum(edges[:, :-1, None], place)
    matrices = overlap.clip(0)
    return (matrices / matrices.sum(-1, keepdims=True)).astype(np.float32)
