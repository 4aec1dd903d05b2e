"""What the values of a configuration may be: said in its fields' types, checked for everyone.

    @dataclass(frozen=True)
    class Config:
        alpha: Annotated[float, Interval(ge=0, le=1)] = 0.7

        def __post_init__(self):
            limits.check(self)

Limits are those of `annotated_types`. Fields are int, float, bool, str, a `Literal` of strings, a
tuple of one of these, or one of these or None. What one value forbids another is told by a method
`conflicts()` of the class, which gives (field, rule) pairs.
"""

import dataclasses
import math
import numbers
import types
import typing
from typing import Annotated, Any, Literal, NamedTuple

import annotated_types


class Problem(NamedTuple):
    """A value that cannot be: the field's name, the value, and the rule ("must be at least 1")."""

    field: str
    value: Any
    rule: str


class ConfigError(ValueError):
    """Values that a configuration cannot have; `problems` are `Problem`s."""

    def __init__(self, problems):
        self.problems = list(problems)
        super().__init__("; ".join(f"{p.field} {p.rule}, got {p.value!r}" for p in self.problems))


class Field(NamedTuple):
    """A field of a configuration.

    name, default: as declared; default is `dataclasses.MISSING` where one must be given.
    kind: int, float, bool, str or a Literal, of the value or of each of its elements.
    many: whether the value is a tuple of them.
    optional: whether it may be None.
    metadata: what its type is annotated with.
    element_metadata: the same of a tuple's elements.
    """

    name: str
    kind: Any
    many: bool
    optional: bool
    default: Any
    metadata: tuple
    element_metadata: tuple

    @property
    def choices(self):
        """Values of a Literal, else ()."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else ()

    @property
    def limit(self):
        """Text: what the value, or each element, must be; "" where anything goes."""
        bounds = _bounds(self.element_metadata if self.many else self.metadata)
        if self.choices:
            return _one_of(self.choices)
        if self.kind is int and not bounds:
            return "a whole number"
        if self.kind is float and not bounds:
            return "a number"
        return bounds

    def rule(self, value):
        """What a value of the right type breaks, "must be at least 1"; None where it is fine."""
        if self.optional and value is None:
            return None
        if not self.many:
            return self._element_rule(value, self.metadata)
        if not isinstance(value, (tuple, list)):
            return "must be a tuple"
        for each in self.metadata:
            if isinstance(each, annotated_types.MinLen) and len(value) < each.min_length:
                return f"must hold at least {each.min_length} values"
        rules = (self._element_rule(each, self.element_metadata) for each in value)
        return next(filter(None, rules), None)

    def _element_rule(self, value, metadata):
        if self.choices:
            return None if value in self.choices else f"must be {self.limit}"
        if self.kind is bool:
            return None if isinstance(value, bool) else "must be True or False"
        if self.kind is int:
            kind = numbers.Integral, "a whole number"
        elif self.kind is float:
            kind = numbers.Real, "a number"
        else:
            return None
        if isinstance(value, bool) or not isinstance(value, kind[0]):
            limit = "" if self.limit == kind[1] else f", {self.limit}"
            return f"must be {kind[1]}{limit}"
        if not math.isfinite(value):
            return f"must be a finite number{', ' + self.limit if self.limit != kind[1] else ''}"
        if not all(_within(value, each) for each in metadata):
            return f"must be {self.limit}"
        return None


def fields(configuration):
    """list of `Field`: those of a dataclass."""
    hints = typing.get_type_hints(configuration, include_extras=True)
    listed = []
    for field in dataclasses.fields(configuration):
        kind, metadata, optional = _unwrapped(hints[field.name])
        many = typing.get_origin(kind) is tuple
        element_metadata = ()
        if many:
            kind, element_metadata, _ = _unwrapped(typing.get_args(kind)[0])
        listed.append(
            Field(field.name, kind, many, optional, field.default, metadata, element_metadata)
        )
    return listed


def problems(configuration, values):
    """Every value that a field of a dataclass cannot have.

    Args:
      configuration: the dataclass.
      values: {field: value}; fields that are not in it are not looked at.

    Returns:
      list of `Problem`.
    """
    rules = [
        (field.name, field.rule(values[field.name]))
        for field in fields(configuration)
        if field.name in values
    ]
    return [Problem(name, values[name], rule) for name, rule in rules if rule]


def check(config):
    """Refuses an instance whose values are outside their limits; call it in `__post_init__`.

    Raises:
      ConfigError: a `ValueError` that names every wrong field, its limit and its value.
    """
    wrong = problems(type(config), vars(config))
    if not wrong and hasattr(config, "conflicts"):
        wrong = [Problem(name, getattr(config, name), rule) for name, rule in config.conflicts()]
    if wrong:
        raise ConfigError(wrong)


def _unwrapped(hint):
    """(type, what it is annotated with, whether None may stand for it)."""
    metadata, optional = (), False
    while True:
        if typing.get_origin(hint) is Annotated:
            hint, metadata = hint.__origin__, (*hint.__metadata__, *metadata)
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            (hint,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
            optional = True
        else:
            return hint, _flat(metadata), optional


def _flat(metadata):
    """Intervals taken apart into their ends."""
    flat = []
    for each in metadata:
        flat += each if isinstance(each, annotated_types.GroupedMetadata) else [each]
    return tuple(flat)


def _within(value, limit):
    match limit:
        case annotated_types.Ge(ge=low):
            return value >= low
        case annotated_types.Gt(gt=low):
            return value > low
        case annotated_types.Le(le=high):
            return value <= high
        case annotated_types.Lt(lt=high):
            return value < high
    return True


def _bounds(metadata):
    """Text of the bounds of a number, "from 0 to 1"; "" where there are none."""
    ends = {type(each): each for each in metadata}
    closed = annotated_types.Ge in ends and annotated_types.Le in ends
    if closed:
        return f"from {ends[annotated_types.Ge].ge} to {ends[annotated_types.Le].le}"
    words = [
        f"{word} {getattr(ends[kind], kind.__name__.lower())}"
        for kind, word in (
            (annotated_types.Ge, "at least"),
            (annotated_types.Gt, "above"),
            (annotated_types.Le, "at most"),
            (annotated_types.Lt, "below"),
        )
        if kind in ends
    ]
    return " and ".join(words)


def _one_of(choices):
    if len(choices) == 1:
        return str(choices[0])
    if len(choices) == 2:
        return f"{choices[0]} or {choices[1]}"
    return f"one of {', '.join(map(str, choices))}"
