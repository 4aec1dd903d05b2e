"""Photos of TensorFlow Datasets."""

from pathlib import Path

from kdtf import files
from kdtf.data import names
from tfrecords_tools.shards import Photo


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
            photos.append(Photo(path.name, str(path), names.split_name(split), label))
    return photos, classes
