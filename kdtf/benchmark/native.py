"""TensorFlow Lite's native benchmark_model, run here or over adb on an Android phone.

Both machines have a `device`, a `load_average()` and a `run(threads, runs, warmup, timeout_s)`.
The command lines and the parser are tested on recorded output and on stand-ins for the tool and
for adb, not on a phone.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

_PHONE_FOLDER = "/data/local/tmp"
_MAKER, _MODEL, _CHIP, _BOARD = (
    "ro.product.manufacturer",
    "ro.product.model",
    "ro.soc.model",
    "ro.board.platform",
)
_BUILD = "build a recent tensorflow/lite/tools/benchmark:benchmark_model"


@dataclasses.dataclass(frozen=True)
class Run:
    """What one process of a benchmark tool measured; times in milliseconds.

    memory_bytes is None where the tool does not tell; so is delegate where it used none.
    """

    p50_ms: float
    p95_ms: float
    mean_ms: float
    min_ms: float
    max_ms: float
    init_ms: float | None
    memory_bytes: int | None
    delegate: str | None
    delegate_partitions: int
    fully_delegated: bool


def parse(text, runs):
    """Reads a Run from the output of benchmark_model.

    Args:
      text: all it printed, standard error included.
      runs: timed runs it was asked for.

    Raises:
      RuntimeError: it ignored a flag, printed no measurement or no percentiles, stopped before
        `runs` were done, or did not say what XNNPACK took over.
    """
    ignored = re.search(r"Unconsumed cmdline flags: *(.*\S)", text)
    if ignored:
        raise RuntimeError(
            f"benchmark_model does not know {ignored[1]} and measured something else: {_BUILD}"
        )
    lines = re.findall(r"\bcount=\d.*", text)
    if len(lines) < 2:
        raise RuntimeError(
            f"benchmark_model printed {len(lines)} lines with count=, expected one of the warm-up "
            f"and one of the measurement:\n{_end(text)}"
        )
    us = {key: float(value) for key, value in re.findall(r"(\w+)=([\d.e+]+)", lines[1])}
    if "median" not in us or "p95" not in us:
        raise RuntimeError(
            f"benchmark_model is too old, it prints no percentiles: {_BUILD}. It "
            f"printed: {lines[1].strip()}"
        )
    if us["count"] != runs:
        raise RuntimeError(
            f"benchmark_model did {us['count']:.0f} of {runs} runs: raise timeout_s or lower runs"
        )
    init = re.search(r"Inference timings in us: Init: ([\d.e+]+)", text)
    # The peak is not asked for: the thread that watches it disturbs the timing.
    memory = re.search(r"Memory footprint delta .*overall=([\d.e+]+)", text)
    return Run(
        p50_ms=us["median"] / 1000,
        p95_ms=us["p95"] / 1000,
        # Of equal times, and of a single one, only the newest is printed.
        mean_ms=us.get("avg", us["curr"]) / 1000,
        min_ms=us.get("min", us["curr"]) / 1000,
        max_ms=us.get("max", us["curr"]) / 1000,
        init_ms=float(init[1]) / 1000 if init else None,
        # A system without the figure prints 0.
        memory_bytes=round(float(memory[1]) * 2**20) or None if memory else None,
        **_delegation(text),
    )


def flags(model, threads, runs, warmup, max_s, inputs):
    """Flags of benchmark_model, list of str.

    Args:
      model: path of the .tflite file, as the tool sees it.
      threads, runs, warmup: as in `kdtf.benchmark.benchmark`.
      max_s: seconds after which warm-up and measurement each stop by themselves.
      inputs: of the file, as `kdtf.probe.probe` tells.
    """
    told = [
        f"--graph={model}",
        f"--num_threads={threads}",
        f"--num_runs={runs}",
        f"--warmup_runs={warmup}",
        "--min_secs=0",
        "--warmup_min_secs=0",
        f"--max_secs={max_s}",
        "--use_xnnpack=true",
    ]
    # The tool fills wide integers with 0..99, which an embedding of a short vocabulary rejects.
    # 0, a missing value, is a row of every table. The names only have to agree with each other:
    # inputs go by position, and real names hold ":", the separator of these lists.
    zeros = [
        f"input{i},0,0"
        for i, each in enumerate(inputs)
        if re.fullmatch(r"u?int(32|64)", each["dtype"])
    ]
    if zeros:
        shapes = (",".join(map(str, each["shape"])) for each in inputs)
        told += [
            f"--input_layer={','.join(f'input{i}' for i in range(len(inputs)))}",
            f"--input_layer_shape={':'.join(shapes)}",
            f"--input_layer_value_range={':'.join(zeros)}",
        ]
    return told


def version(binary):
    """First 12 hexadecimal digits of the SHA-256 of the binary, which names no version itself.

    Raises:
      FileNotFoundError: no such file.
    """
    binary = Path(binary)
    if not binary.is_file():
        raise FileNotFoundError(f"no benchmark_model at {binary}")
    return hashlib.sha256(binary.read_bytes()).hexdigest()[:12]


def check_executable(binary):
    """Refuses a tool that this machine may not run; ValueError."""
    if not os.access(binary, os.X_OK):
        raise ValueError(f"{binary} is not executable: chmod +x {binary}")


def load_average():
    """Of this machine in the last minute, None where the system has no such number."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


