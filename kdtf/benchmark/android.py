"""TensorFlow Lite's native benchmark_model on an Android phone, over adb.

Tested on a stand-in for adb that acts on a folder, not on a phone.
"""

import contextlib
import re
import secrets
import shutil
import tempfile
import warnings
from pathlib import Path

from kdtf.benchmark import native

_PHONE_FOLDER = "/data/local/tmp"
_MAKER, _MODEL, _CHIP, _BOARD = (
    "ro.product.manufacturer",
    "ro.product.model",
    "ro.soc.model",
    "ro.board.platform",
)


class Phone:
    """benchmark_model pushed to an Android phone; use as made by `on_phone`."""

    processors = None  # which of them a phone keeps awake is not known

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
        line = self._shell("cat /proc/loadavg 2>/dev/null; true")
        return float(line.split()[0]) if re.match(r"\d+\.\d+ ", line) else None

    def run(self, threads, runs, warmup, timeout_s):
        """Run of one process; RuntimeError where it fails or takes longer than timeout_s."""
        flags = native.flags("model.tflite", threads, runs, warmup, timeout_s, self._inputs)
        status = adb(
            self._serial,
            "shell",
            f"cd {self._folder} && {self._command} {' '.join(flags)} > result.txt 2>&1; echo $?",
            timeout_s=timeout_s,
        ).split()
        with tempfile.TemporaryDirectory() as here:
            result = Path(here) / "result.txt"
            adb(
                self._serial, "pull", f"{self._folder}/result.txt", str(result), timeout_s=timeout_s
            )
            text = result.read_text(encoding="utf-8", errors="replace")
        if status[-1:] != ["0"]:
            raise RuntimeError(
                f"benchmark_model failed on {self._serial}: exit status "
                f"{status[-1] if status else 'unknown'}\n{native.last_lines(text)}"
            )
        return native.parse(text, runs)


@contextlib.contextmanager
def on_phone(serial, binary, model, inputs, taskset=None, timeout_s=600):
    """Context of a Phone that holds the tool and the model in a folder of its own.

    The folder is removed at the end, also after an error; where that fails, a warning names it.

    Args:
      serial: a device that `chosen_device` returned.
      binary, model: files of this machine.
      inputs: of the model, as `subprocess_check.check_runs` gives.
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
    done = native.run_child(command, timeout_s)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)}: exit status {done.returncode}\n{native.last_lines(done.stdout)}"
        )
    return done.stdout
