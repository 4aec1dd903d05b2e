"""Which examples a student was trained on: hashes of their ids, its warm starts' included."""

import hashlib
from pathlib import Path

import numpy as np

from kdtf import data

FILE = "seen_photos.npy"  # beside a promoted student


def trained_on(info, warm_start):
    """Hashes of the examples that a student, and those it started from, were trained on.

    Args:
      info: `data.DatasetInfo`.
      warm_start: path of the student's start, or None; `FILE` beside it says what that one saw.

    Returns:
      uint64, sorted, each once.
    """
    seen = np.unique(hash_ids(example.id for example in data.read_examples(info, "train")))
    if warm_start is None:
        return seen
    earlier = Path(warm_start).with_name(FILE)
    if not earlier.exists():
        print(f"\nWhat {warm_start} was trained on is not known: no {earlier}.")
        return seen
    return np.union1d(seen, np.load(earlier))


def hash_ids(ids):
    """64-bit hashes of strings, uint64 [ids]."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(b"".join(digests), np.uint64)