class Desktop:
    """benchmark_model run on this machine."""

    def __init__(self, binary, model, inputs, device):
        check_executable(binary)
        self._binary, self._model, self._inputs = Path(binary).resolve(), model, inputs
        self.device, self.load_average = device, load_average

    def run(self, threads, runs, warmup, timeout_s):
        """Run of one process; RuntimeError where it fails or takes longer than timeout_s."""
        told = flags(self._model, threads, runs, warmup, timeout_s, self._inputs)
        done = _child([str(self._binary), *told], timeout_s)
        if done.returncode:
            raise RuntimeError(
                f"benchmark_model failed on {self._model}: exit status "
                f"{done.returncode}\n{_end(done.stdout)}"
            )
        return parse(done.stdout, runs)


class Phone:
    """benchmark_model pushed to an Android phone; use as made by `on_phone`."""

    def __init__(self, serial, folder, inputs, taskset, timeout_s):
        self._serial, self._folder, self._timeout_s = serial, folder, timeout_s
        self._inputs = inputs
        self._command = f"taskset {taskset} ./benchmark_model" if taskset else "./benchmark_model"
        name = " ".join(filter(None, map(self._property, (_MAKER, _MODEL)))) or serial
        chip = self._property(_CHIP) or self._property(_BOARD)
        self.device = f"{name} ({chip})" if chip else name

    def _shell(self, command):
        return adb(self._serial, "shell", command, timeout_s=self._timeout_s).strip()

    def _property(self, key):
        return self._shell(f"getprop {key}")

    def load_average(self):
        """Of the last minute, None where Android does not let the shell read it."""
        said = self._shell("cat /proc/loadavg 2>/dev/null; true")
        return float(said.split()[0]) if re.match(r"\d+\.\d+ ", said) else None

    def run(self, threads, runs, warmup, timeout_s):
        """Run of one process; RuntimeError where it fails or takes longer than timeout_s."""
        told = " ".join(flags("model.tflite", threads, runs, warmup, timeout_s, self._inputs))
        said = adb(
            self._serial,
            "shell",
            f"cd {self._folder} && {self._command} {told} > result.txt 2>&1; echo $?",
            timeout_s=timeout_s,
        ).split()
        with tempfile.TemporaryDirectory() as here:
            result = Path(here) / "result.txt"
            adb(
                self._serial, "pull", f"{self._folder}/result.txt", str(result), timeout_s=timeout_s
            )
            text = result.read_text(errors="replace")
        if said[-1:] != ["0"]:
            raise RuntimeError(
                f"benchmark_model failed on {self._serial}: exit status "
                f"{said[-1] if said else 'unknown'}\n{_end(text)}"
            )
        return parse(text, runs)


