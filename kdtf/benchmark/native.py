"""TensorFlow Lite's native benchmark_model: its flags, its output, and its runs on this machine.

The command line and the parser are tested on recorded output and on a stand-in for the tool.
"""

import dataclasses
import hashlib
import os
import re
import subprocess
from pathlib import Path

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
            f"and one of the measurement:\n{last_lines(text)}"
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
      inputs: of the file, as `subprocess_check.check_runs` gives.
    """
    arguments = [
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
        arguments += [
            f"--input_layer={','.join(f'input{i}' for i in range(len(inputs)))}",
            f"--input_layer_shape={':'.join(shapes)}",
            f"--input_layer_value_range={':'.join(zeros)}",
        ]
    return arguments


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
        self.processors = os.cpu_count()

    def run(self, threads, runs, warmup, timeout_s):
        """Run of one process; RuntimeError where it fails or takes longer than timeout_s."""
        arguments = flags(self._model, threads, runs, warmup, timeout_s, self._inputs)
        done = run_child([str(self._binary), *arguments], timeout_s)
        if done.returncode:
            raise RuntimeError(
                f"benchmark_model failed on {self._model}: exit status "
                f"{done.returncode}\n{last_lines(done.stdout)}"
            )
        return parse(done.stdout, runs)


def _delegation(text):
    sentence = re.search(
        r"Explicitly applied (\w+) delegate, and the model graph will be (completely|partially) "
        r"executed by the delegate(?: w/ (\d+) delegate kernels)?",
        text,
    )
    if sentence:
        return {
            "delegate": sentence[1],
            "delegate_partitions": int(sentence[3] or 1),
            "fully_delegated": sentence[2] == "completely",
        }
    if "the model graph will not be executed by the delegate" in text:
        return {"delegate": None, "delegate_partitions": 0, "fully_delegated": False}
    raise RuntimeError(
        "benchmark_model does not say what XNNPACK took over, was it built with "
        f"XNNPACK? {_BUILD}. It printed:\n{last_lines(text)}"
    )


def run_child(command, timeout_s):
    """CompletedProcess with standard error in stdout, as the tool writes to both."""
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
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


def last_lines(text):
    """The end of what a process printed, for messages."""
    return "\n".join(text.strip().splitlines()[-8:])
