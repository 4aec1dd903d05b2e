"""Which split a photo goes to, where its source does not say."""

import hashlib
import math
from collections import Counter, defaultdict
from dataclasses import replace

from kdtf.data import names


def parse_fractions(text):
    """{"train": 0.8, ...} of "train=0.8,..."; ValueError if it is not of that form."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        words = [(name, float(fraction)) for name, fraction in pairs]
    except ValueError:
        raise ValueError(f"must be like train=0.8,val=0.1,test=0.1, got {text!r}") from None
    fractions = {}
    for name, fraction in words:
        name = names.split_name(name)
        if name in fractions:
            raise ValueError(f"names the split {name!r} twice, got {text!r}")
        fractions[name] = fraction
    _check_fractions(fractions, text)
    return fractions


def divide(photos, fractions, seed=0):
    """Puts photos into splits by fractions, where their source leaves that open.

    Args:
      photos: `shards.Photo`s. Those with a split keep it, unless all are in "train": then the
        source only has training photos, and these are divided.
      fractions: {split: fraction}, summing to 1; None: nothing is divided.
      seed: of the draw.

    Returns:
      list of `shards.Photo`, each with a split.

    Raises:
      ValueError: photos without a split and no fractions; fractions though the source names the
        splits of all photos.
    """
    counts = Counter(photo.split for photo in photos)
    if fractions is None:
        if counts[""]:
            raise ValueError(
                f"the source does not say which split {counts['']} of {len(photos)} photos belong "
                "to: add --split train=0.8,val=0.1,test=0.1"
            )
        return list(photos)
    if photos and not counts[""]:
        if set(counts) != {"train"}:
            has = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            raise ValueError(
                f"the source says which split each photo belongs to ({has}): leave --split out, "
                "or build from a source without splits"
            )
        photos = [replace(photo, split="") for photo in photos]
    return assign_splits(photos, fractions, seed)


def assign_splits(photos, fractions, seed=0):
    """Puts every photo that has no split into one, stratified by class.

    Args:
      photos: `Photo`s; those with a split keep it.
      fractions: {split: fraction}, summing to 1.
      seed: of the draw, which depends on the photos' ids, not on their order.

    Returns:
      list of `Photo`. Within a class of n photos a split of fraction f gets n f, rounded up or down
      so that the totals over all classes fit too; the first split with a fraction above 0 gets a
      class's only photo. Photos without a label go to "train", or that split. A split of fraction 0
      gets none.
    """
    _check_fractions(fractions, fractions)
    fractions = {name: fraction for name, fraction in fractions.items() if fraction > 0}
    groups = defaultdict(list)
    for photo in photos:
        if not photo.split:
            groups[photo.label].append(photo.id)
    parts = list(fractions)
    # There is nothing to measure on photos without a label.
    of_unlabelled = "train" if "train" in parts else parts[0]
    chosen = dict.fromkeys(groups.pop(None, ()), of_unlabelled)
    owed = dict.fromkeys(parts, 0.0)
    for label in sorted(groups, key=str):
        ids = sorted(groups[label], key=lambda name: _draw(seed, name))
        counts = _allot(len(ids), fractions, owed)
        if counts[parts[0]] == 0:
            counts[max(counts, key=counts.get)] -= 1
            counts[parts[0]] += 1
        for name in parts:
            owed[name] += fractions[name] * len(ids) - counts[name]
        where = [name for name in parts for _ in range(counts[name])]
        chosen |= dict(zip(ids, where, strict=True))
    return [replace(photo, split=photo.split or chosen[photo.id]) for photo in photos]


def _check_fractions(fractions, given):
    values = list(fractions.values())
    usable = all(math.isfinite(value) and value >= 0 for value in values)
    if not usable or abs(sum(values) - 1) > 1e-6:
        raise ValueError(f"fractions must be at least 0 and sum to 1, got {given!r}")


def _allot(n, fractions, owed):
    """{split: whole number} near n * fraction, remainders to the splits that are owed most."""
    counts = {name: int(n * fraction) for name, fraction in fractions.items()}
    left = n - sum(counts.values())
    need = sorted(fractions, key=lambda name: counts[name] - n * fractions[name] - owed[name])
    for name in need[:left]:
        counts[name] += 1
    return counts


def _draw(seed, name):
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
