import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from kdtf import benchmark, export


def embedding_model():
    """A model whose second input must stay below 3: the tool's own random numbers would not."""
    image = keras.Input((8, 8, 3), name="image")
    region = keras.Input((), dtype="int32", name="meta_region")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    joined = keras.layers.Concatenate()([pooled, keras.layers.Embedding(3, 2)(region)])
    return keras.Model([image, region], keras.layers.Dense(5)(joined))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return export.to_tflite(
        embedding_model(), tmp_path_factory.mktemp("benchmark") / "model.tflite")


def test_measures_a_file_with_metadata(file):
    got = benchmark.benchmark(file, runs=20, warmup=2, repeats=2)
    assert 0 <= got.min_ms <= got.p50_low_ms <= got.p50_ms <= got.p50_high_ms <= got.max_ms
    assert got.p50_ms <= got.p95_ms <= got.max_ms
    assert (got.threads, got.runs, got.warmup, got.repeats) == (1, 20, 2, 2)
    assert got.tool == "litert-benchmark" and got.version[0].isdigit() and got.device
    assert got.delegate == "XNNPACK" and got.delegate_partitions >= 1
    assert not got.fully_delegated        # GATHER of an embedding stays outside
    assert json.loads(json.dumps(dataclasses.asdict(got))) == dataclasses.asdict(got)


def test_integers_stay_inside_short_vocabularies(file):
    # Without the replaced random numbers each run fails with 98 % probability.
    for _ in range(2):
        benchmark.benchmark(file, runs=1, warmup=1, repeats=1)


def test_the_tool_gets_the_settings(file):
    got = benchmark._run_tool(file, 3, 7, 2, 60)
    assert got["num_threads"] == 3
    assert (got["latency"]["num_runs"], got["latency"]["num_warmup_runs"]) == (7, 2)


def test_repeats_are_summarised(file, monkeypatch):
    medians = iter([5.0, 1.0, 2.0])

    def fake(*_):
        median = next(medians)
        return {"fully_accelerated": True, "latency": {
            "median_ms": median, "p95_ms": 10 * median, "avg_ms": median + 0.5,
            "min_ms": median / 2, "max_ms": 20 * median}}

    monkeypatch.setattr(benchmark, "_run_tool", fake)
    got = benchmark.benchmark(file)
    assert (got.p50_ms, got.p95_ms, got.mean_ms) == (2.0, 20.0, 2.5)
    assert (got.min_ms, got.max_ms, got.p50_low_ms, got.p50_high_ms) == (0.5, 100.0, 1.0, 5.0)
    assert got.fully_delegated


def spoiled(tmp_path, value):
    model = embedding_model()
    weights = model.get_weights()
    weights[-2] = np.zeros_like(weights[-2])           # Dense kernel: the image plays no part
    weights[-1] = np.full_like(weights[-1], value)
    model.set_weights(weights)
    return export.to_tflite(model, tmp_path / "spoiled.tflite")


@pytest.mark.parametrize("value, message", [
    (np.nan, "not finite"), (np.inf, "not finite"), (1.0, "same values for three different")])
def test_refuses_files_that_compute_nothing(tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        benchmark.benchmark(spoiled(tmp_path, value), runs=1)


def test_refuses_a_broken_file(tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"garbage")
    with pytest.raises(ValueError, match="broken.tflite does not run: exit status 1"):
        benchmark.benchmark(broken)


def test_a_crash_inside_the_runtime_is_told(file, monkeypatch):
    monkeypatch.setattr(benchmark, "_PROBE", "import os; os.abort()")
    with pytest.raises(ValueError, match="killed by SIGABRT"):
        benchmark.benchmark(file)


def test_failures_of_the_tool_are_told(file, monkeypatch):
    monkeypatch.setattr(benchmark, "_TOOL", "import sys; sys.exit('no such accelerator')")
    with pytest.raises(RuntimeError, match="(?s)exit status 1.*no such accelerator"):
        benchmark.benchmark(file)
    monkeypatch.setattr(benchmark, "_TOOL", "")        # Exits 0 and writes nothing.
    with pytest.raises(RuntimeError, match="litert-benchmark failed"):
        benchmark.benchmark(file)
    monkeypatch.setattr(benchmark, "_TOOL_MODULE", "ai_edge_litert.no_tools.benchmark")
    with pytest.raises(RuntimeError, match="missing.*pip install"):
        benchmark.benchmark(file)


def test_timeout_is_told(file, monkeypatch):
    monkeypatch.setattr(benchmark, "_PROBE", "import time; time.sleep(30)")
    with pytest.raises(RuntimeError, match="no result within 0.5 s"):
        benchmark.benchmark(file, timeout_s=0.5)


@pytest.mark.parametrize("setting", ["threads", "runs", "warmup", "repeats"])
def test_counts_must_be_positive(file, setting):
    with pytest.raises(ValueError, match=f"{setting} must be at least 1, got 0"):
        benchmark.benchmark(file, **{setting: 0})


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.tflite"):
        benchmark.benchmark(tmp_path / "nothing.tflite")


def test_imports_neither_tensorflow_nor_keras():
    code = "import sys, kdtf.benchmark; print({'tensorflow', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
