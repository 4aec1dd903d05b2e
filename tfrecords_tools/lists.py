"""Photos named by lists: CSV files with a header, or header-less lines `path, label[, ...]`."""

import os
from dataclasses import replace
from pathlib import Path

from kdtf.data import names
from tfrecords_tools.folders import is_called_photo
from tfrecords_tools.listing import Listing, first_few
from tfrecords_tools.shards import Photo
from tfrecords_tools.tables import read_rows

# Other usual headers of the three columns, taken where there is none of the plain name.
_ALIASES = {
    "path": ("filename", "file_name", "filepath", "file_path", "file", "image_path", "image"),
    "label": ("class", "class_name", "classname", "category"),
    "split": ("subset",),
}


def from_lists(lists, root=None, class_names=None):
    """Photos named by lists: CSV with a header, or header-less lines `path, label[, ...]`.

    A header must name `path`; `label` (empty = unlabelled), `split` and metadata columns (empty =
    missing) are optional. `filename`, `class` and others are understood in their place, in any
    case. Header-less lines carry a path and a label; further fields are ignored. Fields are
    separated by commas, semicolons or tabs. pandas' unnamed index is passed over.

    Args:
      lists: {split: list file}; the split "" leaves it to the `split` column, or open.
      root: folder that relative paths start from; the list's own folder if None.
      class_names: CSV file (name, number: any header) that gives names to numeric labels, or None.

    Returns:
      `Listing`: classes in the order of `class_names`, of their numbers, or sorted.

    Raises:
      ValueError: a list that cannot be read as meant (see `tables.read_rows`), a header that is not
        understood or names a column twice, photos that do not exist, no label at all, names that
        do not fit; names file and row.
    """
    photos, rows = [], []
    for split, path in lists.items():
        path = Path(path)
        folder = Path(root or path.parent)
        for number, row in _records(path, folder):
            photos.append(_photo(row, f"{path}, row {number}", folder, split))
            rows.append(f"{path}, row {number}")
    _check_present(photos, rows)
    _check_once(photos, rows)
    labels = {photo.label for photo in photos} - {None}
    if not labels:
        raise ValueError(
            f"{first_few(lists.values())}: no photo has a label; name the column `label`"
        )
    if class_names is not None:
        by_number = _class_names(class_names)
        numbers = {label: int(label) for label in labels if _is_number(label)}
        unknown = sorted(label for label in labels if numbers.get(label) not in by_number)
        if unknown:
            raise ValueError(f"{class_names} does not name the labels {unknown[:5]}")
        named = [replace(p, label=p.label and by_number[numbers[p.label]]) for p in photos]
        return Listing(tuple(named), tuple(by_number.values()))
    numeric = all(map(_is_number, labels))
    # By spelling too: 7 and 007 are one number.
    classes = sorted(labels, key=lambda label: (int(label), label) if numeric else label)
    return Listing(tuple(photos), tuple(classes), notes=tuple(_notes(classes, numeric)))


def _photo(row, where, folder, split):
    if not row["path"]:
        raise ValueError(f"{where}: the path is empty")
    metadata = {
        name: names.normalized(value)
        for name, value in row.items()
        if name not in _ALIASES and value
    }
    if row.get("split"):
        try:
            own_split = names.split_name(row["split"])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if split and own_split != split:
            raise ValueError(f"{where}: says split {row['split']!r}, in the list of {split} photos")
        split = own_split
    label = names.normalized(row.get("label", "")) or None
    source = folder / os.fsdecode(row["path"].encode("utf-8"))  # UTF-8, whatever the locale
    return Photo(os.path.normpath(row["path"]), str(source), split, label, metadata)


