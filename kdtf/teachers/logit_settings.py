"""What decides cached logits: a key for what they give, and what differs where they do not fit."""

import hashlib
import json
from dataclasses import asdict, dataclass

from kdtf.data import augment

REWRITE = "write them again with `kdtf cache-logits` into another --out"


@dataclass(frozen=True)
class Settings:
    """What decides cached logits.

    Attributes:
      teachers: fingerprints (`teachers.fingerprint`), in order.
      classes: class names.
      data_sha256: of `dataset.json`, which holds the shards' own.
      split: name of the split.
      augmentation: an `augment.Augmentation`.
      image_size: side of the views that the teachers saw, pixels.
      seed: of the views.
      views: how many of each photo.
      kept: logits kept of each view, `top_k.kept`.
    """

    teachers: tuple[str, ...]
    classes: tuple[str, ...]
    data_sha256: str
    split: str
    augmentation: augment.Augmentation
    image_size: int
    seed: int
    views: int
    kept: int

    def __post_init__(self):
        for name in ("image_size", "views"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")

    @classmethod
    def from_json(cls, raw):
        """The `Settings` whose `dataclasses.asdict` has been through JSON.

        Raises:
          KeyError, TypeError: it is not one.
        """
        raw = {name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()}
        ranges = {n: tuple(v) if isinstance(v, list) else v for n, v in raw["augmentation"].items()}
        return cls(**raw | {"augmentation": augment.Augmentation(**ranges)})

    def key(self):
        """Hex sha256 of all settings: a name for what they give."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def check_equal(self, other, directory):
        """Raises a ValueError that names both sides of the first setting that differs.

        Args:
          other: the `Settings` asked for; these are those of the cache.
          directory: where the cache lies.
        """
        for name, stored in asdict(self).items():
            asked = asdict(other)[name]
            if stored != asked:
                if name == "classes":
                    stored, asked = _first_difference(stored, asked)
                raise ValueError(
                    f"{directory} holds logits cached with {name} = {stored!r}, asked for is "
                    f"{asked!r}: give what they were made with, or {REWRITE}"
                )


def _first_difference(stored, asked):
    """The first position in which two lists of classes differ, for an error message."""
    for number, (one, other) in enumerate(zip(stored, asked, strict=False)):
        if one != other:
            return f"{one} as number {number}", f"{other} as number {number}"
    return f"{len(stored)} classes", f"{len(asked)} classes"
