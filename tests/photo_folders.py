"""Folders of noise, a sub-folder per class."""

import io

import numpy as np
from PIL import Image

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def noise(seed, size=(40, 30)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8))


def saved(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def opened(raw):
    """The image of encoded bytes, read in full."""
    image = Image.open(io.BytesIO(raw))
    image.load()
    return image


def pixels(image):
    return np.asarray(image, np.float64)


def folder_of_photos(root, counts, start=0):
    for name, count in counts.items():
        for index in range(count):
            path = root / name / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(saved(noise(start), "JPEG"))
            start += 1
    return root


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}
