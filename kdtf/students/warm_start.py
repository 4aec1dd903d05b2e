"""An earlier student as the start of a new one, though classes and words may have come and gone."""

import json
from pathlib import Path
from typing import NamedTuple

import keras

from kdtf.students import weights


class Mapped(NamedTuple):
    """Class names: those taken over, those that are new, and those left behind."""

    kept: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]

    def summary(self):
        """The counts, and the names that came and went."""
        text = f"{len(self.kept)} classes taken over by name"
        for names, what in ((self.added, "new"), (self.removed, "gone")):
            if names:
                text += f", {len(names)} {what} ({_listed(names)})"
        return text


def load(student, path, classes, vocabularies=None):
    """Starts a student from a trained one, class by class and word by word.

    What the head knows of a class goes where that class is now, by name; new classes keep their
    fresh start. So do the rows of new words in metadata. All other layers must be of one shape.

    Args:
      student: new `students.mobilenet_v3_small` in Keras 3.
      path: `.keras` file of such a student; `<name>.json` beside it names its "classes" and, where
        it takes metadata, "metadata" ({column: vocabulary}).
      classes: class names of the new student, in order.
      vocabularies: {column: vocabulary} of the new student's metadata; None where it takes none.

    Returns:
      `Mapped`.

    Raises:
      FileNotFoundError: one of the two files is missing.
      ValueError: the two have no class in common, other metadata columns or other layers; the
        facts do not fit the file. Nothing has been loaded then.
    """
    path = Path(path)
    facts = _facts(path)
    if not path.is_file():
        raise FileNotFoundError(f"no student at {path}: give the .keras file of an earlier run")
    before, now = facts["classes"], list(classes)
    mapped = Mapped(
        tuple(name for name in now if name in set(before)),
        tuple(name for name in now if name not in set(before)),
        tuple(name for name in before if name not in set(now)),
    )
    if not mapped.kept:
        raise ValueError(
            f"{path} knows {_listed(before)}, the data set has {_listed(now)}: no class is in "
            "both, so start from --weights instead"
        )
    old_words, new_words = facts.get("metadata") or {}, vocabularies or {}
    if old_words and old_words.keys() != new_words.keys():
        raise ValueError(
            f"{path} takes metadata {sorted(old_words)}, this student "
            f"{sorted(new_words) or 'none'}: train with the same columns, or start from --weights "
            "instead"
        )
    saved = keras.models.load_model(path, compile=False)
    if saved.output_shape[-1] != len(before):
        raise ValueError(
            f"{path} has {saved.output_shape[-1]} classes, {path.with_suffix('.json')} names "
            f"{len(before)}: they are not of one training"
        )
    source = {layer.name: layer.get_weights() for layer in saved.layers if layer.weights}
    fresh = {layer.name: layer.get_weights() for layer in student.layers if layer.weights}
    for name in weights.HEAD_LAYERS:
        if name in source and name in fresh:
            source[name] = [
                _moved(old, new, before, now, axis=-1)
                for old, new in zip(source[name], fresh[name], strict=True)
            ]
    for column, words in old_words.items():
        name = f"embedding_{column}"
        missing = [None]  # row 0
        source[name] = [
            _moved(
                source[name][0],
                fresh[name][0],
                missing + list(words),
                missing + list(new_words[column]),
                axis=0,
            )
        ]
    weights.assign(student, source, path)
    return mapped


def _facts(path):
    described = path.with_suffix(".json")
    if not described.is_file():
        raise FileNotFoundError(
            f"no {described}, which names the classes of {path}: keep the two together"
        )
    facts = json.loads(described.read_text(encoding="utf-8"))
    if not facts.get("classes"):
        raise ValueError(
            f"{described} names no classes: --weights {path} takes the head as it is, if the "
            "classes and their order are the same"
        )
    return facts


def _moved(old, new, before, now, axis):
    """`new` with the slices of `old` whose names are in both, each at its new position."""
    positions = {name: position for position, name in enumerate(before)}
    moved = new.swapaxes(0, axis).copy()
    earlier = old.swapaxes(0, axis)
    if earlier.shape[1:] != moved.shape[1:]:
        return old  # of another width: assign() tells
    for position, name in enumerate(now):
        if name in positions:
            moved[position] = earlier[positions[name]]
    return moved.swapaxes(0, axis)


def _listed(names):
    shown = ", ".join(map(repr, names[:3]))
    return f"{shown}, ... ({len(names)})" if len(names) > 3 else shown
