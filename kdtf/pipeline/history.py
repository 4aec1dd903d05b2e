"""Curves of a training as JSON holds them."""

import math


def finite_or_none(value):
    """The number, or None where it is infinite or not a number: JSON has neither."""
    return value if math.isfinite(value) else None


def to_json(history):
    """{curve: values by epoch}, None where a training diverged."""
    return {name: [finite_or_none(value) for value in values] for name, values in history.items()}
