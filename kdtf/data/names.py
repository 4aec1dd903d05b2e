"""Names that a data set may use: of classes, of metadata columns, of splits.

They become lines of `labels.txt`, inputs of Keras models and of .tflite files, and file names: what
one of these cannot hold is refused where the data set is written and where a run begins.
"""

import difflib
import re
import unicodedata
from collections import defaultdict

SPLITS = ("train", "val", "test")
_SPELLINGS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_COLUMN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SPLIT = re.compile(r"[a-z0-9_]+")
_BREAKING = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line separators


def normalized(name):
    """A name as it is stored: composed Unicode (NFC), without white space at its ends."""
    return unicodedata.normalize("NFC", name).strip()


def split_name(text):
    """The split that a word names: train, val (valid, validation), test, or another.

    Raises:
      ValueError: no file can be called so, or it looks like a misspelt train, val or test.
    """
    word = normalized(text).casefold()
    if word in _SPELLINGS:
        return _SPELLINGS[word]
    if not _SPLIT.fullmatch(word):
        raise ValueError(
            f"a split is called {text!r}: use train, val, test, or letters, digits and underscores"
        )
    near = difflib.get_close_matches(word, _SPELLINGS, 1, cutoff=0.8)
    if near and word.isalpha():
        raise ValueError(f"a split is called {text!r}: did you mean {near[0]!r}?")
    return word


def is_split(text):
    """Whether a word is a usual spelling of train, val or test."""
    return normalized(text).casefold() in _SPELLINGS


def check_classes(classes):
    """Refuses class names of which no list can be made, one name a line.

    Args:
      classes: class names in label order.

    Raises:
      ValueError: one is empty, has a line break or another control character, white space at its
        ends, or occurs twice (NFC and NFD spellings are one name); says which.
    """
    first = {}
    for position, name in enumerate(classes):
        where = f"class {position} is called {name!r}"
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{where}: a class needs a name that can be seen")
        breaking = [c for c in name if unicodedata.category(c) in _BREAKING]
        if breaking:
            raise ValueError(
                f"{where}, with the character {breaking[0]!r}: labels.txt holds one name a line, "
                "so a name must not have line breaks or control characters; rename it"
            )
        if name != name.strip():
            raise ValueError(f"{where}, with white space at its ends: remove it")
        other = first.setdefault(normalized(name), position)
        if other != position:
            raise ValueError(f"{where}, and so is class {other}: give every class its own name")


def check_columns(columns):
    """Refuses metadata columns that cannot be inputs of a model that is trained and exported.

    Args:
      columns: names of the metadata columns.

    Raises:
      ValueError: a name with other characters than ASCII letters, digits, `_`, `-` and `.`, or two
        that differ in case or in these marks only; says which and how to rename.
    """
    spelt = defaultdict(list)
    for column in columns:
        if not _COLUMN.fullmatch(column):
            raise ValueError(
                f"metadata column {column!r} cannot be an input of a model: rename it to "
                f"{_proposed(column)!r} (ASCII letters, digits, _, - and .), or leave it out"
            )
        spelt[re.sub("[.-]", "_", column).casefold()].append(column)
    for alike in spelt.values():
        if len(alike) > 1:
            raise ValueError(
                f"metadata columns {' and '.join(map(repr, alike))} would be one input of a model: "
                "names must differ in more than case and the marks _, - and ."
            )


def _proposed(column):
    plain = unicodedata.normalize("NFKD", column.replace("ß", "ss"))
    ascii_only = plain.encode("ascii", "ignore").decode()
    return re.sub("[^A-Za-z0-9_.-]+", "_", ascii_only).strip("_.-") or "column"
