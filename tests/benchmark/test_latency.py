"""Latency measured with litert-benchmark: options, repeats, and files that are refused."""

import dataclasses
import json
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from measured_files import spoiled
from tensorflow.python.framework import convert_to_constants

from kdtf import benchmark
from kdtf.benchmark import latency, litert
from kdtf.export import subprocess_check


def test_measures_a_file_with_metadata(file):
    got = benchmark.benchmark(file, runs=20, warmup=2, repeats=2)
    assert 0 <= got.min_ms <= got.p50_low_ms <= got.p50_ms <= got.p50_high_ms <= got.max_ms
    assert got.p50_ms <= got.p95_ms <= got.max_ms
    assert (got.threads, got.runs, got.warmup, got.repeats) == (1, 20, 2, 2)
    assert got.tool == "litert-benchmark" and got.version[0].isdigit() and got.device
    assert got.delegate == "XNNPACK" and got.delegate_partitions >= 1
    assert not got.fully_delegated  # GATHER of an embedding stays outside
    assert got.init_ms > 0 and got.memory_bytes is None and got.taskset is None
    assert json.loads(json.dumps(dataclasses.asdict(got))) == dataclasses.asdict(got)


def test_integers_stay_inside_short_vocabularies(file):
    # Without the replaced random numbers each run fails with 98 % probability.
    for _ in range(2):
        benchmark.benchmark(file, runs=1, warmup=1, repeats=1)


def test_the_tool_gets_the_settings(file):
    got = litert._run_tool(file, 3, 7, 2, 60)
    assert got["num_threads"] == 3
    assert (got["latency"]["num_runs"], got["latency"]["num_warmup_runs"]) == (7, 2)


def test_repeats_are_summarised(file, monkeypatch):
    medians = iter([5.0, 1.0, 2.0])

    def fake(*_):
        median = next(medians)
        return {
            "fully_accelerated": True,
            "latency": {
                "median_ms": median,
                "p95_ms": 10 * median,
                "avg_ms": median + 0.5,
                "min_ms": median / 2,
                "max_ms": 20 * median,
                "init_ms": 100 / median,
            },
        }

    monkeypatch.setattr(litert, "_run_tool", fake)
    got = benchmark.benchmark(file)
    assert got.init_ms == 50.0
    assert (got.p50_ms, got.p95_ms, got.mean_ms) == (2.0, 20.0, 2.5)
    assert (got.min_ms, got.max_ms, got.p50_low_ms, got.p50_high_ms) == (0.5, 100.0, 1.0, 5.0)
    assert got.fully_delegated


