"""A look at a data set: a contact sheet of its photos, and its numbers.

kdtf show shards/
kdtf show shards/ --split test --classes Granny-Smith --out apples.png

The photos are spread over the classes, and chosen by their ids and the seed.
"""

import hashlib
import heapq
import io
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge
from PIL import Image, ImageDraw, ImageFont

from kdtf import cli, data, files, limits
from kdtf.arguments import Argument

DASH = "-"  # the font that comes with Pillow has no longer one
TILE, MARGIN, LINE = 160, 6, 13  # pixels


def contact_sheet(info, split, count=48, classes=(), seed=0):
    """RGB `Image`: photos spread over the classes, each with its class and metadata beneath.

    Args:
      info: a `kdtf.data.DatasetInfo`.
      split: name of a split.
      count: photos at most.
      classes: names of the classes to show; all if empty.
      seed: of the choice, which depends on the photos' ids, not on their order.

    Raises:
      ValueError: unknown split or class, or nothing to show.
    """
    chosen = choose_examples(info, split, count, classes, seed)
    if not chosen:
        raise ValueError(f"split {split!r} of {info.directory} has no photo to show")
    columns = min(len(chosen), max(1, math.ceil(math.sqrt(1.5 * len(chosen)))))
    rows = math.ceil(len(chosen) / columns)
    lines = 1 + len(info.metadata)
    width, height = TILE + 2 * MARGIN, TILE + lines * LINE + 2 * MARGIN
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for index, example in enumerate(chosen):
        left, top = index % columns * width + MARGIN, index // columns * height + MARGIN
        with Image.open(io.BytesIO(example.encoded)) as photo:
            tile = photo.convert("RGB")
        scale = TILE / max(tile.size)
        fitted = [max(1, round(side * scale)) for side in tile.size]
        tile = tile.resize(fitted, Image.Resampling.LANCZOS)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        name = "unlabelled" if example.label is None else info.classes[example.label]
        caption = [name] + [
            f"{column}: {example.metadata.get(column, DASH)}" for column in info.metadata
        ]
        for number, text in enumerate(caption):
            colour = "black" if number == 0 else (96, 96, 96)
            pen.text((left, top + TILE + 2 + number * LINE), _fit(text, font), colour, font)
    return sheet


def choose_examples(info, split, count, classes=(), seed=0):
    """list of `kdtf.data.Example`, spread over classes; holds `count` photos at a time, no more."""
    check_classes(info, classes)
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count!r}")
    available = dict(enumerate(info.split(split).class_counts))
    if classes:
        wanted = [info.classes.index(name) for name in classes]
        available = {label: available[label] for label in wanted}
    else:
        available[None] = info.split(split).unlabelled
    quota = _quota(available, count, seed)
    kept = {label: [] for label in quota}
    for example in data.read_examples(info, split):
        if example.label in quota:
            # The photos whose hash is smallest: as good as random, whatever the order.
            draw = hashlib.sha256(f"{seed}/{example.id}".encode()).digest()
            item = (-int.from_bytes(draw[:8], "big"), example.id, example)
            if len(kept[example.label]) < quota[example.label]:
                heapq.heappush(kept[example.label], item)
            else:
                heapq.heappushpop(kept[example.label], item)
    order = sorted(quota, key=lambda label: len(info.classes) if label is None else label)
    return [item[2] for label in order for item in sorted(kept[label], reverse=True)]


def check_classes(info, classes):
    """Refuses names that are not classes of a data set; ValueError."""
    unknown = [name for name in classes if name not in info.classes]
    if unknown:
        raise ValueError(
            f"{info.directory} has no class {unknown[0]!r}: its {len(info.classes)} classes are "
            f"{', '.join(info.classes[:5])}, ..."
        )


def _quota(available, count, seed):
    """{label: photos to show}: one of each class in random order, then a second, and so on."""
    left = {label: photos for label, photos in available.items() if photos > 0}
    order = list(left)
    np.random.default_rng(seed).shuffle(order)
    quota = {}
    while count and left:
        for label in order:
            if count and left.get(label):
                quota[label] = quota.get(label, 0) + 1
                left[label] -= 1
                count -= 1
        left = {label: photos for label, photos in left.items() if photos}
    return quota


