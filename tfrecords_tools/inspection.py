"""Which files are no images, and which photos are damaged: all of them, before work begins."""

import functools
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from tfrecords_tools.folders import NO_IMAGE, is_called_photo
from tfrecords_tools.listing import LeftOut, left_out_lines

_CHUNK = 128  # photos of one job
_LISTED = 1000  # lines of a refusal


class Findings(NamedTuple):
    """What became of photos: those that can be written, those left out, and (id, fault)s."""

    photos: list
    left_out: list
    broken: list


def inspect(photos, encode, run, skip_strays):
    """Encodes every photo once and keeps what went wrong.

    Args:
      photos: `shards.Photo`s whose source is a path.
      encode: picklable function of a `Photo` to JPEG bytes.
      run: engine: function of (picklable function, items) to the results in the order of the items.
      skip_strays: whether a file that neither is nor is called a photo is left out (as in folders)
        instead of being a fault (as in lists, which name it).

    Returns:
      `Findings`.
    """
    photos = list(photos)
    jobs = [photos[start : start + _CHUNK] for start in range(0, len(photos), _CHUNK)]
    found = Findings([], [], [])
    with tqdm(total=len(photos), unit="photo", desc="checking") as bar:
        for job, faults in zip(jobs, run(functools.partial(_faults, encode), jobs), strict=True):
            for photo, fault in zip(job, faults, strict=True):
                if fault is None:
                    found.photos.append(photo)
                elif fault == NO_IMAGE and skip_strays and not is_called_photo(photo.source):
                    found.left_out.append(LeftOut(photo.id, NO_IMAGE))
                elif fault == NO_IMAGE:
                    fault = f"{photo.source} is not a photo that Pillow knows"
                    found.broken.append((photo.id, fault))
                else:
                    found.broken.append((photo.id, fault))
            bar.update(len(job))
    return found


def report_lines(listing, found):
    """Lines of text: what gives no photo, and what looks odd.

    Args:
      listing: `listing.Listing`.
      found: `Findings` of its photos.
    """
    damaged = [LeftOut(name, "damaged") for name, _ in found.broken]
    return [*left_out_lines([*listing.left_out, *found.left_out, *damaged]), *listing.notes]


def refusal(broken, total):
    """Text of a refusal that lists all damaged photos."""
    lines = [f"  {fault}" for _, fault in broken[:_LISTED]]
    if len(broken) > _LISTED:
        lines.append(f"  and {len(broken) - _LISTED} more")
    return "\n".join(
        [
            f"{len(broken)} of {total} photos are damaged: mend or remove them, or leave them out "
            "with --skip-broken",
            *lines,
        ]
    )


def _faults(encode, photos):
    """On a worker: for each photo None, `NO_IMAGE`, or what is wrong with it."""
    return [_fault(encode, photo) for photo in photos]


def _fault(encode, photo):
    try:
        with Image.open(photo.source):
            pass
    except UnidentifiedImageError:
        return NO_IMAGE
    except Exception:  # the encoder says what it is, or copes
        pass
    try:
        encode(photo)
    except Exception as error:  # of whatever kind: damaged files have many
        text = str(error)
        return text if photo.source in text else f"{photo.source} cannot be encoded: {error!r}"
    return None
