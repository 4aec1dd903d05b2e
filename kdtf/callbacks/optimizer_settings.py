"""With what an optimizer was compiled, and whether another one may go on from its state."""

import json
import warnings

# What neither the state nor the steps depend on.
_IRRELEVANT = {"name", "jit_compile", "is_legacy_optimizer", "registered_name", "module"}
_RATE = "learning_rate"
# Where an optimizer has it, and one that scales the loss of another.
_RATES = (_RATE, f"inner_optimizer.config.{_RATE}")


def read(optimizer):
    """Settings of an optimizer of either Keras as it stands.

    Returns:
      {setting: number, str or None}, "class" among them; those of inner optimizers and of
      schedules have their path, such as "learning_rate.config.decay_steps".
    """
    try:
        config = optimizer.get_config()
    except NotImplementedError:  # a schedule of the user's own, which does not tell
        config = {}
    config = json.loads(json.dumps(config, default=_plain))
    return {"class": type(optimizer).__name__, **_flat(config)}


def rate(settings):
    """The learning rate as a number, None where a schedule gives it; settings as of `read`."""
    rates = (settings.get(name) for name in _RATES)
    return next((each for each in rates if isinstance(each, float)), None)


def check(saved, present, path):
    """Refuses an optimizer whose steps mean something else than those of the state.

    Args:
      saved: as of `read`, of the optimizer that a checkpoint was written with.
      present: as of `read`.
      path: of the checkpoint.

    Raises:
      ValueError: another class, or other settings besides the learning rate.
    """
    for name in ("class", *sorted(_others(saved) | _others(present))):
        if saved.get(name) != present.get(name):
            raise ValueError(
                f"{path} was written with other settings of the optimizer: {name} was "
                f"{saved.get(name)!r}, is {present.get(name)!r}. Compile with what it was, or "
                "remove the file to start over"
            )
    if (rate(saved) is None) != (rate(present) is None):
        raise ValueError(
            f"{path} was written with a learning rate of {_rate_text(saved)}, this training has "
            f"{_rate_text(present)}: the state of a number does not fit a schedule. Compile with "
            "what it was, or remove the file to start over"
        )


def rate_changed(saved, present, path):
    """Whether the learning rate is compiled to be another one, which counts then; warns of it.

    Args:
      saved, present, path: as of `check`.
    """
    names = (saved.keys() | present.keys()) - _others(saved) - _others(present) - {"class"}
    if all(saved.get(name) == present.get(name) for name in names):
        return False
    warnings.warn(
        f"the training goes on with the learning rate it is compiled with, {_rate_text(present)}; "
        f"{path} was written with {_rate_text(saved)}",
        stacklevel=3,
    )
    return True


def _others(settings):
    """Names of the settings besides the class and the learning rate."""
    return {name for name in settings if _RATE not in name.split(".")} - {"class"}


def _rate_text(settings):
    if rate(settings) is not None:
        return f"{rate(settings):g}"
    parts = {name: value for name, value in settings.items() if _RATE in name.split(".")}
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in parts.items())


def _flat(config, path=""):
    flat = {}
    for name, value in config.items():
        if name in _IRRELEVANT:
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{path}{name}.")
        else:
            flat[f"{path}{name}"] = value
    return flat


def _plain(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return type(value).__name__
