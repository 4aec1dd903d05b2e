"""The whole job, small: data, teacher, students, files, report; killed and continued."""

import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import runs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdtf import benchmark, export, quantize
from kdtf.export import flatbuffer, runtime
from kdtf.pipeline import distill, student_training
from kdtf.pipeline.commands import distill as distill_command
from kdtf.results import DISTILLED, MODELS


def test_results_have_the_promised_form(run):
    results = json.loads((run / "results.json").read_text())
    assert list(results["models"]) == [model.key for model in MODELS]
    for name, row in results["models"].items():
        for key in ("top1", "top5", "macro_f1", "ece", "head_top1"):
            assert 0 <= row[key] <= 1, (name, key)
        for key in ("top1", "macro_f1", "nll", "brier", "ece"):
            low, high = row["intervals"][key]
            assert low - 1e-9 <= row[key] <= high + 1e-9, (name, key)
        assert 0.05 <= row["temperature_scaling"]["temperature"] <= 20
        assert 0 <= row["selective"]["aurc"] <= 1
        assert row["teacher_agreement"]["top1_agreement"] == 1 or name != "teacher"
        for values in row["slices"].values():
            assert sum(part["examples"] for part in values) == row["examples"]
        assert row["nll"] > 0 and row["parameters"] > 10_000
        assert row["size_bytes"] == (run / "tflite" / f"{name}.tflite").stat().st_size
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"]
        if "int8" not in name and name != "distilled_dynamic_range":
            limit = 0.05 if name == "distilled_float16" else 1e-3
            assert row["parity"]["max_abs_error"] < limit
            assert row["parity"]["argmax_agreement"] == 1
    assert [gate["passed"] for gate in results["gates"]].count(True) >= 2
    shipped = results["models"]["distilled_int8"]
    assert [gate["value"] for gate in results["gates"]][::2] == [
        shipped["top1"],
        shipped["size_bytes"],
    ]
    for key in ("verdict", "verdict_int8"):
        verdict = results[key]
        assert verdict["verdict"] in ("helps", "hurts", "no difference shown")
        assert verdict["differences"]["top1"]["difference"] == pytest.approx(verdict["difference"])
        assert verdict["needed_test_examples"] is None or verdict["needed_test_examples"] > 0
        assert set(verdict["slices"]) == set(results["models"]["distilled"]["slices"])
    for name in ("distilled", "distilled_int8"):
        curves = results["history"][name]
        assert {"loss", "label_loss", "distillation_loss", "val_accuracy"} <= set(curves)
        assert len(curves["loss"]) == (1 if name.endswith("int8") else 2)
    assert results["environment"]["data_sha256"]


def test_everything_that_others_rely_on_is_there(run):
    for name in ("config.json", "results.json", "report.html", "report.md"):
        assert (run / name).stat().st_size > 100
    for name in ("baseline", "distilled"):
        assert (run / "models" / f"{name}.keras").exists()
        for board in (name, f"{name}_int8"):
            events = EventAccumulator(str(run / "tensorboard" / board), {"tensors": 0})
            events.Reload()
            steps = [event.step for event in events.Tensors("loss/validation")]
            assert steps == ([3] if board != name else [1, 2])
    for model in MODELS:
        assert len(list((run / "tensorboard" / model.key).glob("*.outcome"))) == 1
    mistakes = json.loads((run / "evaluation" / "mistakes.json").read_text())
    measured = json.loads((run / "evaluation" / "distilled_int8.json").read_text())
    for photo in mistakes["photos"]:
        assert photo["id"] == measured["ids"][photo["position"]] and photo["jpeg"]
        assert photo["student"] == measured["predictions"][photo["position"]]
    layers = json.loads((run / "evaluation" / "layer_errors.json").read_text())["layers"]
    assert len(layers) > 20 and all(row["snr_db"] is None or row["snr_db"] > 0 for row in layers)
    deployed = {path.name: path for path in (run / "deploy").iterdir()}
    assert set(deployed) == {
        "student_int8.tflite",
        "labels.txt",
        "model_card.md",
        "calibration.json",
    }
    shipped = (run / "tflite" / "distilled_int8.tflite").read_bytes()
    assert deployed["student_int8.tflite"].read_bytes() == shipped
    assert not {"HARD_SWISH", "HARD_SIGMOID"} & set(
        flatbuffer.builtin_ops(run / "tflite" / "distilled_int8.tflite")
    )
    assert not [path for path in run.rglob("*") if "partial" in path.name]


