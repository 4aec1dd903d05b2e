"""Shelf photos drawn from scratch: something to train on before the first real photo arrives.

    kdtf synthetic --out shards/
    kdtf synthetic --out shards/ --classes 40 --photos 3000 --size 128

Look-alike products of invented brands stand on the shelves of twelve store regions, under six
kinds of light, before six cameras that blur, tint and grain them. Few categories hold most photos.
`store_region`, `camera_type` and `lighting_bucket` are known for most photos; regions stock
different products, so metadata tell a little about the category. The seed decides every byte.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Ge, Interval

from kdtf import cli, files, limits
from kdtf.arguments import Argument
from tfrecords_tools import show
from tfrecords_tools.drawing import cameras, products, shelves
from tfrecords_tools.encoding import to_jpeg
from tfrecords_tools.shards import Photo, write_dataset
from tfrecords_tools.splits import parse_fractions

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}
FEWEST_TRAIN = 3  # photos of the rarest category in the first split; 1 in each other
HEAD_CLASSES, HEAD_PHOTOS = 0.08, 0.58  # 20 of 250 categories hold 58 % of the photos


class Shot(NamedTuple):
    """What a photo shows: position of its product in the assortment, and circumstances."""

    number: int
    product: int
    region: str
    camera: str
    lighting: str


@dataclass(frozen=True)
class ShelfPhotographer:
    """`Photo` whose source is a `Shot` -> JPEG bytes.

    Attributes:
      classes: number of categories in the assortment.
      size: side of a photo, pixels.
      seed: of assortment and photos.
    """

    classes: int
    size: int
    seed: int

    def __call__(self, photo):
        shot = photo.source
        rng = np.random.default_rng([self.seed, 2, shot.number])
        region = shelves.REGIONS[shot.region]
        scene = shelves.draw(
            products.assortment(self.classes, self.seed)[shot.product],
            products.neighbours(self.classes, self.seed, shot.product),
            region,
            self.size,
            rng,
        )
        lighting, camera = cameras.LIGHTINGS[shot.lighting], cameras.CAMERAS[shot.camera]
        image, quality = cameras.photograph(scene, region.tint, lighting, camera, rng)
        return to_jpeg(image, quality)


def synthesize(
    out,
    *,
    classes=250,
    photos=20_000,
    size=160,
    seed=0,
    split_fractions=None,
    missing=0.08,
    examples_per_shard=512,
    workers=None,
):
    """Draws a data set; the same arguments give the same bytes.

    Args:
      out: directory for the shards.
      classes: number of categories, at least 2.
      photos: number of photos in all splits together.
      size: side of a photo, pixels, at least 32.
      seed: int >= 0.
      split_fractions: {split: fraction}; train 0.8, val 0.1, test 0.1 if None.
      missing: fraction of each metadata column's values that is left out.
      examples_per_shard: photos per shard.
      workers: processes; None = one per core.

    Returns:
      `kdtf.data.DatasetInfo`.

    Raises:
      ValueError: an argument is out of range, or photos are too few for the long tail.
      FileExistsError: `out` holds a finished data set.
    """
    fractions = FRACTIONS if split_fractions is None else split_fractions
    if classes < 2 or size < 32 or seed < 0 or not 0 <= missing < 1:
        raise ValueError(
            "wanted classes >= 2, size >= 32, seed >= 0 and 0 <= missing < 1, got "
            f"classes={classes!r}, size={size!r}, seed={seed!r}, missing={missing!r}"
        )
    if abs(sum(fractions.values()) - 1) > 1e-6 or min(fractions.values()) <= 0:
        raise ValueError(f"split fractions must be above 0 and sum to 1, got {fractions}")
    names = [product.name for product in products.assortment(classes, seed)]
    info, _ = write_dataset(
        out,
        plan(classes, photos, seed, fractions, missing),
        ShelfPhotographer(classes, size, seed),
        classes=names,
        examples_per_shard=examples_per_shard,
        workers=workers,
        seed=seed,
    )
    return info


def plan(classes, photos, seed, fractions, missing):
    """list of `Photo`: what is to be drawn, for which split, with which metadata."""
    rng = np.random.default_rng([seed, 3])
    stock = products.assortment(classes, seed)
    fewest = FEWEST_TRAIN + len(fractions) - 1
    counts = rng.permutation(long_tail(classes, photos, fewest))
    families = sorted({product.family for product in stock})
    of_family = np.array([families.index(product.family) for product in stock])
    regions = list(shelves.REGIONS)
    devices, lamps = list(cameras.CAMERAS), list(cameras.LIGHTINGS)
    popularity = rng.normal(0, 0.4, len(regions))
    listing = 0.8 * rng.normal(size=(len(families), len(regions)))[of_family]
    listing = _softmax(popularity + listing + 0.8 * rng.normal(size=(classes, len(regions))))
    device_odds = _softmax(rng.normal(0, 1.0, (len(regions), len(devices))))
    lamp_odds = _softmax(rng.normal(0, 0.8, (len(regions), len(lamps))))
    numbers = iter(rng.permutation(photos))
    planned = []
    for index, product in enumerate(stock):
        for split, shots in divide(int(counts[index]), fractions).items():
            for region in rng.choice(len(regions), shots, p=listing[index]):
                camera = devices[rng.choice(len(devices), p=device_odds[region])]
                lighting = lamps[rng.choice(len(lamps), p=lamp_odds[region])]
                shot = Shot(int(next(numbers)), index, regions[region], camera, lighting)
                known = {
                    "store_region": shot.region,
                    "camera_type": shot.camera,
                    "lighting_bucket": shot.lighting,
                }
                kept = rng.random(len(known)) >= missing
                metadata = {k: v for (k, v), keep in zip(known.items(), kept, strict=True) if keep}
                planned.append(
                    Photo(f"shelf-{shot.number:07d}", shot, split, product.name, metadata)
                )
    return planned


def long_tail(classes, photos, fewest):
    """Photos per class by a shifted power law, most frequent class first.

    The exponent is such that 8 % of the classes (at least one) hold 58 % of the photos.

    Args:
      classes: number of classes, at least 2.
      photos: their sum.
      fewest: photos of the rarest class.

    Returns:
      int64 [classes], falling, summing to `photos`.

    Raises:
      ValueError: photos are too few for that head and `fewest` of each other class.
    """
    head = max(1, round(HEAD_CLASSES * classes))
    needed = int(np.ceil(fewest * (classes - head) / (1 - HEAD_PHOTOS))) + 1
    if photos < needed:
        raise ValueError(
            f"{photos} photos are too few for {classes} classes: {fewest} of each, with "
            f"{HEAD_PHOTOS:.0%} of all in {head}, take at least {needed}"
        )
    rank = np.arange(1, classes + 1)

    def counts(exponent):
        weights = rank ** -float(exponent)
        return fewest + (photos - fewest * classes) * weights / weights.sum()

    low, high = 0.0, 64.0
    for _ in range(60):
        middle = (low + high) / 2
        enough = counts(middle)[:head].sum() >= HEAD_PHOTOS * photos
        low, high = (low, middle) if enough else (middle, high)
    # Rounding the running total keeps the sum exact and no class below `fewest`.
    total = np.rint(np.cumsum(counts(high))).astype(np.int64)
    return np.sort(np.diff(total, prepend=0))[::-1]


def divide(count, fractions):
    """{split: photos} of a class: near `fractions`, but 3 or more in the first, 1 in others."""
    names = list(fractions)
    given = {name: FEWEST_TRAIN if name == names[0] else 1 for name in names}
    for _ in range(count - sum(given.values())):
        given[max(names, key=lambda name: fractions[name] * count - given[name])] += 1
    return given


def _softmax(logits):
    weights = np.exp(logits)
    return weights / weights.sum(-1, keepdims=True)


@dataclass(frozen=True)
class SyntheticArguments:
    """The command line."""

    out: Annotated[str, Argument("DIR", files.check_folder)]
    """directory for shards and dataset.json"""
    classes: Annotated[int, Ge(2)] = 250
    """product categories"""
    photos: Annotated[int, Ge(1)] = 20_000
    """photos in all splits"""
    size: Annotated[int, Ge(32)] = 160
    """side of a photo in pixels"""
    split: Annotated[str, Argument("FRACTIONS", parse_fractions)] = "train=0.8,val=0.1,test=0.1"
    """fractions of the photos"""
    missing: Annotated[float, Interval(ge=0, lt=1)] = 0.08
    """fraction of metadata left out"""
    examples_per_shard: Annotated[int, Ge(1)] = 512
    """photos per shard"""
    workers: Annotated[int | None, Ge(1)] = None
    """processes (default: one per core)"""
    seed: Annotated[int, Ge(0)] = 0
    """decides every byte"""

    def __post_init__(self):
        limits.check(self)

    def conflicts(self):
        """(field, rule) of what one value forbids another."""
        fractions = parse_fractions(self.split)
        if min(fractions.values()) == 0:
            yield "split", "every fraction must be above 0"
        try:
            long_tail(self.classes, self.photos, FEWEST_TRAIN + len(fractions) - 1)
        except ValueError as error:
            yield "photos", str(error)


def main(argv=None):
    """Draws a data set and sums it up."""
    (arguments,) = cli.parse(argv, "kdtf synthetic", __doc__, SyntheticArguments)
    with cli.report_errors():
        info = synthesize(
            arguments.out,
            classes=arguments.classes,
            photos=arguments.photos,
            size=arguments.size,
            seed=arguments.seed,
            split_fractions=parse_fractions(arguments.split),
            missing=arguments.missing,
            examples_per_shard=arguments.examples_per_shard,
            workers=arguments.workers,
        )
    print(show.table(info))


if __name__ == "__main__":
    main()
