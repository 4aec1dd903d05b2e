"""Copies of shards on a disk that is quicker than the one they lie on.

For data sets on network storage. On a local disk the operating system already keeps in memory what
has been read, and a cache brings nothing.
"""

import shutil
from pathlib import Path

from kdtf import files


def copies(info, split, directory):
    """Copies a split's shards into a directory, checks them, and says where they are.

    A copy is named by its shard's sha256: shards already there are not copied again, other data
    sets may share the directory, and a shard that has changed gets another name. Nothing is ever
    removed: delete the directory when it is not needed.

    Args:
      info: a `DatasetInfo`.
      split: name of a split.
      directory: where to copy to; made if missing.

    Returns:
      list of str, the paths of the copies, in the order of `info.paths(split)`.

    Raises:
      ValueError: an unknown split, or a shard is not what `dataset.json` says: both sha256 named.
    """
    directory = Path(directory)
    copied = []
    for shard, path in zip(info.split(split).shards, info.paths(split), strict=True):
        copy = directory / f"{shard.sha256}.tfrecord"
        if not copy.is_file() or copy.stat().st_size != shard.bytes:
            _copy(path, copy, shard.sha256)
        copied.append(str(copy))
    return copied


def _copy(path, copy, sha256):
    with files.atomic_write(copy) as partial:
        shutil.copyfile(path, partial)
        digest = files.file_sha256(partial)
        if digest != sha256:
            raise ValueError(
                f"{path} has sha256 {digest}, dataset.json says {sha256}: the shard has changed "
                "or is damaged; `kdtf validate` checks all of them"
            )
