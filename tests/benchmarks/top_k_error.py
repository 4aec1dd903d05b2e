"""What keeping k logits costs: the error of decoded soft targets over k and temperature.

    kdtf cache-logits --data shards/ --teacher teacher.keras --views 1 \\
        --top-k 1000000 --out all-logits/
    python tests/benchmarks/top_k_error.py --data shards/ --logits all-logits/

Reads a cache that holds all classes, keeps k of them again and compares (`top_k.tempered_error`).
"""

import argparse
import itertools

import numpy as np

from kdtf import data
from kdtf.teachers import cached_logits, top_k


def logits_of(info, cached):
    """float32 [photos, classes]: view 0 of every photo, by the first teacher."""
    ids = iter([example.id for example in data.read_examples(info, cached.settings.split)])
    rows = []
    for number, shard in enumerate(cached.shards):
        (records,) = cached.records(number).batch(shard.examples)
        of_shard = list(itertools.islice(ids, shard.examples))
        logits = cached.decode(records, of_shard, 0)
        rows.append(np.reshape(logits, [shard.examples, -1, len(info.classes)])[:, 0])
    return np.concatenate(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="directory with dataset.json and shards")
    parser.add_argument("--logits", required=True, help="directory with logits.json, all classes")
    parser.add_argument("--keep", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0])
    args = parser.parse_args()
    info = data.DatasetInfo.load(args.data)
    logits = logits_of(info, cached_logits.CachedLogits.load(args.logits, info))
    print(f"{len(logits):,} photos, {len(info.classes)} classes; total variation distance, %:")
    print("mean (95th percentile) over the kept classes and one bucket | over all classes")
    print("| k | " + " | ".join(f"T = {t:g}" for t in args.temperatures) + " |")
    print("|---" * (len(args.temperatures) + 1) + "|")
    for k in args.keep:
        cells = []
        for temperature in args.temperatures:
            errors = top_k.tempered_error(logits, k, temperature)
            cells.append(
                " / ".join(
                    f"{100 * e.mean():.2f} ({100 * np.quantile(e, 0.95):.2f})" for e in errors
                )
            )
        print(f"| {k} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
