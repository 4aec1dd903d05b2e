"""Photos in folders: one sub-folder per class, or per split and then class."""

import os
from pathlib import Path

from PIL import Image

from kdtf.data import names
from tfrecords_tools.listing import LeftOut, Listing, first_few
from tfrecords_tools.shards import Photo

# Of operating systems, network disks, archives and editors, beside all that begins with a dot.
_SYSTEM = {
    "__macosx",
    "__pycache__",
    "@eadir",
    "@tmp",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
}
_PHOTO_SUFFIXES = set(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .heic .heif .avif .jp2 .dng .cr2 .nef "
    ".arw".split()
)
SYSTEM, NO_IMAGE, EMPTY = "hidden or of the system", "no image by content", "holds no photos"


def from_folders(root, leave_out=()):
    """Photos of `root/<class>/...` or `root/<split>/<class>/...`; classes sorted by name.

    The second layout is taken where the sub-folders are called train, val (valid, validation) or
    test, in any case. Hidden and system files are left out at every level, links are followed.

    Args:
      root: the folder.
      leave_out: paths of folders in it that are not part of it (where shards are written).

    Returns:
      `Listing`; which files are images by content, `inspection` finds out.

    Raises:
      ValueError: photos that would be lost (beside the class folders, directly in a split), a
        folder beside the splits, two folders of one split, splits inside of classes, links that
        lead nowhere or in a circle, a file name that is not UTF-8.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder")
    scan = _Scan(root, {Path(path).resolve() for path in leave_out})
    photos = []
    for split, part in _parts(scan):
        folders = scan.class_folders(part)
        for folder in folders:
            label = names.normalized(scan.name(folder).rpartition("/")[2])
            members = [
                Photo(scan.name(path), str(path), split, label) for path in scan.files(folder)
            ]
            photos += members
            if not members:
                scan.left_out.append(LeftOut(scan.name(folder), EMPTY))
    scan.refuse_lost()
    if not photos:
        raise ValueError(f"{root} holds no photos in sub-folders named by class")
    classes = tuple(sorted({photo.label for photo in photos}))
    return Listing(tuple(photos), classes, tuple(scan.left_out), tuple(_notes(classes)))


def is_system(name):
    """Whether a file or folder is hidden or of the system, by its name."""
    return name.startswith(".") or name.casefold() in _SYSTEM


def is_called_photo(path):
    """Whether a file's name ends as photos' names do."""
    return Path(path).suffix.casefold() in _PHOTO_SUFFIXES


def is_image(path):
    """Whether Pillow knows a file's content as an image."""
    try:
        with Image.open(path):
            return True
    except Exception as error:  # what is damaged is an image all the same
        return not isinstance(error, (Image.UnidentifiedImageError, IsADirectoryError))


class _Scan:
    """A walk over a folder; `left_out` and `lost` collect what gives no photo."""

    def __init__(self, root, excluded):
        self.root, self.excluded = root, excluded
        self.left_out, self.lost = [], []

    def name(self, path):
        """A path as text, relative to the root; file names are UTF-8, whatever the locale."""
        raw = os.fsencode(path.relative_to(self.root).as_posix())
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(
                f"{self.root}: the file name {raw!r} is not UTF-8: rename it (convmv renames whole "
                "folders)"
            ) from None

    def entries(self, folder):
        """Visible entries of a folder, sorted, without what is excluded."""
        visible = []
        for path in sorted(folder.iterdir()):
            if is_system(path.name):
                self.left_out.append(LeftOut(self.name(path), SYSTEM))
            elif not self.excluded or path.resolve() not in self.excluded:
                visible.append(path)
        return visible

    def class_folders(self, part):
        """Folders in the root or a split; photos beside them would be lost."""
        folders = []
        for path in self.entries(part):
            if path.is_dir():
                folders.append(path)
            elif not path.exists():
                self.lost.append((self.name(path), "a link that leads nowhere"))
            elif is_called_photo(path) or is_image(path):
                self.lost.append((self.name(path), "a photo outside of the class folders"))
            else:
                self.left_out.append(LeftOut(self.name(path), "not in a class folder, no image"))
        for folder in folders:
            inner = {each.name for each in folder.iterdir() if each.is_dir()}
            splits = {names.split_name(each) for each in inner if names.is_split(each)}
            if len(splits) > 1:
                raise ValueError(
                    f"{folder} holds the folders {first_few(sorted(inner))}: splits go above "
                    f"classes, SOURCE/train/CLASS; give {folder} as --source, or move them"
                )
        return folders

    def files(self, folder, above=()):
        """Files of a class's folder and of those in it, in order; links are followed."""
        real = folder.resolve()
        if real in above:
            self.lost.append((self.name(folder), "a link to a folder that it lies in"))
            return
        for path in self.entries(folder):
            if path.is_dir():
                yield from self.files(path, (*above, real))
            elif not path.exists():
                self.lost.append((self.name(path), "a link that leads nowhere"))
            else:
                yield path

    def holds_images(self, folder):
        """Whether a folder, or one in it, has a file that is called or known as an image."""
        inner = _Scan(self.root, self.excluded)  # of which nothing is to be told
        return any(is_called_photo(path) or is_image(path) for path in inner.files(folder))

    def refuse_lost(self):
        if self.lost:
            shown = first_few(f"{name} ({why})" for name, why in self.lost)
            raise ValueError(
                f"{self.root}: {len(self.lost)} files or folders would be lost: {shown}. Move them "
                "into a folder named by their class, or out of the source"
            )


def _parts(scan):
    """[(split, its folder)], or [("", root)] where the folders are classes."""
    folders = [path for path in scan.entries(scan.root) if path.is_dir()]
    scan.left_out.clear()  # the root is gone through again
    by_split = {}
    for folder in folders:
        if names.is_split(folder.name):
            by_split.setdefault(names.split_name(folder.name), []).append(folder)
    if not by_split:
        return [("", scan.root)]
    others = [folder for folder in folders if not names.is_split(folder.name)]
    nested = [folder for same in by_split.values() for folder in same if _has_folders(folder)]
    if others and len(by_split) < 2 and not nested:
        return [("", scan.root)]  # a class that is called like a split
    for split, same in by_split.items():
        if len(same) > 1:
            raise ValueError(
                f"{scan.root} holds {' and '.join(repr(path.name) for path in same)}, both of the "
                f"split {split}: keep one"
            )
    with_images = [folder for folder in others if scan.holds_images(folder)]
    if with_images:
        raise ValueError(
            f"{scan.root} holds the splits {', '.join(sorted(by_split))} and beside them "
            f"{first_few(repr(folder.name) for folder in with_images)}: move that out of the "
            "source if the others are splits, rename them if they are classes"
        )
    for path in scan.entries(scan.root):
        if path in others:
            scan.left_out.append(LeftOut(scan.name(path), EMPTY))
        elif not path.is_dir():
            if not path.exists() or is_called_photo(path) or is_image(path):
                scan.lost.append((scan.name(path), "beside the splits"))
            else:
                scan.left_out.append(LeftOut(scan.name(path), "not in a class folder, no image"))
    order = sorted(by_split.items(), key=lambda pair: names.SPLITS.index(pair[0]))
    return [(split, same[0]) for split, same in order]


def _has_folders(folder):
    return any(path.is_dir() and not is_system(path.name) for path in folder.iterdir())


def _notes(classes):
    spelt = {}
    for name in classes:
        spelt.setdefault(name.casefold(), []).append(name)
    for alike in spelt.values():
        if len(alike) > 1:
            yield f"classes that differ in case only: {', '.join(map(repr, alike))}"
