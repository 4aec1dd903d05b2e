"""litert-benchmark of ai-edge-litert, run with this interpreter on this machine."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
import tempfile
from pathlib import Path

from kdtf import files
from kdtf.benchmark import native
from kdtf.export import subprocess_check

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


class LiteRt:
    """litert-benchmark on this machine.

    Args:
      path: .tflite file.
      delegate_partitions: of the file, which the tool does not tell.
    """

    load_average = staticmethod(native.load_average)
    processors = os.cpu_count()

    def __init__(self, path, delegate_partitions):
        self._path, self._partitions, self.device = path, delegate_partitions, device_name()

    def run(self, threads, runs, warmup, timeout_s):
        """Run of one process; RuntimeError where it fails or takes longer than timeout_s."""
        result = _run_tool(self._path, threads, runs, warmup, timeout_s)
        latency = result["latency"]
        return native.Run(
            p50_ms=latency["median_ms"],
            p95_ms=latency["p95_ms"],
            mean_ms=latency["avg_ms"],
            min_ms=latency["min_ms"],
            max_ms=latency["max_ms"],
            init_ms=latency.get("init_ms"),
            memory_bytes=None,
            # The tool does not name it.
            delegate="XNNPACK" if self._partitions else None,
            delegate_partitions=self._partitions,
            fully_delegated=bool(result["fully_accelerated"]),
        )


def version():
    """Version of ai-edge-litert, which brings the tool; RuntimeError where the tool is missing."""
    try:
        missing = importlib.util.find_spec(_TOOL_MODULE) is None
    except ModuleNotFoundError:
        missing = True
    if missing:
        raise RuntimeError(
            f"the benchmark tool {_TOOL_MODULE} is missing from {sys.executable}: pip install "
            "--upgrade ai-edge-litert"
        )
    return importlib.metadata.version("ai-edge-litert")


def device_name():
    """Name of this machine's processor, as exact as the system tells."""
    try:
        for line in (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        ):
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware") and value.strip():
                return value.strip()
    except OSError:  # Not Linux.
        pass
    return platform.processor() or platform.machine()


def _run_tool(path, threads, runs, warmup, timeout_s):
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        done = subprocess_check.run_child(
            [
                sys.executable,
                "-c",
                _TOOL,
                "--model",
                str(path),
                "--num_threads",
                str(threads),
                "--num_runs",
                str(runs),
                "--warmup_runs",
                str(warmup),
                "--result_json",
                str(result),
            ],
            timeout_s,
        )
        if done.returncode or not result.is_file():
            raise RuntimeError(
                f"litert-benchmark failed on {path}: {subprocess_check.failure(done)}"
            )
        return files.read_json(result)
