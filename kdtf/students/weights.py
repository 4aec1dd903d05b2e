"""Weights of students, from files and other models: by layer, and nothing where they do not fit."""

import warnings
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

HEAD_LAYERS = ("logits", "fusion_logits")
_BRANCH_PREFIXES = ("embedding_", "fusion_")


def load_weights(student, path):
    """Start a student from a file; only the classifier may have another number of classes.

    Args:
      student: a model of `kdtf.students`, in either Keras.
      path: `.npz` with the arrays in the order of the student's weights without metadata (for
        mobilenet_v3_small the order of keras.applications.MobileNetV3Small with its top), or
        `.keras`, a saved student, matched by layer name.

    Returns:
      list of str: the layers left as they were: the head if its number of classes differs, and
      the metadata branch if the file has none.

    Raises:
      ValueError: the file is of another type, or a layer is missing, unknown or of another shape.
        Nothing has been loaded then.
      FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if path.suffix not in (".npz", ".keras"):
        raise ValueError(f"unknown type of weights file: {str(path)!r}; expected .npz or .keras")
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {str(path)!r}")
    if path.suffix == ".npz":
        with np.load(path) as archive:
            arrays = [archive[name] for name in archive.files]
        source = by_layer(student, arrays, path)
    else:
        with slash_in_input_keys():
            saved = keras.saving.load_model(path, compile=False)
        source = {layer.name: layer.get_weights() for layer in saved.layers if layer.weights}
    return assign(student, source, path)


def by_layer(student, arrays, origin):
    """Deal out arrays in the order of the image part's weights: {layer name: [array, ...]}."""
    image_layers = [
        layer
        for layer in student.layers
        if layer.weights and not layer.name.startswith(_BRANCH_PREFIXES)
    ]
    expected = sum(len(layer.weights) for layer in image_layers)
    if len(arrays) != expected:
        raise ValueError(
            f"{origin} holds {len(arrays)} arrays, {student.name} needs {expected}: "
            "save every weight of the whole model, classifier included"
        )
    remaining = iter(arrays)
    return {layer.name: [next(remaining) for _ in layer.weights] for layer in image_layers}


def assign(student, source, origin):
    """Sets a student's layers from {layer name: [array, ...]}, under the rules of `load_weights`.

    Args:
      student: a model of `kdtf.students`, in either Keras.
      source: {layer name: list of arrays}.
      origin: where they are from, for messages.

    Returns:
      list of str: the layers left as they were.

    Raises:
      ValueError: as `load_weights`.
    """
    targets = {layer.name: layer for layer in student.layers if layer.weights}
    missing = sorted(targets.keys() - source.keys())
    if all(name.startswith(_BRANCH_PREFIXES) for name in missing) and not any(
        name.startswith(_BRANCH_PREFIXES) for name in source
    ):
        missing = []
    unknown = sorted(source.keys() - targets.keys())
    if missing or unknown:
        raise ValueError(
            f"{origin} does not fit {student.name}: layers {missing} are not in the file, "
            f"layers {unknown} are not in the student; build the student that was saved"
        )
    fresh, fitting = [], []
    for name, layer in targets.items():
        if name not in source:
            fresh.append(name)
            continue
        wanted = [tuple(weight.shape) for weight in layer.weights]
        saved = [array.shape for array in source[name]]
        if saved == wanted:
            fitting.append(name)
        elif name in HEAD_LAYERS and [s[:-1] for s in saved] == [s[:-1] for s in wanted]:
            fresh.append(name)
        else:
            raise ValueError(
                f"{origin} does not fit {student.name}: layer {name!r} has shapes {saved} in the "
                f"file and {wanted} in the student; only the number of classes may differ"
            )
    for name in fitting:
        targets[name].set_weights(source[name])
    return fresh


@contextmanager
def slash_in_input_keys():
    """Context in which inputs may have keys such as "meta/x"."""
    # Keras 3 warns that the key "meta/x" is not the input's name, yet refuses "/" in names.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When providing `inputs` as a dict")
        yield
