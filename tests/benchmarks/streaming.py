"""Memory and time per photo over 200,000 records of 96-px photos, streamed for two epochs.

    python tests/benchmarks/streaming.py [--records 200000] [--step 10000]

400 drawn shelf photos, repeated under new ids, are written as shards through the ordinary writer
to a temporary directory (about 0.6 GB, removed afterwards). Each step prints the photos seen, the
resident memory of the process, and that step's time and CPU time per photo. The slope of memory is
that of a straight line through all steps but the first fifth of an epoch, in which buffers fill.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from kdtf import benchmark, data
from tfrecords_tools import shards, synthetic

DISTINCT, SIDE, BATCH = 400, 96, 100


def read_file(photo):
    """The bytes of a `Photo`'s file; module level, so that worker processes can be sent it."""
    return Path(photo.source).read_bytes()


def write(folder, records):
    """`DatasetInfo` of `records` photos in the split train, 400 of them distinct."""
    drawn = synthetic.synthesize(
        folder / "drawn", classes=20, photos=DISTINCT, size=SIDE, split_fractions={"train": 1.0}
    )
    distinct = []
    for example in data.read_examples(drawn, "train"):
        distinct.append((folder / f"{len(distinct)}.jpg", drawn.classes[example.label]))
        distinct[-1][0].write_bytes(example.encoded)
    photos = []
    for number in range(records):
        path, label = distinct[number % len(distinct)]
        photos.append(shards.Photo(f"{number}", str(path), "train", label))
    info, _ = shards.write_dataset(
        folder / "many", photos, read_file, classes=drawn.classes, examples_per_shard=2_000
    )
    return info


def resident_mb():
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def stream(info, step):
    """[(photos seen, resident MB, us per photo of this step, its CPU us per photo)], and prints."""
    seen, rows = 0, []
    start, start_cpu = time.perf_counter(), time.process_time()
    for _, label, _ in data.training_batches(info, "train", BATCH, SIDE, seed=0, epochs=2):
        seen += label.shape[0]
        if seen % step == 0:
            passed, cpu = time.perf_counter() - start, time.process_time() - start_cpu
            rows.append((seen, resident_mb(), passed / step * 1e6, cpu / step * 1e6))
            line = "{:>9,} photos {:8.1f} MB {:7.0f} us a photo, {:5.0f} us of CPU"
            print(line.format(*rows[-1]), flush=True)
            start, start_cpu = time.perf_counter(), time.process_time()
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--step", type=int, default=10_000)
    args = parser.parse_args()
    if args.step % BATCH or args.records < 5 * args.step:
        parser.error(f"--step must be a multiple of {BATCH} and at most a fifth of --records")
    print(f"{benchmark.device_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        info = write(Path(folder), args.records)
        size = sum(shard.bytes for shard in info.split("train").shards)
        print(f"{args.records:,} records, {size / 1e6:.0f} MB")
        rows = np.array(stream(info, args.step))
    settled = rows[rows[:, 0] > args.records / 5]
    slope = np.polyfit(settled[:, 0] / 10_000, settled[:, 1], 1)[0]
    load = os.getloadavg()[0]
    print(f"resident memory grows by {slope:.2f} MB per 10,000 photos; load {load:.1f}")


if __name__ == "__main__":
    main()
