"""results.json as types: what is written, and what older files meant."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest

from kdtf import results
from kdtf.results import Comparison, Gate, Metrics, Model, Results

# As kdtf wrote it before results.json named its version.
VERSION_1 = {
    "models": {
        "distilled_ptq_int8": {"top1": 0.7, "parity": None},
        "teacher": {"top1": 0.9, "mid_top1": None, "intervals": {"top1": [0.85, 0.93]}},
        "distilled_int8": {
            "top1": 0.8,
            "size_bytes": 2_000_000,
            "latency_ms": {"p50": 0.4, "p95": 0.5},
            "benchmark": {"device": "Test CPU", "threads": 1, "memory_bytes": None},
            "slices": {
                "shop": [{"value": "north", "examples": 9, "small": True, "top1": 0.6}],
                "small": [],
            },
            "my_own": 1,
        },
        "my_student": None,
    },
    "classes": [{"name": "apple", "train_examples": 5, "test_examples": 2}],
    "gates": [
        {
            "name": name,
            "rule": ">=",
            "limit": limit,
            "unit": unit,
            "value": None,
            "passed": False,
        }
        for name, unit, limit in (
            ("Top-1 accuracy", "fraction", 0.92),
            ("Share of the teacher's top-1", "fraction", 0.95),
            ("File size", "bytes", 20e6),
            ("p95 latency on Test CPU, 1 thread (not measured)", "ms", 25.0),
        )
    ],
    "verdict": None,
    "verdict_int8": {
        "verdict": "helps",
        "difference": 0.02,
        "interval": [0.01, 0.03],
        "p_value": 0.004,
        "test_examples": 233,
        "slices": {"shop": [{"value": None, "small": False}]},
    },
    "history": {
        "distilled": {"loss": [3.0], "hard_loss": [2.0], "soft_loss": [1.0]},
        "baseline_int8": {"val_hard_loss": [None, 0.5], "val_accuracy": [0.5, 0.6]},
        "teacher": None,
    },
    "environment": {"device": "Test CPU"},
    "note": "kept",
}


def written(folder, raw):
    path = folder / results.FILE
    path.write_text(json.dumps(raw))
    return path


def test_version_1_is_read(tmp_path):
    run = results.read(written(tmp_path, VERSION_1))
    assert list(run.models) == [
        Model("teacher"),
        Model("distilled", "int8"),
        Model("distilled", "ptq_int8"),
        Model("my_student"),
    ]
    shipped = run.models[results.SHIPPED]
    assert (shipped.top1, shipped.latency_ms["p95"], shipped.nll) == (0.8, 0.5, None)
    assert shipped.more == {"my_own": 1} and run.more == {"note": "kept"}
    assert run.models[Model("my_student")] == Metrics()
    assert [gate.kind for gate in run.gates] == [
        results.TOP1,
        results.TEACHER_FRACTION,
        results.FILE_SIZE,
        results.LATENCY,
    ]
    assert run.gate(results.FILE_SIZE).limit == 20e6
    # Only a slice's own key has another name: a column may have the old one.
    assert shipped.slices == {
        "shop": [{"value": "north", "examples": 9, "low_support": True, "top1": 0.6}],
        "small": [],
    }
    assert run.verdict is None
    assert run.verdict_int8.slices == {"shop": [{"value": None, "low_support": False}]}
    assert (run.verdict_int8.seeds, run.verdict_int8.confidence) == (1, 0.95)
    assert run.history == {
        results.DISTILLED: {"loss": [3.0], "label_loss": [2.0], "distillation_loss": [1.0]},
        results.BASELINE.at("int8"): {
            "val_label_loss": [None, 0.5],
            "val_accuracy": [0.5, 0.6],
        },
        results.TEACHER: {},
    }


def test_what_is_written_is_read_back(tmp_path):
    run = results.read(written(tmp_path, VERSION_1))
    results.write(tmp_path / "w47" / results.FILE, run)
    assert results.read(tmp_path / "w47") == run
    assert results.read(str(tmp_path / "w47" / results.FILE)) == run
    raw = json.loads((tmp_path / "w47" / results.FILE).read_text())
    assert raw["schema_version"] == 2
    row = raw["models"]["distilled_int8"]
    assert (row["role"], row["precision"]) == ("distilled", "int8")
    # Outside programs find each figure where it was; null is what was not measured.
    assert row["top1"] == 0.8 and row["latency_ms"] == {"p50": 0.4, "p95": 0.5}
    assert row["nll"] is None and row["intervals"] is None and row["my_own"] == 1
    assert raw["gates"][2] == VERSION_1["gates"][2] | {"kind": "file_size"}
    assert raw["verdict"] is None and raw["verdict_int8"]["difference"] == 0.02
    assert raw["classes"] == VERSION_1["classes"] and raw["note"] == "kept"


def test_a_newer_version_is_refused(tmp_path):
    path = written(tmp_path, {"schema_version": 3, "models": {"teacher": {"top1": 0.9}}})
    with pytest.raises(ValueError, match=r"results.json: schema_version is 3, .* reads 1 to 2"):
        results.read(path)


@pytest.mark.parametrize(
    "raw, message",
    [
        ([1], "holds a list, expected a JSON object"),
        ({"stages": []}, r"no \"models\", only \['stages'\]"),
        ({"models": [1]}, "not the results of a run"),
        ({"models": {"teacher": 1}}, "not the results of a run"),
        ({"models": {"teacher": {"top1": math.nan}}}, "models.teacher.top1 is nan"),
        (
            {"models": {"teacher": {}}, "history": {"teacher": {"loss": [1.0, math.inf]}}},
            "history.teacher.loss.1 is inf",
        ),
    ],
)
def test_broken_files_are_named(tmp_path, raw, message):
    with pytest.raises(ValueError, match=f"results.json.*{message}"):
        results.read(written(tmp_path, raw))


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no results.json in .*: is this a finished run"):
        results.read(tmp_path)
    (tmp_path / results.FILE).write_text("{")
    with pytest.raises(ValueError, match="results.json is not JSON"):
        results.read(tmp_path)


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
    run = Results({results.TEACHER: Metrics(top1=math.nan)})
    with pytest.raises(ValueError):
        results.write(tmp_path / results.FILE, run)
    assert not list(tmp_path.iterdir())


def test_report_is_about_what_ships():
    float_only, both = Comparison(difference=0.1), Comparison(difference=0.2)
    run = Results(dict.fromkeys(results.STUDENTS, Metrics()), verdict=float_only)
    assert run.comparison == float_only and run.pair == results.STUDENTS
    run = replace(run, verdict_int8=both, models=dict.fromkeys(results.MODELS, Metrics()))
    assert run.comparison == both
    assert [model.key for model in run.pair] == ["baseline_int8", "distilled_int8"]


@pytest.mark.parametrize("model", [*results.MODELS, Model("my_student")])
def test_keys_name_one_model_each(model):
    assert Model.from_key(model.key) == model


def test_titles():
    assert [model.title for model in (*results.POST_TRAINING, Model("my_student"))] == [
        "Distilled ptq int8",
        "Distilled dynamic range",
        "Distilled float16",
        "My student",
    ]


def test_a_gate_of_another_kind_is_kept():
    gate = Gate(None, "Heat", "<", 40.0, "degrees", 35.0, True)
    assert Gate.from_json(gate.to_json()) == gate


def test_frame_has_a_row_for_each_model_of_each_run(tmp_path):
    run = results.read(written(tmp_path, VERSION_1))
    frame = results.to_frame([tmp_path, run])
    assert list(frame.columns[:3]) == ["run", "role", "precision"]
    assert frame.run.tolist() == [str(tmp_path)] * 4 + ["1"] * 4
    shipped = frame[(frame.role == "distilled") & (frame.precision == "int8")].iloc[0]
    assert shipped["latency_ms.p95"] == 0.5 and shipped["benchmark.threads"] == 1
    teacher = frame[frame.role == "teacher"].iloc[0]
    assert (teacher["intervals.top1.low"], teacher["intervals.top1.high"]) == (0.85, 0.93)
    assert math.isnan(teacher["latency_ms.p95"])
    assert "benchmark.device" not in frame and "slices" not in frame


def test_importing_it_loads_nothing_heavy():
    code = "import kdtf.results, sys; print({'tensorflow', 'keras', 'pandas'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
