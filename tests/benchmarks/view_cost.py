"""CPU time of a training view's parts, and of other ways to do them.

    python tests/benchmarks/view_cost.py shards/ [--image-size 224] [--rounds 7]

Microseconds of processor time per photo on one thread: each row in a loop over 100 photos, rows
taking turns, medians of rounds. Crops have their mean area. Parts are of random pixels; the sum
that keeps TensorFlow from computing them once is part of their time, and a row by itself.
"""

import argparse
import itertools
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from kdtf import benchmark, data
from kdtf.data import augment

PHOTOS = 100


def rows(info, size):
    """{name: function of a photo's number to a tensor}"""
    encoded = tf.constant(
        [example.encoded for example in itertools.islice(data.read_examples(info, "train"), PHOTOS)]
    )
    seeds = tf.random.stateless_uniform([PHOTOS, 2], [1, 2], 0, 10_000, tf.int32)
    settings = augment.Augmentation()
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded[0]))
    share = (sum(settings.area) / 2) ** 0.5
    crop = [round(int(side) * share) for side in (height, width)]
    floats, view = tf.random.uniform([*crop, 3], 0, 255), tf.random.uniform([size, size, 3], 0, 255)
    matrix = tf.eye(3) * 1.1

    def new(pixels, number):
        return pixels + tf.cast(number, pixels.dtype)

    def crop_and_resize(number):
        return tf.raw_ops.CropAndResize(
            image=new(floats, number)[tf.newaxis],
            boxes=[[0.0, 0.0, 1.0, 1.0]],
            box_ind=[0],
            crop_size=[size, size],
        )

    def scale_and_translate(number):
        return tf.raw_ops.ScaleAndTranslate(
            images=new(floats, number)[tf.newaxis],
            size=[size, size],
            scale=[size / side for side in crop],
            translation=[0.0, 0.0],
            kernel_type="triangle",
            antialias=False,
        )

    def four_pixels_at_once(number):
        blocks = tf.reshape(tf.einsum("ij,ab->iajb", tf.eye(4), matrix), [12, 12])
        return tf.reshape(new(view, number), [-1, 12]) @ blocks

    def convolution(number):
        kernel = matrix[tf.newaxis, tf.newaxis]
        return tf.nn.conv2d(new(view, number)[tf.newaxis], kernel, 1, "SAME")

    return {
        "whole decode": lambda n: tf.io.decode_jpeg(encoded[n], channels=3),
        "whole view": lambda n: augment.training_view(encoded[n], seeds[n], size, settings),
        "sum over a crop": lambda n: new(floats, n),
        "resize: tf.image.resize": lambda n: tf.image.resize(new(floats, n), (size, size)),
        "resize: CropAndResize": crop_and_resize,
        "resize: ScaleAndTranslate": scale_and_translate,
        "sum over a view": lambda n: new(view, n),
        "colours: all": lambda n: augment.jitter_colour(new(view, n), [1, n], settings),
        "colours: 3x3 product": lambda n: tf.tensordot(new(view, n), matrix, 1),
        "colours: 12x12 product": four_pixels_at_once,
        "colours: 1x1 convolution": convolution,
    }


def looped(row):
    @tf.function
    def all_photos():
        total = tf.zeros([])
        for number in tf.range(PHOTOS):
            total += tf.cast(tf.reshape(row(number), [-1])[0], tf.float32)
        return total

    return all_photos


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="directory with dataset.json")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loops = {
        name: looped(row)
        for name, row in rows(data.DatasetInfo.load(args.dataset), args.image_size).items()
    }
    for loop in loops.values():
        loop()
    times = {name: [] for name in loops}
    for _ in range(args.rounds):
        for name, loop in loops.items():
            started = time.process_time()
            loop()
            times[name].append((time.process_time() - started) / PHOTOS * 1e6)
    print(f"{benchmark.device_name()}, load {os.getloadavg()[0]:.1f}, {args.image_size} px")
    for name, values in times.items():
        print(f"{name:<26}{statistics.median(values):>7.0f} us")


if __name__ == "__main__":
    main()