@contextlib.contextmanager
def on_phone(serial, binary, model, inputs, taskset=None, timeout_s=600):
    """Context of a Phone that holds the tool and the model in a folder of its own.

    The folder is removed at the end, also after an error; where that fails, a warning names it.

    Args:
      serial: a device that `chosen_device` returned.
      binary, model: files of this machine.
      inputs: of the model, as `kdtf.probe.probe` tells.
      taskset: hexadecimal mask of the processors to run on, such as "f0", or None.
      timeout_s: limit for each command of adb, seconds.
    """
    folder = f"{_PHONE_FOLDER}/kdtf-{secrets.token_hex(8)}"
    # Fails where the folder is there: only what was made here is removed.
    adb(serial, "shell", f"mkdir {folder}", timeout_s=timeout_s)
    try:
        adb(serial, "push", str(binary), f"{folder}/benchmark_model", timeout_s=timeout_s)
        adb(serial, "push", str(model), f"{folder}/model.tflite", timeout_s=timeout_s)
        adb(serial, "shell", f"chmod 755 {folder}/benchmark_model", timeout_s=timeout_s)
        yield Phone(serial, folder, inputs, taskset, timeout_s)
    finally:
        try:
            adb(serial, "shell", f"rm -r {folder}", timeout_s=timeout_s)
        except RuntimeError as error:  # A measurement, or the error before, counts for more.
            warnings.warn(f"{folder} stays on {serial}, remove it by hand: {error}", stacklevel=2)


def chosen_device(serial, timeout_s=600):
    """Serial of the Android device to use: `serial`, or the only one where it is "" or True.

    Raises:
      RuntimeError: adb is missing or fails.
      ValueError: no such device, none or several to choose from, or it is not ready.
    """
    serial = "" if serial is True else serial
    if shutil.which("adb") is None:
        raise RuntimeError("adb is not on PATH: install Android's platform-tools")
    lines = adb(None, "devices", timeout_s=timeout_s).partition("List of devices attached")[2]
    devices = dict(line.strip().split("\t", 1) for line in lines.splitlines() if "\t" in line)
    listed = ", ".join(f"{name} ({state})" for name, state in devices.items()) or "none"
    if serial and serial not in devices:
        raise ValueError(f"no Android device {serial!r}; adb devices lists {listed}")
    if not devices:
        raise ValueError(
            "no Android device is connected: connect one, with USB debugging "
            "switched on; adb devices lists none"
        )
    if not serial and len(devices) > 1:
        raise ValueError(
            f"{len(devices)} Android devices are connected, give the serial of one: {listed}"
        )
    serial = serial or next(iter(devices))
    if devices[serial] == "unauthorized":
        raise ValueError(
            f"{serial} is unauthorized: unlock it and allow USB debugging for this computer"
        )
    if devices[serial] != "device":
        raise ValueError(
            f"{serial} is not ready, adb says {devices[serial]!r}: reconnect it and "
            "see that adb devices says 'device'"
        )
    return serial


def adb(serial, *arguments, timeout_s):
    """What an adb command printed; RuntimeError where it fails."""
    command = ["adb", *(["-s", serial] if serial else []), *arguments]
    done = _child(command, timeout_s)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)}: exit status {done.returncode}\n{_end(done.stdout)}"
        )
    return done.stdout


def _delegation(text):
    found = re.search(
        r"Explicitly applied (\w+) delegate, and the model graph will be (completely|partially) "
        r"executed by the delegate(?: w/ (\d+) delegate kernels)?",
        text,
    )
    if found:
        return {
            "delegate": found[1],
            "delegate_partitions": int(found[3] or 1),
            "fully_delegated": found[2] == "completely",
        }
    if "the model graph will not be executed by the delegate" in text:
        return {"delegate": None, "delegate_partitions": 0, "fully_delegated": False}
    raise RuntimeError(
        "benchmark_model does not say what XNNPACK took over, was it built with "
        f"XNNPACK? {_BUILD}. It printed:\n{_end(text)}"
    )


def _child(command, timeout_s):
    """CompletedProcess with standard error in stdout, as the tool writes to both."""
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"no result within {timeout_s} s from {command[0]}: raise timeout_s or lower runs"
        ) from error
    except OSError as error:
        raise RuntimeError(
            f"{command[0]} does not start, is it built for this machine? {error.strerror}"
        ) from error


def _end(text):
    return "\n".join(text.strip().splitlines()[-8:])
