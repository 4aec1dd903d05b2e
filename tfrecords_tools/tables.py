"""Tables in text files: comma, semicolon or tab between fields, every row checked."""

import codecs
import csv
import io
from typing import NamedTuple

_DELIMITERS = (",", "\t", ";")


class Row(NamedTuple):
    """One row: the line of the file that it stands in, from 1, and its fields, stripped."""

    number: int
    fields: list[str]


def read_rows(path, fits):
    """Rows of a table, the header among them.

    Quotes may follow a space (`"a.jpg", "Milk, 1 l"`). Empty rows are passed over.

    Args:
      path: of the file: UTF-8, with or without byte order mark, or UTF-16 with one.
      fits: function of the first row's fields to whether they make sense: decides between
        delimiters where the first line has several.

    Returns:
      list of `Row`, all of one length.

    Raises:
      ValueError: no such file, another encoding, a quote that is not closed, a row that is longer
        or shorter than the first, a field with a line break, no row at all; names file and row.
    """
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip(" ,;\t")), None)
    if first is None:
        raise ValueError(f"{path} is empty")
    rows = _split(path, text, _delimiter(first, fits))
    width = len(rows[0].fields)
    for row in rows:
        if len(row.fields) != width:
            raise ValueError(
                f"{path}, row {row.number}: {len(row.fields)} fields, where row {rows[0].number} "
                f"has {width} ({', '.join(rows[0].fields)}): {_shown(row.fields)}; a field with a "
                'comma must stand in quotes: "Milk, 1 l"'
            )
    return rows


def _text(path):
    try:
        with open(path, "rb") as stream:
            raw = stream.read()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such list") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder, expected a list of photos") from None
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, row {line}: byte 0x{raw[error.start]:02x} is not "
            f"{'UTF-16' if wide else 'UTF-8'}; save the list as UTF-8 "
            f"(iconv -f latin1 -t utf-8, for example)"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(
            f"{path}, row {line}: holds NUL characters; if it is UTF-16 without a byte order mark, "
            "save it as UTF-8"
        )
    return text


def _delimiter(line, fits):
    present = [mark for mark in _DELIMITERS if mark in line]
    for mark in present:
        if fits(_fields(line, mark)):
            return mark
    return present[0] if present else ","


def _fields(line, delimiter):
    reader = csv.reader([line], delimiter=delimiter, skipinitialspace=True)
    try:
        return [field.strip() for field in next(reader, [])]
    except csv.Error:
        return []


def _split(path, text, delimiter):
    # Tabs count as the white space that may stand in front of a quote: not where they are marks.
    skip = delimiter != "\t"
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=skip, strict=True)
    rows, number = [], 1
    while True:
        number = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{path}, row {number}: {error}, in {_shown([_line(text, number)])}: is a quote "
                "not closed?"
            ) from None
        if fields is None:
            return rows
        for field in fields:
            if len(field.splitlines()) > 1 or field.endswith(("\n", "\r")):
                raise ValueError(
                    f"{path}, row {number}: a field holds a line break: {_shown([field])}; is a "
                    "quote not closed?"
                )
        fields = [field.strip() for field in fields]
        if any(fields):
            rows.append(Row(number, fields))


def _line(text, number):
    lines = io.StringIO(text, newline="").readlines()
    return lines[number - 1].rstrip("\r\n") if number <= len(lines) else ""


def _shown(fields, width=80):
    text = ", ".join(fields)
    return repr(text if len(text) <= width else text[:width] + "...")