@pytest.mark.parametrize(
    "value, message",
    [(np.nan, "not finite"), (np.inf, "not finite"), (1.0, "same values for three different")],
)
def test_refuses_files_that_compute_nothing(tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        benchmark.benchmark(spoiled(tmp_path, value), runs=1)


def test_refuses_a_broken_file(tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"garbage")
    with pytest.raises(ValueError, match="broken.tflite does not run: exit status 1"):
        benchmark.benchmark(broken)


def test_a_crash_inside_the_runtime_is_told(file, monkeypatch):
    monkeypatch.setattr(subprocess_check, "_INFERENCES", "import os; os.abort()")
    with pytest.raises(ValueError, match="killed by SIGABRT"):
        benchmark.benchmark(file)


def test_failures_of_the_tool_are_told(file, monkeypatch):
    monkeypatch.setattr(litert, "_TOOL", "import sys; sys.exit('no such accelerator')")
    with pytest.raises(RuntimeError, match="(?s)exit status 1.*no such accelerator"):
        benchmark.benchmark(file)
    monkeypatch.setattr(litert, "_TOOL", "")  # Exits 0 and writes nothing.
    with pytest.raises(RuntimeError, match="litert-benchmark failed"):
        benchmark.benchmark(file)
    monkeypatch.setattr(litert, "_TOOL_MODULE", "ai_edge_litert.no_tools.benchmark")
    with pytest.raises(RuntimeError, match="missing.*pip install"):
        benchmark.benchmark(file)


def test_timeout_is_told(file, monkeypatch):
    monkeypatch.setattr(subprocess_check, "_INFERENCES", "import time; time.sleep(30)")
    with pytest.raises(RuntimeError, match="no result within 0.5 s"):
        benchmark.benchmark(file, timeout_s=0.5)


@pytest.mark.parametrize(
    "before, after, threads, processors, want",
    [
        (3.7, 3.7, 1, 2, True),
        (0.2, 1.0, 1, 2, False),
        (0.2, 2.0, 2, 2, False),
        (0.2, 2.1, 4, 2, False),  # more threads than processors were asked for
        (1.0, 2.0, 2, 2, True),
        (0.1, 3.0, 1, 2, True),  # something started meanwhile
        (8.0, 8.0, 4, 64, False),
        (None, None, 1, 2, None),
        (3.0, None, 1, None, None),
    ],
)
def test_a_busy_machine_is_judged_by_its_load(before, after, threads, processors, want):
    assert latency.is_busy(before, after, threads, processors) is want


@pytest.mark.parametrize("load", [0.1, 3.7])
def test_a_busy_machine_is_told(file, monkeypatch, load):
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(litert.LiteRt, "processors", 2)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        got = benchmark.benchmark(file, runs=2, warmup=1, repeats=1)
    assert got.busy is (load > 1) and got.load_average == load
    told = [str(each.message) for each in seen if "busy machine" in str(each.message)]
    assert len(told) == got.busy
    assert not told or "2 processors, and a load of 3.7" in told[0]


def dynamic(tmp_path, shape, signature):
    image = keras.Input(shape, name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, padding="same")(image))
    model = keras.Model(image, keras.layers.Dense(3)(x))
    function = tf.function(lambda image: model(image)).get_concrete_function(
        tf.TensorSpec(signature, name="image")
    )
    path = tmp_path / "open.tflite"
    # Frozen: variables of a Keras 3 model would be left in the file, without values.
    frozen = convert_to_constants.convert_variables_to_constants_v2(function)
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert())
    return path


@pytest.mark.parametrize("shape", [(None, None, 3), (8, None, 3)])
def test_open_sizes_are_refused_rather_than_run_at_one_pixel(tmp_path, shape):
    path = dynamic(tmp_path, shape, (1, *shape))
    with pytest.raises(ValueError, match=r"open.tflite leaves sizes .*image.*-1.*one fixed size"):
        benchmark.benchmark(path, runs=1)


def test_an_open_batch_is_a_batch_of_one(tmp_path):
    assert benchmark.benchmark(dynamic(tmp_path, (64, 64, 3), (None, 64, 64, 3)), runs=3).p50_ms > 0


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


@pytest.mark.parametrize(
    "options, message",
    [
        ({"adb": ""}, "adb is '' without a binary.*android_arm64"),
        ({"taskset": "f0"}, "taskset is 'f0' without adb"),
        ({"taskset": "f0", "binary": "b"}, "taskset is 'f0' without adb"),
        *(
            ({"taskset": mask, "binary": "b", "adb": ""}, "must be a hexadecimal mask")
            for mask in ("", "0", "0xf0", "f0; reboot", "4-7", 0xF0)
        ),
        ({"adb": False, "binary": "b"}, 'adb must be the serial.*"" or True.*got False'),
    ],
)
def test_options_that_do_not_go_together(file, options, message):
    with pytest.raises(ValueError, match=message):
        benchmark.benchmark(file, **options)


def test_thread_counts_are_checked_before_the_first_runs(file):
    with pytest.raises(ValueError, match="thread_counts is empty"):
        benchmark.benchmark_threads(file, ())
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        benchmark.benchmark_threads(file, (1, 0))
