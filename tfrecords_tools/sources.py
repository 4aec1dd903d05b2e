"""Where photos come from: folders, lists, TensorFlow Datasets. Each gives `Photo`s and classes."""

import csv
import hashlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from kdtf import files
from tfrecords_tools.encoding import JpegEncoder, to_jpeg  # noqa: F401 (what photos are stored by)
from tfrecords_tools.shards import Photo

RESERVED_COLUMNS = ("path", "label", "split")


def from_folders(root):
    """Photos of `root/<class>/...` or `root/<split>/<class>/...`, and the classes sorted by name.

    The second layout is taken where every sub-folder is called train, val, validation or test.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder")
    names = {"train": "train", "val": "val", "validation": "val", "test": "test"}
    folders = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    if folders and all(folder.name in names for folder in folders):
        parts = [(names[folder.name], folder) for folder in folders]
    else:
        parts = [("", root)]
    photos = []
    for split, part in parts:
        for folder in sorted(child for child in part.iterdir() if child.is_dir()):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    name = path.relative_to(root).as_posix()
                    photos.append(Photo(name, str(path), split, folder.name))
    if not photos:
        raise ValueError(f"{root} holds no photos in sub-folders named by class")
    return photos, tuple(sorted({photo.label for photo in photos}))


def from_lists(lists, root=None, class_names=None):
    """Photos named by lists: CSV with a header, or header-less lines `path, label[, ...]`.

    A header must name `path`; `label` (empty = unlabelled), `split` and metadata columns (empty =
    missing) are optional. Header-less lines carry a path and a label; further fields are ignored.

    Args:
      lists: {split: list file}; the split "" leaves it to the `split` column or to `assign_splits`.
      root: folder that relative paths start from; the list's own folder if None.
      class_names: CSV file (name, number: any header) that gives names to numeric labels, or None.

    Returns:
      (photos, classes): classes in the order of `class_names`, of their numbers, or sorted.
    """
    photos = []
    for split, path in lists.items():
        path = Path(path)
        for row in _rows(path):
            source = Path(root or path.parent) / row["path"]
            metadata = {k: v for k, v in row.items() if k not in RESERVED_COLUMNS and v}
            label = row.get("label") or None
            photos.append(
                Photo(row["path"], str(source), split or row.get("split", ""), label, metadata)
            )
    absent = [photo.source for photo in photos if not Path(photo.source).is_file()]
    if absent:
        raise ValueError(
            f"{len(absent)} of {len(photos)} listed photos do not exist, the first is {absent[0]}: "
            "give the folder that the paths start from as --root"
        )
    labels = {photo.label for photo in photos} - {None}
    if class_names is not None:
        names = _class_names(class_names)
        unknown = sorted(labels - set(names))
        if unknown:
            raise ValueError(f"{class_names} does not name the labels {unknown[:5]}")
        photos = [replace(p, label=names[p.label] if p.label else None) for p in photos]
        return photos, tuple(names.values())
    numeric = all(label.isdigit() for label in labels)
    return photos, tuple(sorted(labels, key=int if numeric else str))


def from_tfds(name, spool, data_dir=None):
    """Photos of a TensorFlow Datasets image classification set, its splits and class names.

    The photos are written to the folder `spool` as they are stored (JPEG or PNG, undecoded), so
    memory does not grow with their number. A validation split is called "val" here.

    Raises:
      ValueError: the set has no `image` and `label`.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    builder.download_and_prepare()
    if not {"image", "label"} <= set(builder.info.features):
        raise ValueError(
            f"tfds:{name} has features {sorted(builder.info.features)}; 'image' and 'label' needed"
        )
    classes = tuple(builder.info.features["label"].names)
    spool = Path(spool)
    spool.mkdir(parents=True, exist_ok=True)
    undecoded = {"image": tfds.decode.SkipDecoding()}
    photos = []
    for split in builder.info.splits:
        stored = builder.as_dataset(split=split, decoders=undecoded)
        for index, example in enumerate(tfds.as_numpy(stored)):
            path = spool / f"{split}-{index:08d}"
            # What a stopped build wrote stays as it is, time included: so do its finished shards.
            if not path.exists() or path.read_bytes() != example["image"]:
                files.write_bytes(path, example["image"])
            label = classes[example["label"]] if example["label"] >= 0 else None
            own_split = "val" if split == "validation" else split
            photos.append(Photo(path.name, str(path), own_split, label))
    return photos, classes


def assign_splits(photos, fractions, seed=0):
    """Puts every photo that has no split into one, stratified by class.

    Args:
      photos: `Photo`s; those with a split keep it.
      fractions: {split: fraction}, summing to 1.
      seed: of the draw, which depends on the photos' ids, not on their order.

    Returns:
      list of `Photo`. Within a class of n photos a split of fraction f gets n f, rounded up or down
      so that the totals over all classes fit too; the first split gets a class's only photo.
      Photos without a label go to "train", or the first split.
    """
    if abs(sum(fractions.values()) - 1) > 1e-6 or min(fractions.values()) < 0:
        raise ValueError(f"split fractions must be at least 0 and sum to 1, got {fractions}")
    groups = defaultdict(list)
    for photo in photos:
        if not photo.split:
            groups[photo.label].append(photo.id)
    names = list(fractions)
    # There is nothing to measure on photos without a label.
    of_unlabelled = "train" if "train" in names else names[0]
    chosen = dict.fromkeys(groups.pop(None, ()), of_unlabelled)
    owed = dict.fromkeys(names, 0.0)
    for label in sorted(groups, key=str):
        ids = sorted(groups[label], key=lambda name: _draw(seed, name))
        counts = _allot(len(ids), fractions, owed)
        if counts[names[0]] == 0:
            counts[max(counts, key=counts.get)] -= 1
            counts[names[0]] += 1
        for name in names:
            owed[name] += fractions[name] * len(ids) - counts[name]
        where = [name for name in names for _ in range(counts[name])]
        chosen |= dict(zip(ids, where, strict=True))
    return [replace(photo, split=photo.split or chosen[photo.id]) for photo in photos]


def _allot(n, fractions, owed):
    """{split: whole number} near n * fraction, remainders to the splits that are owed most."""
    counts = {name: int(n * fraction) for name, fraction in fractions.items()}
    left = n - sum(counts.values())
    need = sorted(fractions, key=lambda name: counts[name] - n * fractions[name] - owed[name])
    for name in need[:left]:
        counts[name] += 1
    return counts


def _draw(seed, name):
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _rows(path):
    """Yields dicts of a CSV with a header, or {"path", "label"} of a list without one."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if row]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such list") from None
    if not rows:
        raise ValueError(f"{path} is empty")
    if "path" not in rows[0]:
        rows.insert(0, ["path", "label"])
    header = rows[0]
    for number, row in enumerate(rows[1:], 2):
        if len(row) < min(len(header), 2):
            raise ValueError(f"{path}, row {number}: {len(row)} fields, expected {header}")
        yield dict(zip(header, row, strict=False))


def _class_names(path):
    with open(path, newline="", encoding="utf-8-sig") as stream:
        rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if row]
    named = [(row[1], row[0]) for row in rows if len(row) > 1 and row[1].isdigit()]
    if not named:
        raise ValueError(f"{path} holds no rows `name,number`")
    return dict(sorted(named, key=lambda pair: int(pair[0])))
