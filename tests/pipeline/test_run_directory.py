"""Where a run's files lie, and what its stages took."""

import json

from kdtf.pipeline.run_directory import RunDirectory
from kdtf.results import DISTILLED, INT8, MODELS, SHIPPED


def test_files_are_named_after_their_model(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.keras_model(DISTILLED) == tmp_path / "models" / "distilled.keras"
    assert run.int8_weights(SHIPPED) == tmp_path / "models" / "distilled_int8.npz"
    assert run.tflite(INT8[0]) == tmp_path / "tflite" / "baseline_int8.tflite"
    assert run.latency(SHIPPED) == tmp_path / "evaluation" / "distilled_int8_latency.json"
    methods = (run.keras_model, run.training_facts, run.checkpoint, run.tflite, run.export_facts)
    methods += (run.logits, run.measures, run.latency, run.tensorboard)
    paths = [method(model) for method in methods for model in MODELS]
    assert len(set(paths)) == len(paths)


def test_every_path_of_a_finished_run_is_there(run):
    run = RunDirectory(run)
    for path in (run.config, run.data_facts, run.cache_facts, run.stages, run.results, run.deploy):
        assert path.exists()
    assert run.initial_student.exists() and run.mistakes.exists() and run.layer_errors.exists()
    for model in MODELS:
        for path in (run.tflite, run.export_facts, run.logits, run.measures, run.latency):
            assert path(model).exists()


def test_what_a_stage_took_is_added_up(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.elapsed() == {}
    run.add_elapsed("data", 1.26)
    run.add_elapsed("teacher", 3.0)
    run.add_elapsed("data", 2.0)
    assert json.loads((tmp_path / "stages.json").read_text()) == {"data": 3.3, "teacher": 3.0}
    assert list(run.elapsed()) == ["data", "teacher"]
