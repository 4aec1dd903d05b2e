"""Photos per second of the input pipeline, beside bare JPEG decoding and Keras's own pipeline.

    kdtf throughput shards/ [--image-size 224] [--rounds 7]

The rows, each with the shards' own photos:

    decode   `tf.io.decode_jpeg` of each whole photo, its bytes in memory, in a parallel map, the
             pixels dropped: no reading, cropping, resizing or batching
    kdtf     `data.training_batches`: shards to augmented batches. Of a photo only the crop is
             decoded, which is less than what the first row decodes
    keras    `keras.utils.image_dataset_from_directory` on the same bytes as files, resized to 8/7
             of the view, then RandomCrop, RandomFlip, RandomBrightness and RandomContrast on
             batches in a parallel map (no saturation: Keras has less to do)

All use as many threads as TensorFlow finds cores. They take turns, so that a busy moment of the
machine hits all alike, and the ratios are medians over rounds. Where other programs hold the
cores, photos per second say little and CPU time per photo says more; its ratios are turned over,
so that more is better there too.
"""

import itertools
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from annotated_types import Ge, Gt

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kdtf import benchmark, cli, data, limits
from kdtf.arguments import Argument

PHOTOS = 2048  # held in memory and as files


def bare_decode(encoded, batch_size):
    """Endless dataset: each photo of a string tensor decoded whole; counts pixels, by batch."""
    import tensorflow as tf  # here: a command line's help needs none of it

    photos = tf.data.Dataset.from_tensor_slices(encoded).repeat()
    sizes = photos.map(
        lambda photo: tf.size(tf.io.decode_jpeg(photo, channels=3)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return sizes.batch(batch_size).prefetch(2)


def keras_pipeline(folder, batch_size, image_size):
    """Endless dataset: Keras's reader of image files and its layers for the same augmentation."""
    import keras  # here: a command line's help needs none of it
    import tensorflow as tf

    side = round(image_size * 8 / 7)
    dataset = keras.utils.image_dataset_from_directory(
        folder, batch_size=batch_size, image_size=(side, side), seed=0, verbose=False
    )
    layers = keras.layers
    augment = keras.Sequential(
        [
            layers.RandomCrop(image_size, image_size),
            layers.RandomFlip("horizontal"),
            layers.RandomBrightness(0.2),
            layers.RandomContrast(0.2, value_range=(0, 255)),
        ]
    )
    dataset = dataset.map(
        lambda images, label: (augment(images, training=True), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return dataset.repeat().prefetch(2)


class Speed(NamedTuple):
    """Photos per second, and microseconds of CPU time of all threads per photo."""

    photos_per_s: float
    cpu_us: float


def speed(dataset, batch_size, seconds):
    """`Speed` of an endless dataset once its buffers are full."""
    batches = iter(dataset)
    for _ in range(6):
        next(batches)
    start, start_cpu = time.perf_counter(), time.process_time()
    for count in itertools.count(1):
        next(batches)
        passed = time.perf_counter() - start
        if passed >= seconds:
            photos = count * batch_size
            return Speed(photos / passed, (time.process_time() - start_cpu) / photos * 1e6)


def measure(info, split, *, batch_size, image_size, rounds, seconds):
    """{row: its `Speed` in each round}, rows in turns.

    Raises:
      ValueError: an unknown or empty split.
    """
    batch_size = min(batch_size, info.split(split).examples)
    pipeline = data.training_batches(
        info, split, batch_size, image_size, seed=0, epochs=1_000_000, unlabelled="keep"
    )
    examples = list(itertools.islice(data.read_examples(info, split), PHOTOS))
    with tempfile.TemporaryDirectory() as folder:
        for number, example in enumerate(examples):
            path = Path(folder) / str(example.label) / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(example.encoded)
        rows = {
            "decode": bare_decode([example.encoded for example in examples], batch_size),
            "kdtf": pipeline,
            "keras": keras_pipeline(folder, batch_size, image_size),
        }
        speeds = {name: [] for name in rows}
        for _ in range(rounds):
            for name, dataset in rows.items():
                speeds[name].append(speed(dataset, batch_size, seconds))
    return speeds


def table(speeds):
    """Lines of text: each row's median speed and range, and median ratios to decode and keras."""
    lines = [
        f"{'':<8}{'photos/s':>9}{'range':>16}{'of decode':>11}{'of keras':>10}"
        f"{'CPU us':>9}{'of decode':>11}{'of keras':>10}"
    ]
    for name, rounds in speeds.items():
        rates, costs = zip(*rounds, strict=True)
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        line = f"{name:<8}{statistics.median(rates):>9.0f}{spread:>16}"
        others = [tuple(zip(*speeds[other], strict=True)) for other in ("decode", "keras")]
        line += _ratios([(rates, other) for other, _ in others])
        line += f"{statistics.median(costs):>9.0f}"
        line += _ratios([(other, costs) for _, other in others])
        lines.append(line)
    return lines


def _ratios(pairs):
    medians = (
        statistics.median(a / b for a, b in zip(above, below, strict=True))
        for above, below in pairs
    )
    return "{:>11.2f}{:>10.2f}".format(*medians)


@dataclass(frozen=True)
class ThroughputArguments:
    """The command line."""

    directory: Annotated[str, Argument("DIR", data.DatasetInfo.load, positional=True)]
    """where dataset.json lies"""
    split: Annotated[str, Argument("NAME")] = "train"
    """split of the photos"""
    image_size: Annotated[int, Ge(1)] = 224
    """side of a view, pixels"""
    batch_size: Annotated[int, Ge(1)] = 64
    """photos per batch"""
    rounds: Annotated[int, Ge(1)] = 7
    """turns of each row"""
    seconds: Annotated[float, Gt(0)] = 3.0
    """of each row in each round"""

    def __post_init__(self):
        limits.check(self)


def main(argv=None):
    """Measures and prints the table."""
    (arguments,) = cli.parse(argv, "kdtf throughput", __doc__, ThroughputArguments)
    info = data.DatasetInfo.load(arguments.directory)
    cli.checked(f"--split {arguments.split}", info.split, arguments.split)
    with cli.report_errors():
        speeds = measure(
            info,
            arguments.split,
            batch_size=arguments.batch_size,
            image_size=arguments.image_size,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
        )
    print(
        f"{benchmark.device_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{arguments.image_size} px, medians of {arguments.rounds} rounds"
    )
    print("\n".join(table(speeds)))


if __name__ == "__main__":
    main()
