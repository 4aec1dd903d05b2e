import dataclasses
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest

from kdtf import benchmark, export
from kdtf.benchmark import latency, native
from kdtf.export import subprocess_check


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
        embedding_model(), tmp_path_factory.mktemp("benchmark") / "model.tflite"
    )


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
    got = latency._run_tool(file, 3, 7, 2, 60)
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

    monkeypatch.setattr(latency, "_run_tool", fake)
    got = benchmark.benchmark(file)
    assert got.init_ms == 50.0
    assert (got.p50_ms, got.p95_ms, got.mean_ms) == (2.0, 20.0, 2.5)
    assert (got.min_ms, got.max_ms, got.p50_low_ms, got.p50_high_ms) == (0.5, 100.0, 1.0, 5.0)
    assert got.fully_delegated


def spoiled(tmp_path, value):
    model = embedding_model()
    weights = model.get_weights()
    weights[-2] = np.zeros_like(weights[-2])  # Dense kernel: the image plays no part
    weights[-1] = np.full_like(weights[-1], value)
    model.set_weights(weights)
    return export.to_tflite(model, tmp_path / "spoiled.tflite")


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
    monkeypatch.setattr(subprocess_check, "_PROBE", "import os; os.abort()")
    with pytest.raises(ValueError, match="killed by SIGABRT"):
        benchmark.benchmark(file)


def test_failures_of_the_tool_are_told(file, monkeypatch):
    monkeypatch.setattr(latency, "_TOOL", "import sys; sys.exit('no such accelerator')")
    with pytest.raises(RuntimeError, match="(?s)exit status 1.*no such accelerator"):
        benchmark.benchmark(file)
    monkeypatch.setattr(latency, "_TOOL", "")  # Exits 0 and writes nothing.
    with pytest.raises(RuntimeError, match="litert-benchmark failed"):
        benchmark.benchmark(file)
    monkeypatch.setattr(latency, "_TOOL_MODULE", "ai_edge_litert.no_tools.benchmark")
    with pytest.raises(RuntimeError, match="missing.*pip install"):
        benchmark.benchmark(file)


def test_timeout_is_told(file, monkeypatch):
    monkeypatch.setattr(subprocess_check, "_PROBE", "import time; time.sleep(30)")
    with pytest.raises(RuntimeError, match="no result within 0.5 s"):
        benchmark.benchmark(file, timeout_s=0.5)


@pytest.mark.parametrize("setting", ["threads", "runs", "warmup", "repeats"])
def test_counts_must_be_positive(file, setting):
    with pytest.raises(ValueError, match=f"{setting} must be at least 1, got 0"):
        benchmark.benchmark(file, **{setting: 0})


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.tflite"):
        benchmark.benchmark(tmp_path / "nothing.tflite")


def test_the_probe_tells_what_stays_outside_the_delegate(file, tmp_path):
    got = subprocess_check.probe(file)
    assert got["finite"] and not got["constant"] and got["delegate_partitions"] >= 1
    assert "GATHER" in got["nodes_outside"]
    assert not {"CONV_2D", "FULLY_CONNECTED", "DELEGATE"} & set(got["nodes_outside"])
    assert sorted(got["inputs"], key=str) == [
        {"shape": [1, 8, 8, 3], "dtype": "float32"},
        {"shape": [1], "dtype": "int32"},
    ]

    image = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(5)(keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(image)))
    got = subprocess_check.probe(
        export.to_tflite(keras.Model(image, logits), tmp_path / "plain.tflite")
    )
    assert (got["delegate_partitions"], got["nodes_outside"]) == (1, [])


def test_imports_neither_tensorflow_nor_keras():
    code = "import sys, kdtf.benchmark; print({'tensorflow', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