def _fit(text, font):
    """Text cut to the width of a tile."""
    if font.getlength(text) <= TILE:
        return text
    while font.getlength(text + "...") > TILE:
        text = text[:-1]
    return text + "..."


def table(info, shown=8):
    """Text for people: size of every split, metadata, most and least frequent classes."""
    lines = [f"{info.directory}: {len(info.classes)} classes", ""]
    head = f"{'split':<8}{'photos':>10}{'MB':>10}{'shards':>8}{'classes':>9}"
    lines.append(head + f"{'fewest':>8}{'most':>8}{'unlabelled':>12}")
    for name, split in info.splits.items():
        size = sum(shard.bytes for shard in split.shards) / 1e6
        present = [count for count in split.class_counts if count] or [0]
        classes = sum(count > 0 for count in split.class_counts)
        lines.append(
            f"{name:<8}{split.examples:>10,}{size:>10,.1f}{len(split.shards):>8}{classes:>9}"
            f"{min(present):>8,}{max(present):>8,}{split.unlabelled:>12,}"
        )
    if info.metadata:
        lines += ["", f"{'metadata':<20}{'values':>7}  missing per split"]
    for column, words in info.metadata.items():
        fractions = [
            f"{name} {split.missing.get(column, 0) / max(split.examples, 1):.1%}"
            for name, split in info.splits.items()
        ]
        lines.append(f"{column:<20}{len(words):>7}  {', '.join(fractions)}")
        lines.append(f"{'':<29}{_some(words, shown)}")
    totals = np.sum([split.class_counts for split in info.splits.values()], axis=0)
    ranked = np.argsort(-totals, kind="stable")
    picked = ranked if len(ranked) <= 2 * shown else [*ranked[:shown], None, *ranked[-shown:]]
    lines += ["", f"{'class':<36}" + "".join(f"{name:>9}" for name in info.splits)]
    for label in picked:
        if label is None:
            lines.append(f"... {len(ranked) - 2 * shown} more")
            continue
        counts = "".join(f"{split.class_counts[label]:>9,}" for split in info.splits.values())
        lines.append(f"{info.classes[label]:<36}{counts}")
    return "\n".join(lines)


def _some(words, shown):
    more = f", ... {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def check_sheet(path):
    """Refuses a file name of which Pillow knows no format to write."""
    suffix = Path(path).suffix.lower()
    known = Image.registered_extensions()
    if known.get(suffix) not in Image.SAVE:
        raise ValueError("cannot be written: name a file .png or .jpg")
    files.check_new_file(path)


@dataclass(frozen=True)
class ShowArguments:
    """The command line."""

    directory: Annotated[str, Argument("DIR", data.DatasetInfo.load, positional=True)]
    """where dataset.json lies"""
    split: Annotated[str | None, Argument("NAME")] = None
    """split of the photos (default: the first)"""
    count: Annotated[int, Ge(1)] = 48
    """photos on the sheet"""
    classes: Annotated[tuple[str, ...], Argument("NAME")] = ()
    """classes to show (default: all)"""
    out: Annotated[str, Argument("FILE", check_sheet)] = "sheet.png"
    """the contact sheet"""
    seed: Annotated[int, Ge(0)] = 0
    """of the choice of photos"""

    def __post_init__(self):
        limits.check(self)


def main(argv=None):
    """Prints the numbers of a data set and writes its contact sheet."""
    (arguments,) = cli.parse(argv, "kdtf show", __doc__, ShowArguments)
    info = data.DatasetInfo.load(arguments.directory)
    split = arguments.split or next(iter(info.splits))
    cli.checked(f"--split {split}", info.split, split)
    cli.checked(f"--classes {' '.join(arguments.classes)}", check_classes, info, arguments.classes)
    with cli.report_errors():
        sheet = contact_sheet(info, split, arguments.count, arguments.classes, arguments.seed)
    print(table(info))
    out = Path(arguments.out)
    try:
        with files.atomic_write(out) as partial:
            sheet.save(partial)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {out} cannot be written: {error}")
    print(f"\n{out}: photos of the {split} split")


if __name__ == "__main__":
    main()
