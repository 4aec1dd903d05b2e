"""Latency of a .tflite file on this machine, measured with LiteRT's own benchmark tool.

The tool is `litert-benchmark` of ai-edge-litert, run with this interpreter. It rounds to 0.01 ms.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_TOOL_MODULE = "ai_edge_litert.tools.benchmark_litert_model"

# The tool fills integer inputs with -128..127, which an embedding of a short vocabulary rejects
# ("gather index out of bounds"), by luck of the draw. 0, a missing value, is a row of every table.
_TOOL = f"""
import sys
import numpy as np
from {_TOOL_MODULE} import main
np.random.randint = lambda low, high=None, size=None, dtype=int: np.zeros(size, dtype)
sys.argv[0] = "litert-benchmark"
sys.exit(main())
"""

# Run apart from the caller: some files end the process that opens them, inside the runtime.
_PROBE = """
import json, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
rng = np.random.default_rng(0)
results = []
for top in (0, 128, 255):
    for wanted in interpreter.get_input_details():
        if np.issubdtype(wanted["dtype"], np.floating):
            values = rng.uniform(0, top, wanted["shape"])
        elif np.prod(wanted["shape"]) > 1:
            limit = np.iinfo(wanted["dtype"])
            values = rng.uniform(0, top, wanted["shape"]).round() + max(limit.min, -128)
        else:
            values = np.zeros(wanted["shape"])
        interpreter.set_tensor(wanted["index"], values.astype(wanted["dtype"]))
    interpreter.invoke()
    results.append(np.concatenate([
        np.ravel(interpreter.get_tensor(out["index"])).astype("float64")
        for out in interpreter.get_output_details()]))
# Fused activations clamp an infinity to the largest float.
print(json.dumps({
    "finite": bool((np.abs(results) < np.finfo("float32").max).all()),
    "constant": all((result == results[0]).all() for result in results),
    "delegate_partitions": sum(
        node["op_name"] == "DELEGATE" for node in interpreter._get_ops_details()),
}))
"""


@dataclasses.dataclass(frozen=True)
class BenchmarkResult:
    """Latency of one file and the circumstances under which it was measured.

    Attributes:
      p50_ms, p95_ms: median over the repeats of each repeat's median and 95th percentile.
      mean_ms: median over the repeats of the mean.
      min_ms, max_ms: fastest and slowest run of all.
      p50_low_ms, p50_high_ms: smallest and largest median of a repeat; far apart on a busy machine.
      threads, runs, warmup, repeats: as asked for; runs and warmup are per repeat.
      delegate: "XNNPACK", or None where the runtime used none.
      delegate_partitions: into how many pieces the graph was cut for it; 1 is best.
      fully_delegated: whether no node was left outside.
      device: the processor's name.
      load_average: of the machine in the minute before, None where the system has no such number.
      tool, version: what measured.
    """

    p50_ms: float
    p95_ms: float
    mean_ms: float
    min_ms: float
    max_ms: float
    p50_low_ms: float
    p50_high_ms: float
    threads: int
    runs: int
    warmup: int
    repeats: int
    delegate: str | None
    delegate_partitions: int
    fully_delegated: bool
    device: str
    load_average: float | None
    tool: str
    version: str


def benchmark(path, threads=1, runs=200, warmup=20, repeats=3, timeout_s=600):
    """Measures a .tflite file for one photo at a time.

    First the file is opened in a child process and run on three different inputs: a file that
    kills the runtime, returns values that are not finite, or always returns the same is refused
    instead of timed.

    Args:
      path: .tflite file.
      threads: threads of the runtime.
      runs: timed runs in each repeat.
      warmup: untimed runs before them.
      repeats: fresh processes, one after another.
      timeout_s: limit for each process, seconds.

    Returns:
      BenchmarkResult.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a count is below 1, or the file is refused.
      RuntimeError: the tool is missing, failed, or took longer than timeout_s.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no TFLite file at {path}")
    for name, value in (
            ("threads", threads), ("runs", runs), ("warmup", warmup), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}")
    version = _tool_version()
    partitions = _probe(path, timeout_s)
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    measured = [_run_tool(path, threads, runs, warmup, timeout_s) for _ in range(repeats)]
    latencies = [result["latency"] for result in measured]
    medians = [latency["median_ms"] for latency in latencies]
    return BenchmarkResult(
        p50_ms=statistics.median(medians),
        p95_ms=statistics.median(latency["p95_ms"] for latency in latencies),
        mean_ms=statistics.median(latency["avg_ms"] for latency in latencies),
        min_ms=min(latency["min_ms"] for latency in latencies),
        max_ms=max(latency["max_ms"] for latency in latencies),
        p50_low_ms=min(medians),
        p50_high_ms=max(medians),
        threads=threads,
        runs=runs,
        warmup=warmup,
        repeats=repeats,
        delegate="XNNPACK" if partitions else None,
        delegate_partitions=partitions,
        fully_delegated=bool(measured[0]["fully_accelerated"]),
        device=device_name(),
        load_average=None if load_average is None else round(load_average, 2),
        tool="litert-benchmark",
        version=version,
    )


def device_name():
    """Name of this machine's processor, as exact as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware") and value.strip():
                return value.strip()
    except OSError:  # Not Linux.
        pass
    return platform.processor() or platform.machine()


def _tool_version():
    try:
        found = importlib.util.find_spec(_TOOL_MODULE) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise RuntimeError(
            f"the benchmark tool {_TOOL_MODULE} is missing from {sys.executable}: pip install "
            "--upgrade ai-edge-litert")
    return importlib.metadata.version("ai-edge-litert")


def _probe(path, timeout_s):
    """Number of delegate partitions of a file that works; ValueError for one that does not."""
    done = _child([sys.executable, "-c", _PROBE, str(path)], timeout_s)
    if done.returncode:
        raise ValueError(f"{path} does not run: {_failure(done)}")
    seen = json.loads(done.stdout.splitlines()[-1])
    if not seen["finite"]:
        raise ValueError(f"{path} returns values that are not finite: its latency means nothing")
    if seen["constant"]:
        raise ValueError(
            f"{path} returns the same values for three different inputs: its latency means nothing")
    return seen["delegate_partitions"]


def _run_tool(path, threads, runs, warmup, timeout_s):
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        done = _child([
            sys.executable, "-c", _TOOL, "--model", str(path), "--num_threads", str(threads),
            "--num_runs", str(runs), "--warmup_runs", str(warmup), "--result_json", str(result),
        ], timeout_s)
        if done.returncode or not result.is_file():
            raise RuntimeError(f"litert-benchmark failed on {path}: {_failure(done)}")
        return json.loads(result.read_text())


def _child(command, timeout_s):
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"no result within {timeout_s} s: raise timeout_s or lower runs") from error


def _failure(done):
    """How a child process ended, with the end of what it said."""
    if done.returncode < 0:
        how = f"it was killed by {signal.Signals(-done.returncode).name} inside the runtime"
    else:
        how = f"exit status {done.returncode}"
    said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
    return f"{how}\n{said}".rstrip()
