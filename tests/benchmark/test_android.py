"""The native tool on a phone, over an adb that acts on a folder."""

import hashlib
import os
import re
import shlex

import pytest
from recorded_benchmarks import calls, script

from kdtf import benchmark


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


def test_phone_is_pushed_to_and_cleaned_once(file, tool, tmp_path, phone, unchecked):
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
def test_the_only_phone_needs_no_serial(file, tool, tmp_path, phone, unchecked, adb):
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
    file, tool, tmp_path, phone, unchecked, properties, device
):
    (tmp_path / "properties").write_text(properties)
    got = benchmark.benchmark(file, runs=50, repeats=1, binary=tool, adb="PIXEL8")
    assert got.device == device


def test_a_failing_run_is_told_and_cleaned_up(file, tool, tmp_path, phone, unchecked):
    (tmp_path / "tool.rc").write_text("139")
    (tmp_path / "tool.txt").write_text("Segmentation fault")
    with pytest.raises(RuntimeError, match="(?s)on PIXEL8: exit status 139.*Segmentation fault"):
        benchmark.benchmark(file, binary=tool, adb="PIXEL8")
    assert len(calls(tmp_path, "tool")) == 1 and left_on(phone) == ["of others"]


@pytest.mark.parametrize("failing", ["push .*model.tflite", "chmod", "getprop", "pull"])
def test_a_failing_adb_is_told_and_cleaned_up(file, tool, tmp_path, phone, unchecked, failing):
    (tmp_path / "failing").write_text(failing)
    with pytest.raises(RuntimeError, match=f"(?s)adb -s PIXEL8 .*{failing}.*exit status 1.*cannot"):
        benchmark.benchmark(file, binary=tool, adb="PIXEL8")
    assert left_on(phone) == ["of others"]


def test_nothing_is_removed_that_was_not_made(file, tool, tmp_path, phone, unchecked):
    (tmp_path / "failing").write_text("mkdir")
    with pytest.raises(RuntimeError, match="mkdir"):
        benchmark.benchmark(file, binary=tool, adb="PIXEL8")
    assert not [call for call in calls(tmp_path, "adb") if " rm " in call]


def test_a_folder_that_stays_is_named_and_the_measurement_kept(
    file, tool, tmp_path, phone, unchecked
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
    file, tool, tmp_path, phone, unchecked, devices, serial, message
):
    (tmp_path / "devices").write_text(devices)
    with pytest.raises(ValueError, match=message):
        benchmark.benchmark(file, binary=tool, adb=serial)
    assert calls(tmp_path, "adb") == ["devices"]


def test_adb_is_missing(file, tool, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="adb is not on PATH: install"):
        benchmark.benchmark(file, binary=tool, adb="")