# An AM62X running TensorFlow Lite 2.20: TexasInstruments/processor-sdk-doc, source/linux/
# Foundational_Components/Machine_Learning/tflite.rst, shortened.
XNNPACK = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [/usr/share/oob-demo-assets/models/ssd_mobilenet_v2_coco.tflite]
INFO: Use xnnpack: [1]
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: XNNPACK delegate created.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the \
delegate w/ 1 delegate kernels.
INFO: The input model file size (MB): 67.3128
INFO: Initialized session in 614.333ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if \
exceeding 150 seconds.
INFO: count=1 curr=905463 p5=905463 median=905463 p95=905463
INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if \
exceeding 150 seconds.
INFO: count=50 first=900416 curr=898333 min=898007 max=906121 avg=899641 std=1549 p5=898333 \
median=899281 p95=904305
INFO: Inference timings in us: Init: 614333, First inference: 905463, Warmup (avg): 905463, \
Inference (avg): 899641
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only \
APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your \
discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=146.363 overall=150.141
"""
# The same page, with --use_xnnpack=false.
NO_DELEGATE = """\
INFO: Use xnnpack: [0]
INFO: The input model file size (MB): 67.3128
INFO: Initialized session in 5.579ms.
INFO: count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602

INFO: count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 \
p5=1238753 median=1239807 p95=1247415

INFO: Inference timings in us: Init: 5579, First inference: 1357602, Warmup (avg): 1.3576e+06, \
Inference (avg): 1.24027e+06
INFO: Memory footprint delta from the start of the tool (MB): init=6.36328 overall=109.832
"""
# With the measured line of an earlier state of that page, when the tool printed no percentiles.
OLD = XNNPACK.replace(" p5=905463 median=905463 p95=905463", "").replace(
    XNNPACK[XNNPACK.index("count=50") : XNNPACK.index("INFO: Inference timings")],
    "count=50 first=605745 curr=618849 min=568228 max=722188 avg=602943 std=27690\n\n",
)
# The other two sentences about the delegate: tflite/tools/benchmark/benchmark_tflite_model.cc.
COMPLETE = XNNPACK.replace(
    "partially executed by the delegate w/ 1 delegate kernels",
    "completely executed by the delegate",
)
REFUSED = NO_DELEGATE + (
    "INFO: Though XNNPACK delegate is explicitly applied, the model graph "
    "will not be executed by the delegate.\n"
)


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


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def tool(tmp_path):
    """A benchmark_model that keeps its arguments, prints tool.txt and ends with tool.rc."""
    (tmp_path / "tool.txt").write_text(XNNPACK)
    (tmp_path / "tool.rc").write_text("0")
    here = shlex.quote(str(tmp_path))
    return script(
        tmp_path / "built" / "native",
        f"""
echo "$@" >> {here}/tool.log
cat {here}/tool.txt >&2
exit $(cat {here}/tool.rc)""",
    )


@pytest.fixture
def unprobed(monkeypatch):
    """The probe has its own tests; here it would only take time."""
    facts = {"delegate_partitions": 9, "inputs": [{"shape": [1, 8, 8, 3], "dtype": "float32"}]}
    monkeypatch.setattr(subprocess_check, "probe", lambda *_: facts)


def calls(tmp_path, name):
    log = tmp_path / f"{name}.log"
    return log.read_text().splitlines() if log.exists() else []


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
    # Of the tool, not of the probe, which runs another build of the runtime.
    assert (got.delegate, got.delegate_partitions, got.fully_delegated) == ("XNNPACK", 1, False)
    assert json.loads(json.dumps(dataclasses.asdict(got))) == dataclasses.asdict(got)


def test_native_tool_measures_several_thread_counts(file, tool, tmp_path, unprobed):
    got = benchmark.benchmark_threads(file, runs=50, repeats=1, binary=tool)
    assert {key: each.threads for key, each in got.items()} == {1: 1, 2: 2, 4: 4}
    assert [re.search(r"threads=(\d)", call)[1] for call in calls(tmp_path, "tool")] == list("124")


def test_the_file_is_probed_before_the_native_tool_runs(tool, tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        benchmark.benchmark(spoiled(tmp_path, np.nan), binary=tool)
    assert not calls(tmp_path, "tool")


def test_failures_of_the_native_tool_are_told(file, tool, tmp_path, unprobed):
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


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """An adb on PATH that keeps its calls and acts on a folder; returns that folder.

    push drops the mode, as a phone's storage may, and failing holds an ERE of commands that fail.
    """
    root = tmp_path / "phone"
    (root / "data/local/tmp/of others").mkdir(parents=True)
    (root / "loadavg").write_text("3.14 2.71 1.00 2/900 1234\n")
    (tmp_path / "devices").write_text("PIXEL8\tdevice\n")
    (tmp_path / "failing").write_text("nothing fails")
    here = shlex.quote(str(tmp_path))
    script(root / "bin/getprop", f"grep -s ^$1= {here}/properties | cut -d= -f2")
    (tmp_path / "properties").write_text(
        "ro.product.manufacturer=Google\nro.product.model=Pixel 8\nro.soc.model=Tensor G3\n"
    )
    script(root / "bin/taskset", f'echo "$1" >> {here}/taskset.log; shift; exec "$@"')
    script(
        tmp_path / "path/adb",
        f"""
