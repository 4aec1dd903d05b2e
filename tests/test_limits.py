"""Limits of configurations: each is held at its ends, for library users as on the command line."""

import importlib
import math
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Literal

import annotated_types
import pytest
from annotated_types import Ge, Interval, MinLen

from kdtf import limits
from kdtf.pipeline.commands.distill import DistillArguments
from kdtf.pipeline.commands.retrain import RetrainArguments
from kdtf.pipeline.commands.sweep import SweepArguments
from kdtf.pipeline.commands.teacher import TeacherArguments
from kdtf.pipeline.config import EMBEDDED, EMBEDDED_TEACHER, DistillConfig, TeacherConfig
from kdtf.study.command import StudyArguments
from kdtf.study.config import StudyConfig

TOOLS = {
    "build": "BuildArguments",
    "cache_logits": "CacheLogitsArguments",
    "show": "ShowArguments",
    "synthetic": "SyntheticArguments",
    "throughput": "ThroughputArguments",
    "validate": "ValidateArguments",
}
CONFIGURATIONS = [
    TeacherConfig,
    TeacherArguments,
    DistillConfig,
    DistillArguments,
    SweepArguments,
    RetrainArguments,
    StudyConfig,
    StudyArguments,
    *(
        getattr(importlib.import_module(f"tfrecords_tools.{module}"), name)
        for module, name in TOOLS.items()
    ),
]
FIELDS = [(each, field) for each in CONFIGURATIONS for field in limits.fields(each)]
NUMBERS = [pair for pair in FIELDS if pair[1].kind in (int, float)]


def name(value):
    return value.__name__ if isinstance(value, type) else value.name


def ends(field):
    """(values that are in, values just outside) of a field's or its elements' bounds."""
    inside, outside = [], []
    for limit in field.element_metadata if field.many else field.metadata:
        match limit:
            case annotated_types.Ge(end):
                inside.append(end)
                outside.append(step(field.kind, end, -1))
            case annotated_types.Le(end):
                inside.append(end)
                outside.append(step(field.kind, end, 1))
            case annotated_types.Gt(end):
                inside.append(step(field.kind, end, 1))
                outside.append(end)
            case annotated_types.Lt(end):
                inside.append(step(field.kind, end, -1))
                outside.append(end)
    return inside, outside


def step(kind, value, direction):
    """The next number of a kind, up or down."""
    return value + direction if kind is int else math.nextafter(value, direction * math.inf)


def broken(configuration, field, value):
    value = (value,) * 3 if field.many else value
    return limits.problems(configuration, {field.name: value})


@pytest.mark.parametrize(("configuration", "field"), NUMBERS, ids=name)
def test_every_number_has_limits_and_keeps_them(configuration, field):
    inside, outside = ends(field)
    assert outside, "a number without any limit"
    for value in inside:
        assert not broken(configuration, field, value)
    for value in [*outside, math.nan, math.inf, "1", True]:
        (problem,) = broken(configuration, field, value)
        assert problem.field == field.name and field.limit in problem.rule
    if field.kind is int:
        assert broken(configuration, field, 1.5)
    assert bool(broken(configuration, field, None)) != (field.optional and not field.many)


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=name)
def test_defaults_are_within_limits(configuration):
    defaults = {
        field.name: field.default for field in fields(configuration) if field.default is not MISSING
    }
    assert not limits.problems(configuration, defaults)


def test_library_users_get_a_value_error():
    for wrong, message in (
        ({"alpha": 2}, "alpha must be from 0 to 1, got 2"),
        ({"epochs": 0, "views": 0}, "epochs must be at least 1, got 0; views must be at least 1"),
        ({"student": "both"}, "student must be none or metadata, got 'both'"),
        ({"teacher": "train"}, "teacher must be a tuple, got 'train'"),
        ({"teacher": ()}, r"teacher must hold at least 1 values, got \(\)"),
        ({"online_teacher": 1}, "online_teacher must be True or False, got 1"),
        ({"taskset": "f0"}, "taskset needs --adb"),
    ):
        with pytest.raises(ValueError, match=message):
            DistillConfig(**wrong)
    with pytest.raises(limits.ConfigError) as error:
        TeacherConfig(dropout=1, ema=2)
    assert [problem.field for problem in error.value.problems] == ["dropout", "ema"]
    assert EMBEDDED.epochs and EMBEDDED_TEACHER.epochs


def test_what_limits_say():
    @dataclass
    class Config:
        half: Annotated[float, Interval(gt=0, le=0.5)] = 0.5
        low: Annotated[int | None, Ge(1)] = None
        many: Annotated[tuple[Literal["a", "b", "c"], ...], MinLen(2)] = ("a", "b")

    half, low, many = limits.fields(Config)
    assert (half.limit, half.optional, half.many) == ("above 0 and at most 0.5", False, False)
    assert (low.limit, low.optional) == ("at least 1", True)
    assert (many.limit, many.choices) == ("one of a, b, c", ("a", "b", "c"))
    assert many.rule(("a",)) == "must hold at least 2 values"
    assert many.rule(("a", "d")) == "must be one of a, b, c"
    assert half.rule(0.25) is None and low.rule(None) is None
