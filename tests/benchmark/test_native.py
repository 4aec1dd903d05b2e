"""The native tool on this machine: its flags, its output, its failures."""

import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest
from measured_files import spoiled
from recorded_benchmarks import COMPLETE, NO_DELEGATE, OLD, REFUSED, XNNPACK, calls

from kdtf import benchmark
from kdtf.benchmark import native


def test_reads_recorded_output():
    assert native.parse(XNNPACK, 50) == native.Run(
        p50_ms=899.281,
        p95_ms=904.305,
        mean_ms=899.641,
        min_ms=898.007,
        max_ms=906.121,
        init_ms=614.333,
        memory_bytes=157434249,
        delegate="XNNPACK",
        delegate_partitions=1,
        fully_delegated=False,
    )  # 150.141 * 1024**2 = 157434249.2
    got = native.parse(REFUSED, 50)
    assert (got.p50_ms, got.p95_ms, got.mean_ms) == (1239.807, 1247.415, 1240.27)
    assert (got.min_ms, got.max_ms, got.init_ms) == (1238.588, 1252.566, 5.579)
    assert (got.delegate, got.delegate_partitions, got.fully_delegated) == (None, 0, False)
    got = native.parse(XNNPACK.replace("w/ 1 del", "w/ 22 del"), 50)
    assert (got.delegate_partitions, got.fully_delegated) == (22, False)
    got = native.parse(COMPLETE, 50)
    assert (got.delegate_partitions, got.fully_delegated) == (1, True)


def test_reads_what_the_tool_shortens_or_leaves_out():
    # Equal times: OutputToStream of stats_calculator.h in tensorflow.
    short = XNNPACK.replace(
        XNNPACK[XNNPACK.index("count=50") : XNNPACK.index("INFO: Inference timings")],
        "count=50 curr=731(all same) p5=731 median=731 p95=731\n",
    )
    got = native.parse(short, 50)
    assert {got.p50_ms, got.p95_ms, got.mean_ms, got.min_ms, got.max_ms} == {0.731}
    silent = XNNPACK[: XNNPACK.index("INFO: Inference timings")]
    got = native.parse(silent, 50)
    assert (got.p50_ms, got.init_ms, got.memory_bytes) == (899.281, None, None)
    zero = XNNPACK.replace("init=146.363 overall=150.141", "init=0 overall=0")
    assert native.parse(zero, 50).memory_bytes is None


@pytest.mark.parametrize(
    "text, message",
    [
        (OLD, r"too old, it prints no percentiles: build a recent .*count=50 first=605745"),
        (
            "Unconsumed cmdline flags: --use_xnnpack=true\n" + XNNPACK,
            "does not know --use_xnnpack=true and",
        ),
        (NO_DELEGATE, "does not say what XNNPACK took over"),
        (XNNPACK.replace("count=50", "count=31"), "did 31 of 50 runs: raise timeout_s"),
        (
            XNNPACK[: XNNPACK.index("INFO: count=50")],
            "(?s)printed 1 lines with count=.*curr=905463",
        ),
        ("", "printed 0 lines"),
    ],
)
def test_refuses_output_that_is_no_measurement(text, message):
    with pytest.raises(RuntimeError, match=message):
        native.parse(text, 50)


def test_zeros_only_for_wide_integers():
    image, region = ({"shape": [1, 8, 8, 3], "dtype": dtype} for dtype in ("int8", "float32"))
    plain = native.flags("m.tflite", 2, 7, 3, 60, [image, region])
    assert plain == [
        "--graph=m.tflite",
        "--num_threads=2",
        "--num_runs=7",
        "--warmup_runs=3",
        "--min_secs=0",
        "--warmup_min_secs=0",
        "--max_secs=60",
        "--use_xnnpack=true",
    ]
    words = [{"shape": [1], "dtype": "int64"}, image, {"shape": [1, 2], "dtype": "int32"}]
    assert native.flags("m.tflite", 2, 7, 3, 60, words) == plain + [
        "--input_layer=input0,input1,input2",
        "--input_layer_shape=1:1,8,8,3:1,2",
        "--input_layer_value_range=input0,0,0:input2,0,0",
    ]


def test_native_tool_runs_once_for_each_repeat(file, tool, tmp_path):
    got = benchmark.benchmark(
        file, threads=3, runs=50, warmup=4, repeats=2, binary=tool, timeout_s=77
    )
    zeros = (
        "--input_layer=input0,input1 --input_layer_shape=1:1,8,8,3 "
        "--input_layer_value_range=input0,0,0"
    )
    assert calls(tmp_path, "tool") == 2 * [
        f"--graph={file} --num_threads=3 --num_runs=50 --warmup_runs=4 --min_secs=0 "
        "--warmup_min_secs=0 --max_secs=77 --use_xnnpack=true "
        f"{zeros}"
    ]
    assert got.tool == "benchmark_model"
    assert got.version == hashlib.sha256(tool.read_bytes()).hexdigest()[:12]
    assert got.device == benchmark.device_name()
    assert (got.p50_ms, got.p95_ms, got.init_ms) == (899.281, 904.305, 614.333)
    assert (got.memory_bytes, got.threads, got.repeats) == (157434249, 3, 2)
    # Of the tool, not of the check, which runs another build of the runtime.
    assert (got.delegate, got.delegate_partitions, got.fully_delegated) == ("XNNPACK", 1, False)
    assert json.loads(json.dumps(dataclasses.asdict(got))) == dataclasses.asdict(got)


def test_native_tool_measures_several_thread_counts(file, tool, tmp_path, unchecked):
    got = benchmark.benchmark_threads(file, runs=50, repeats=1, binary=tool)
    assert {key: each.threads for key, each in got.items()} == {1: 1, 2: 2, 4: 4}
    assert [re.search(r"threads=(\d)", call)[1] for call in calls(tmp_path, "tool")] == list("124")


def test_the_file_is_checked_before_the_native_tool_runs(tool, tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        benchmark.benchmark(spoiled(tmp_path, np.nan), binary=tool)
    assert not calls(tmp_path, "tool")


def test_failures_of_the_native_tool_are_told(file, tool, tmp_path, unchecked):
    (tmp_path / "tool.rc").write_text("3")
    (tmp_path / "tool.txt").write_text("ERROR: gather index out of bounds")
    with pytest.raises(RuntimeError, match="(?s)exit status 3.*gather index out of bounds"):
        benchmark.benchmark(file, binary=tool)
    tool.write_text("#!/bin/sh\nexec sleep 30")
    with pytest.raises(RuntimeError, match="no result within 0.3 s from .*native: raise"):
        benchmark.benchmark(file, binary=tool, timeout_s=0.3)
    tool.write_bytes(b"\x7fELF of another machine")
    with pytest.raises(RuntimeError, match="does not start, is it built for this machine"):
        benchmark.benchmark(file, binary=tool)
    tool.chmod(0o644)
    with pytest.raises(ValueError, match="not executable: chmod"):
        benchmark.benchmark(file, binary=tool)
    with pytest.raises(FileNotFoundError, match="no benchmark_model at .*nowhere"):
        benchmark.benchmark(file, binary=tmp_path / "nowhere")