echo "$*" >> {here}/adb.log
if echo "$*" | grep -qEf {here}/failing; then echo "adb: cannot"; exit 1; fi
if [ "$1" = devices ]; then
  echo "* daemon started successfully"; echo "List of devices attached"; cat {here}/devices; exit 0
fi
shift 2
case $1 in
  push) cat "$2" > {here}/phone"$3";;
  pull) cat {here}/phone"$2" > "$3";;
  shell) PATH={here}/phone/bin:$PATH sh -c "$(echo "$2" | sed \
    -e 's#/data/local#{tmp_path}/phone&#g' -e 's#/proc#{tmp_path}/phone#g')";;
esac""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/path{os.pathsep}{os.environ['PATH']}")
    return root


def left_on(phone):
    return [path.name for path in (phone / "data/local/tmp").iterdir()]


def test_phone_is_pushed_to_and_cleaned_once(file, tool, tmp_path, phone, unprobed):
    got = benchmark.benchmark_threads(
        file,
        (1, 4),
        runs=50,
        warmup=4,
        repeats=2,
        binary=tool,
        adb="PIXEL8",
        taskset="f0",
        timeout_s=77,
    )
    log = calls(tmp_path, "adb")
    folder = re.search(r"mkdir (/data/local/tmp/kdtf-[0-9a-f]{16})$", log[1])[1]

    def run(threads):
        return [
            f"-s PIXEL8 shell cd {folder} && taskset f0 ./benchmark_model --graph=model.tflite "
            f"--num_threads={threads} --num_runs=50 --warmup_runs=4 --min_secs=0 "
            "--warmup_min_secs=0 --max_secs=77 --use_xnnpack=true "
            "> result.txt 2>&1; echo $?",
            f"-s PIXEL8 pull {folder}/result.txt",
        ]

    load = "-s PIXEL8 shell cat /proc/loadavg 2>/dev/null; true"
    assert [re.sub(r"(pull \S+) .*", r"\1", call) for call in log] == [
        "devices",
        f"-s PIXEL8 shell mkdir {folder}",
        f"-s PIXEL8 push {tool} {folder}/benchmark_model",
        f"-s PIXEL8 push {file} {folder}/model.tflite",
        f"-s PIXEL8 shell chmod 755 {folder}/benchmark_model",
        "-s PIXEL8 shell getprop ro.product.manufacturer",
        "-s PIXEL8 shell getprop ro.product.model",
        "-s PIXEL8 shell getprop ro.soc.model",
        load,
        *run(1),
        *run(1),
        load,
        *run(4),
        *run(4),
        f"-s PIXEL8 shell rm -r {folder}",
    ]
    assert calls(tmp_path, "taskset") == 4 * ["f0"] and len(calls(tmp_path, "tool")) == 4
    assert left_on(phone) == ["of others"]
    assert list(got) == [1, 4] and [each.threads for each in got.values()] == [1, 4]
    assert (got[4].device, got[4].load_average) == ("Google Pixel 8 (Tensor G3)", 3.14)
    assert got[4].taskset == "f0"
    assert (got[4].p50_ms, got[4].memory_bytes) == (899.281, 157434249)
    assert got[4].tool == "benchmark_model"
    assert got[4].version == hashlib.sha256(tool.read_bytes()).hexdigest()[:12]


