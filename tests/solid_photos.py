"""Photos of one colour, whose class is the colour."""

import io

from PIL import Image

from tfrecords_tools import shards

COLOURS = {"apple": (200, 30, 30), "kiwi": (40, 180, 40), "plum": (90, 30, 160)}


def encode_solid(photo):
    """JPEG of one colour; module level, so that worker processes can be sent it."""
    stream = io.BytesIO()
    Image.new("RGB", (40, 32), photo.source).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def photos(per_class=10, split="train"):
    regions = ["north", "south", None]
    return [
        shards.Photo(
            id=f"{split}/{name}/{number}",
            source=colour,
            split=split,
            label=name,
            metadata={"region": regions[number % 3]} if regions[number % 3] else {},
        )
        for name, colour in COLOURS.items()
        for number in range(per_class)
    ]
