"""The limits that a student must keep to ship."""

import pytest

from kdtf import results
from kdtf.release import check_gates
from kdtf.results import DISTILLED, SHIPPED, TEACHER, Gate, Metrics


def measured(top1, **more):
    return Metrics(
        **{
            "top1": top1,
            "size_bytes": 4_087_136,
            "latency_ms": {"p50": 0.84, "p95": 0.95},
            "benchmark": {"device": "Test CPU", "threads": 1, "load_average": 0.4},
            **more,
        }
    )


def test_gates_golden():
    models = {TEACHER: Metrics(top1=0.96), DISTILLED: measured(0.93)}
    assert check_gates(models, DISTILLED) == (
        Gate(
            kind=results.TOP1,
            name="Top-1 accuracy",
            rule=">=",
            limit=0.92,
            unit="fraction",
            value=0.93,
            passed=True,
        ),
        Gate(
            kind=results.TEACHER_FRACTION,
            name="Share of the teacher's top-1",
            rule=">=",
            limit=0.95,
            unit="fraction",
            value=0.93 / 0.96,
            passed=True,
        ),
        Gate(
            kind=results.FILE_SIZE,
            name="File size",
            rule="<",
            limit=20e6,
            unit="bytes",
            value=4_087_136,
            passed=True,
        ),
        Gate(
            kind=results.LATENCY,
            name="p95 latency on Test CPU, 1 thread",
            rule="<",
            limit=25.0,
            unit="ms",
            value=0.95,
            passed=True,
        ),
    )


@pytest.mark.parametrize(
    "student, passed",
    [
        ({"top1": 0.92, "size_bytes": 19_999_999, "latency_ms": {"p95": 24.99}}, [True] * 4),
        (
            {"top1": 0.9199, "size_bytes": 20e6, "latency_ms": {"p95": 25.0}},
            [False, True, False, False],
        ),
        ({"top1": 0.87}, [False] * 4),
        ({"top1": float("nan"), "size_bytes": None, "latency_ms": {"p95": None}}, [False] * 4),
    ],
)
def test_gates_at_their_limits(student, passed):
    models = {TEACHER: Metrics(top1=0.92), DISTILLED: Metrics(**student)}
    gates = check_gates(models, DISTILLED, device="phone")
    assert [gate.passed for gate in gates] == passed
    assert all((gate.value is None) == gate.name.endswith("(not measured)") for gate in gates)
    assert gates[3].name.startswith("p95 latency on phone")


def test_gates_of_the_shipped_student_and_other_limits():
    models = {
        TEACHER: Metrics(top1=0.9),
        DISTILLED: measured(0.8),
        SHIPPED: measured(0.79, size_bytes=1),
    }
    gates = check_gates(
        models,
        top1_limit=0.7,
        teacher_fraction_limit=0.9,
        size_limit_bytes=1,
        p95_limit_ms=0.5,
    )
    assert [gate.value for gate in gates] == [0.79, 0.79 / 0.9, 1, 0.95]
    assert [gate.passed for gate in gates] == [True, False, False, False]
    with pytest.raises(ValueError, match="no model 'student'.*'distilled'"):
        check_gates(models, student=results.Model("student"))