@pytest.mark.parametrize("adb", ["", True])
def test_the_only_phone_needs_no_serial(file, tool, tmp_path, phone, unprobed, adb):
    (phone / "loadavg").unlink()  # Newer Androids hide it from the shell.
    got = benchmark.benchmark(file, runs=50, repeats=1, binary=tool, adb=adb)
    assert got.load_average is None and got.taskset is None
    assert all(call.startswith("-s PIXEL8 ") for call in calls(tmp_path, "adb")[1:])
    assert not calls(tmp_path, "taskset") and len(calls(tmp_path, "tool")) == 1


@pytest.mark.parametrize(
    "properties, device",
    [
        ("ro.product.model=SM-S918B\nro.board.platform=kalama\n", "SM-S918B (kalama)"),
        ("ro.product.manufacturer=samsung\n", "samsung"),
        ("", "PIXEL8"),
    ],
)
def test_a_phone_is_named_by_what_it_tells(
    file, tool, tmp_path, phone, unprobed, properties, device
):
    (tmp_path / "properties").write_text(properties)
    got = benchmark.benchmark(file, runs=50, repeats=1, binary=tool, adb="PIXEL8")
    assert got.device == device


def test_a_failing_run_is_told_and_cleaned_up(file, tool, tmp_path, phone, unprobed):
    (tmp_path / "tool.rc").write_text("139")
    (tmp_path / "tool.txt").write_text("Segmentation fault")
    with pytest.raises(RuntimeError, match="(?s)on PIXEL8: exit status 139.*Segmentation fault"):
        benchmark.benchmark(file, binary=tool, adb="PIXEL8")
    assert len(calls(tmp_path, "tool")) == 1 and left_on(phone) == ["of others"]


@pytest.mark.parametrize("failing", ["push .*model.tflite", "chmod", "getprop", "pull"])
def test_a_failing_adb_is_told_and_cleaned_up(file, tool, tmp_path, phone, unprobed, failing):
    (tmp_path / "failing").write_text(failing)
    with pytest.raises(RuntimeError, match=f"(?s)adb -s PIXEL8 .*{failing}.*exit status 1.*cannot"):
        benchmark.benchmark(file, binary=tool, adb="PIXEL8")
    assert left_on(phone) == ["of others"]


def test_nothing_is_removed_that_was_not_made(file, tool, tmp_path, phone, unprobed):
    (tmp_path / "failing").write_text("mkdir")
    with pytest.raises(RuntimeError, match="mkdir"):
        benchmark.benchmark(file, binary=tool, adb="PIXEL8")
    assert not [call for call in calls(tmp_path, "adb") if " rm " in call]


def test_a_folder_that_stays_is_named_and_the_measurement_kept(
    file, tool, tmp_path, phone, unprobed
):
    (tmp_path / "failing").write_text(" rm ")
    with pytest.warns(UserWarning, match="/kdtf-[0-9a-f]+ stays on PIXEL8, remove it by hand"):
        got = benchmark.benchmark(file, runs=50, repeats=1, binary=tool, adb="PIXEL8")
    assert got.p50_ms == 899.281


@pytest.mark.parametrize(
    "devices, serial, message",
    [
        ("", "", "no Android device is connected.*USB debugging"),
        ("", "PIXEL8", "no Android device 'PIXEL8'; adb devices lists none"),
        ("A\tdevice\nB\toffline\n", "C", r"no Android device 'C'.*A \(device\), B \(offline\)"),
        ("A\tdevice\nB\tdevice\n", "", r"2 Android devices.*serial of one: A \(device\), B"),
        ("A\tunauthorized\n", "", "A is unauthorized: unlock it and allow USB debugging"),
        ("A\tdevice\nB\toffline\n", "B", "B is not ready, adb says 'offline'"),
        (
            "A\tno permissions (missing udev rules?); see [http://developer.android.com/tools/device]\n",
            "A",
            r"adb says 'no permissions \(missing udev",
        ),
    ],
)
def test_refuses_phones_that_are_not_ready(
    file, tool, tmp_path, phone, unprobed, devices, serial, message
):
    (tmp_path / "devices").write_text(devices)
    with pytest.raises(ValueError, match=message):
        benchmark.benchmark(file, binary=tool, adb=serial)
    assert calls(tmp_path, "adb") == ["devices"]


def test_adb_is_missing(file, tool, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="adb is not on PATH: install"):
        benchmark.benchmark(file, binary=tool, adb="")
