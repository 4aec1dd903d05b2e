"""What Keras's callbacks remember from epoch to epoch, to be kept and given back."""

import collections
import warnings

import numpy as np

from kdtf import keras_private


def named(callbacks):
    """{name: callback} of those that remember something; a name tells what one looks at."""
    seen, names = collections.Counter(), {}
    for callback in callbacks:
        kind = _kind(callback)
        if kind is not None:
            name = f"{kind} of {callback.monitor}"
            seen[name] += 1
            names[name if seen[name] == 1 else f"{name}, number {seen[name]}"] = callback
    return names


def read(callbacks):
    """What callbacks remember.

    Args:
      callbacks: {name: callback}, as `named` gives.

    Returns:
      {name: {attribute: number, None, or list of arrays}}.
    """
    return {
        name: {
            attribute: _plain(getattr(callback, attribute))
            for attribute in keras_private.REMEMBERED[_kind(callback)]
            if hasattr(callback, attribute)
        }
        for name, callback in callbacks.items()
    }


def write(callbacks, states):
    """Gives callbacks back what `read` has read; both by name, of which either may have more."""
    for name in callbacks.keys() & states.keys():
        for attribute, value in states[name].items():
            setattr(callbacks[name], attribute, value)


def packed(states):
    """(What `read` gave as JSON has it, {name in an archive: array} of what JSON has not)."""
    plain, arrays = {}, {}
    for name, state in states.items():
        plain[name] = {}
        for attribute, value in state.items():
            if isinstance(value, list):
                keys = [f"c{len(arrays) + number}" for number in range(len(value))]
                arrays |= dict(zip(keys, value, strict=True))
                value = keys
            plain[name][attribute] = value
    return plain, arrays


def unpacked(plain, archive):
    """What `packed` was given; archive: {name: array}."""
    return {
        name: {
            attribute: [archive[key] for key in value] if isinstance(value, list) else value
            for attribute, value in state.items()
        }
        for name, state in plain.items()
    }


def warn_of_others(callbacks, states, path):
    """Warns of callbacks that begin anew, because a checkpoint has nothing of them."""
    for name, callback in callbacks.items():
        if name not in states and getattr(callback, "save_best_only", True):
            warnings.warn(f"{name} begins anew: {path} has nothing of it", stacklevel=3)


def may_go_on(callbacks, states):
    """Whether a training that had been stopped may go on: what stopped it has changed.

    It has where the `EarlyStopping` that stopped it is gone, or is more patient than it was; the
    states then forget that it stopped.
    """
    stopped = [name for name, state in states.items() if state.get("stopped_epoch")]
    for name in stopped:
        if name in callbacks and states[name]["wait"] >= callbacks[name].patience:
            return False
        states[name]["stopped_epoch"] = 0
    return bool(stopped)


def _kind(callback):
    kinds = [each.__name__ for each in type(callback).__mro__]
    return next((kind for kind in kinds if kind in keras_private.REMEMBERED), None)


def _plain(value):
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, list):
        return [np.asarray(each) for each in value]
    return float(np.asarray(value))