def test_continued_equals_uninterrupted(run, config, tmp_path):
    """A run of the same settings, never killed, gives the same distilled student, bit for bit."""
    other = runs.begin(tmp_path / "other", config)
    other.train(DISTILLED)
    weights = [
        keras.models.load_model(folder / "models" / "distilled.keras", compile=False).get_weights()
        for folder in (run, other.directory.path)
    ]
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_both_students_start_alike_and_end_apart(run):
    initial, baseline, distilled = (
        keras.models.load_model(run / "models" / f"{name}.keras", compile=False)
        for name in ("initial", "baseline", "distilled")
    )
    assert [w.shape for w in initial.weights] == [w.shape for w in baseline.weights]
    kernel = [model.get_layer("conv_1").kernel.numpy() for model in (baseline, distilled)]
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-5


def test_a_finished_run_is_not_run_again(run, config, tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("trained, exported or measured again")

    again = shutil.copytree(run, tmp_path / run.name)
    monkeypatch.setattr(student_training, "distiller", never)
    monkeypatch.setattr(student_training, "int8_distiller", never)
    monkeypatch.setattr(export, "to_tflite", never)
    monkeypatch.setattr(runtime, "predict", never)
    monkeypatch.setattr(quantize, "quantize_aware", never)
    monkeypatch.setattr(benchmark, "benchmark", never)
    distill.distill(again, config)


def test_a_teacher_of_other_classes_is_refused(run, config, teacher, tmp_path):
    path = tmp_path / "teacher.keras"
    shutil.copy(teacher, path)
    facts = json.loads(teacher.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(facts | {"classes": facts["classes"][::-1]}))
    with pytest.raises(ValueError, match="was trained on other classes"):
        distill.distill(tmp_path / "run", replace(config, teacher=(str(path),)))


def test_an_online_teacher_is_asked_in_every_step(shards, teacher, config, tmp_path):
    """Two teachers: the recipe's own ensemble, without a cache; one epoch."""
    live = replace(config, teacher=(str(teacher), str(teacher)), online_teacher=True, epochs=1)
    run = runs.begin(tmp_path / "live", live)
    run.train(DISTILLED)
    history = json.loads(run.directory.training_facts(DISTILLED).read_text())["history"]
    assert np.isfinite(history["distillation_loss"]).all()
    assert run.cached is None and not run.directory.cache_facts.exists()


def test_a_run_of_other_data_is_not_continued(run, config, tmp_path):
    week = tmp_path / "w47"
    shutil.copytree(run, week)
    (week / "data.json").write_text(json.dumps({"data_sha256": "ab" * 32}))
    with pytest.raises(ValueError, match=r"holds a run with \{'data_sha256': 'abab"):
        distill.distill(week, config)


def test_weights_that_cannot_be_fetched_say_what_to_do(shards, monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise Exception("URL fetch failure on https://example.org: no network")

    monkeypatch.setattr(keras.applications, "MobileNetV3Small", unreachable)
    arguments = ["--data", str(shards.directory), "--weights", "imagenet", "--epochs", "1"]
    teacher = tmp_path / "t.keras"
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(8)]).save(
        teacher
    )
    arguments += ["--teacher", str(teacher), "--run-dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="(?s)URL fetch failure.*--weights FILE"):
        distill_command.main(arguments)
