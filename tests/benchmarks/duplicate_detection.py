"""How many copies of real photos `tfrecords_tools.duplicates` finds, and what it mistakes for one.

    python tests/benchmarks/duplicate_detection.py shards/ --copies 300

Copies of randomly chosen photos are cropped, mirrored and re-encoded (0.7 times as large, JPEG
quality 75) and looked for among all photos of the data set. Prints the pairs within the data set,
then for each kind of copy the fraction that was found, and how often another photo was.
"""

import argparse
import io
import random
import time

import numpy as np
import tensorflow as tf
from PIL import Image

from kdtf import data
from kdtf.data import augment
from tfrecords_tools.duplicates import Fingerprint, find_duplicates, thumbnail


def reencoded(image):
    stream = io.BytesIO()
    size = [int(0.7 * side) for side in image.size]
    image.resize(size, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=75)
    return Image.open(stream).convert("RGB")


def cropped(image, rng, columns, rows):
    width, height = image.size
    left, top = rng.random() * columns * width, rng.random() * rows * height
    return image.crop((left, top, left + (1 - columns) * width, top + (1 - rows) * height))


COPIES = {
    "re-encoded": lambda image, rng: image,
    "2 % cropped": lambda image, rng: cropped(image, rng, 0.02, 0.02),
    "4 % cropped": lambda image, rng: cropped(image, rng, 0.04, 0.04),
    "5 % cropped": lambda image, rng: cropped(image, rng, 0.05, 0.05),
    "8 % cropped": lambda image, rng: cropped(image, rng, 0.08, 0.08),
    "4 % cropped, columns only": lambda image, rng: cropped(image, rng, 0.04, 0),
    "mirrored": lambda image, rng: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and 4 % cropped": lambda image, rng: cropped(image.transpose(0), rng, 0.04, 0.04),
}


def fingerprints(info, chosen, rng):
    """(of all photos, {kind of copy: of the chosen photos' copies})."""
    own, copies, place = [], {kind: [] for kind in COPIES}, 0
    for split in info.splits:
        for record in tf.data.TFRecordDataset(info.paths(split)).as_numpy_iterator():
            example = data.deserialize(record)
            pixels = augment.decode(tf.constant(example.encoded)).numpy()
            own.append(Fingerprint(split, str(place), str(place), thumbnail(pixels)))
            if place in chosen:
                for kind, make in COPIES.items():
                    copy = np.asarray(reencoded(make(Image.fromarray(pixels), rng)))
                    name = str(place)
                    copies[kind].append(Fingerprint("copy", name, kind + name, thumbnail(copy)))
            place += 1
    return own, copies


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("--copies", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    info = data.DatasetInfo.load(arguments.directory)
    rng = random.Random(arguments.seed)
    total = sum(split.examples for split in info.splits.values())
    own, copies = fingerprints(info, set(rng.sample(range(total), arguments.copies)), rng)
    started = time.process_time()
    pairs = find_duplicates(own)
    print(f"{total} photos: {len(pairs)} pairs, {time.process_time() - started:.1f} s of CPU time")
    print("| copy | found | another photo too |\n|---|---|---|")
    for kind, made in copies.items():
        found = [pair for pair in find_duplicates(own + made) if "copy" in pair.splits]
        right = {pair.ids for pair in found if pair.ids[0] == pair.ids[1]}
        others = sum(pair.ids[0] != pair.ids[1] for pair in found)
        print(f"| {kind} | {100 * len(right) / len(made):.1f} % | {others} |")


if __name__ == "__main__":
    main()