def _records(path, folder):
    """Yields (number of the row, {column: field}) of a list."""

    def fits(fields):
        return bool(fields) and (is_called_photo(fields[0]) or _columns(path, fields) is not None)

    rows = read_rows(path, fits)
    columns = _columns(path, rows[0].fields)
    if columns is None:
        first = rows[0].fields
        if not is_called_photo(first[0]) and not (folder / first[0]).is_file():
            raise ValueError(
                f"{path}, row {rows[0].number}: neither a header with a column `path` nor a photo "
                f"and its label: {', '.join(first)!r}; name the columns `path` and `label`"
            )
        if len(first) < 2:
            raise ValueError(f"{path}, row {rows[0].number}: 1 fields, expected path, label")
        columns = ["path", "label"] + [None] * (len(first) - 2)
    else:
        header, *rows = rows
        if not rows:
            raise ValueError(f"{path} is empty: a header and no photo")
        columns = _without_index(path, columns, header.fields, rows)
    for row in rows:
        pairs = zip(columns, row.fields, strict=True)
        yield row.number, {name: field for name, field in pairs if name is not None}


def _columns(path, fields):
    """The columns that a header names, "" for one without a name; None if it is no header."""
    if any(map(is_called_photo, fields)):
        return None
    words = [field.casefold() for field in fields]
    columns = list(fields)
    for column, aliases in _ALIASES.items():
        places = [place for place, word in enumerate(words) if word == column]
        places = places or [place for place, word in enumerate(words) if word in aliases]
        if not places and column == "path":
            return None
        if len(places) > 1:
            given = " and ".join(repr(fields[place]) for place in places)
            raise ValueError(f"{path}: the header names the {column} twice, {given}: keep one")
        for place in places:
            columns[place] = column
    repeated = [name for name in columns if name and columns.count(name) > 1]
    if repeated:
        raise ValueError(f"{path}: the header names {repeated[0]!r} twice: rename one")
    return columns


def _without_index(path, columns, header, rows):
    """The columns with None for pandas' index; every other one must have a name."""
    columns = list(columns)
    for place, name in enumerate(header):
        if name and not name.startswith("Unnamed: "):
            continue
        counted = [row.fields[place] for row in rows]
        if all(map(_is_number, counted)) and len(set(counted)) == len(counted):
            columns[place] = None
        else:
            raise ValueError(
                f"{path}: column {place + 1} of the header has no name "
                f"({', '.join(header)}): name it, or leave it out"
            )
    return columns


def _check_present(photos, rows):
    absent = [
        f"{photo.source} ({where})"
        for photo, where in zip(photos, rows, strict=True)
        if not Path(photo.source).is_file()
    ]
    if absent:
        raise ValueError(
            f"{len(absent)} of {len(photos)} listed photos do not exist, the first is {absent[0]}: "
            "give the folder that the paths start from as --root"
        )


def _check_once(photos, rows):
    first = {}
    for photo, where in zip(photos, rows, strict=True):
        other = first.setdefault(photo.id, where)
        if other != where:
            raise ValueError(f"{where}: {photo.id!r} is listed before, in {other}")


def _class_names(path):
    """{number: name} of a file of names and numbers, by number."""
    rows = read_rows(path, lambda fields: False)
    if len(rows[0].fields) > 1 and not _is_number(rows[0].fields[1]):
        rows = rows[1:]  # the header
    given, numbers = {}, {}
    for row in rows:
        if len(row.fields) < 2 or not _is_number(row.fields[1]):
            raise ValueError(
                f"{path}, row {row.number}: expected a name and a number, got "
                f"{', '.join(row.fields)!r}"
            )
        name, number = names.normalized(row.fields[0]), int(row.fields[1])
        for value, known in ((number, given), (name, numbers)):
            if value in known:
                raise ValueError(
                    f"{path}, row {row.number}: {value!r} stands in row {known[value]} too: every "
                    "class needs one name and one number"
                )
        given[number], numbers[name] = row.number, row.number
    if not given:
        raise ValueError(f"{path} holds no rows `name,number`")
    by_row = {row: name for name, row in numbers.items()}
    return {number: by_row[given[number]] for number in sorted(given)}


def _is_number(text):
    return text.isascii() and text.isdigit()


def _notes(classes, numeric):
    spelt = {}
    for name in classes:
        spelt.setdefault(int(name) if numeric else name.casefold(), []).append(name)
    for alike in spelt.values():
        if len(alike) > 1:
            differ = "leading zeros" if numeric else "case"
            yield f"classes that differ in {differ} only: {', '.join(map(repr, alike))}"
