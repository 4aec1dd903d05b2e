"""The sample weight of each class, from a list or from Keras's `class_weight`."""

import numbers
from collections.abc import Mapping

import numpy as np


def as_vector(class_weights, classes):
    """Weights as a vector, checked.

    Args:
      class_weights: float [classes]; or {class number: float}, as `fit(class_weight=)` has it,
        where a class that is left out weighs 1; or None, all 1.
      classes: how many classes there are.

    Returns:
      float32 [classes].

    Raises:
      ValueError: another number of weights, a key that is no class number, a weight that is
        negative or not finite, or none above 0; names the class.
    """
    if class_weights is None:
        return np.ones(classes, np.float32)
    if isinstance(class_weights, Mapping):
        weights = [1.0] * classes
        for number, weight in class_weights.items():
            whole = isinstance(number, numbers.Integral) and not isinstance(number, bool)
            if not whole or not 0 <= number < classes:
                raise ValueError(
                    f"class_weights has the key {number!r}, expected class numbers from 0 to "
                    f"{classes - 1}"
                )
            weights[number] = weight
    else:
        weights = list(class_weights)
        if len(weights) != classes:
            raise ValueError(
                f"class_weights has {len(weights)} entries, the data set has {classes} classes: "
                "give one weight per class, or a dict {class number: weight}"
            )
    for number, weight in enumerate(weights):
        if not _is_weight(weight):
            raise ValueError(
                f"class_weights gives class {number} the weight {weight!r}, expected a finite "
                "number from 0"
            )
    vector = np.asarray(weights, np.float32)
    if not vector.any():
        raise ValueError("class_weights are all 0: nothing would be learned, give some more than 0")
    return vector


def _is_weight(value):
    if isinstance(value, (bool, str)) or np.ndim(value):
        return False
    try:
        return bool(0 <= np.float32(value) < np.inf)
    except (TypeError, ValueError):
        return False
