"""Latency of a .tflite file, on this machine or on an Android phone, by an established tool.

By default that is `litert-benchmark` of ai-edge-litert, run with this interpreter; it rounds to
0.01 ms. Given its path, TensorFlow Lite's native `benchmark_model` measures instead, here or over
adb. For Android, command lines and parser are tested on recorded output and a stand-in for adb, not
on a phone.
"""

import contextlib
import dataclasses
import re
import statistics
import warnings
from pathlib import Path

from kdtf.benchmark import android, litert, native
from kdtf.export import subprocess_check


@dataclasses.dataclass(frozen=True)
class BenchmarkResult:
    """Latency of one file and the circumstances under which it was measured.

    Attributes:
      p50_ms, p95_ms: median over the repeats of each repeat's median and 95th percentile.
      mean_ms: median over the repeats of the mean.
      min_ms, max_ms: fastest and slowest run of all.
      p50_low_ms, p50_high_ms: smallest and largest median of a repeat. They may be close together
        on a busy machine too: `busy` tells.
      threads, runs, warmup, repeats: as asked for; runs and warmup are per repeat.
      delegate: "XNNPACK", or None where the runtime used none.
      delegate_partitions: into how many pieces the graph was cut for it; 1 is best.
      fully_delegated: whether no node was left outside.
      device: the processor's name, or the phone's maker, model and chip.
      load_average: of the machine in the minute before, None where the system has no such number.
      busy: whether other work left too few processors free: load_average and threads together were
        more than there are, before or in the end (then without the threads, which count in it).
        None where the load is not known, or not how many processors there are: on a phone.
      tool, version: what measured; of a native tool the start of its SHA-256.
      init_ms: median over the repeats of opening the file and preparing the graph, None where the
        tool does not tell.
      memory_bytes: median over the repeats of what the process grew by, from the start of the tool
        to the end of the runs; approximate, None where the tool does not tell.
      taskset: mask of the processors the phone was held to, None for all.
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
    init_ms: float | None = None
    memory_bytes: int | None = None
    taskset: str | None = None
    busy: bool | None = None


def benchmark(
    path,
    threads=1,
    runs=200,
    warmup=20,
    repeats=3,
    timeout_s=600,
    *,
    binary=None,
    adb=None,
    taskset=None,
):
    """Measures a .tflite file for one photo at a time.

    First the file is opened here, in a child process, and run on three different inputs: a file
    that kills the runtime, returns values that are not finite, or always returns the same is
    refused instead of timed.

    Args:
      path: .tflite file.
      threads: threads of the runtime.
      runs: timed runs in each repeat.
      warmup: untimed runs before them.
      repeats: fresh processes, one after another.
      timeout_s: limit for each process, seconds.
      binary: path of a native benchmark_model to measure with, or None for litert-benchmark.
      adb: serial of the Android phone to push the file and the binary to and measure on, "" or
        True for the only one connected, or None to measure on this machine.
      taskset: hexadecimal mask of the phone's processors to run on, such as "f0", or None.

    Returns:
      BenchmarkResult.

    Raises:
      FileNotFoundError: no such file or binary.
      ValueError: a count is below 1, options do not go together, the file is refused, or the phone
        is not connected or not ready.
      RuntimeError: the tool or adb is missing, failed, or took longer than timeout_s; the native
        tool is too old or does not know a flag.
    """
    return benchmark_threads(
        path, (threads,), runs, warmup, repeats, timeout_s, binary=binary, adb=adb, taskset=taskset
    )[threads]


def benchmark_threads(
    path,
    thread_counts=(1, 2, 4),
    runs=200,
    warmup=20,
    repeats=3,
    timeout_s=600,
    *,
    binary=None,
    adb=None,
    taskset=None,
):
    """Measures a .tflite file with several numbers of threads, pushed to a phone only once.

    Args:
      path: .tflite file.
      thread_counts: numbers of threads, measured in this order.
      runs, warmup, repeats, timeout_s, binary, adb, taskset: as in `benchmark`.

    Returns:
      dict: {threads: BenchmarkResult}.

    Raises:
      as `benchmark`.
    """
    path, thread_counts = Path(path), tuple(thread_counts)
    if not path.is_file():
        raise FileNotFoundError(f"no TFLite file at {path}")
    if not thread_counts:
        raise ValueError("thread_counts is empty, expected numbers such as (1, 2, 4)")
    for name, value in (
        *(("threads", threads) for threads in thread_counts),
        ("runs", runs),
        ("warmup", warmup),
        ("repeats", repeats),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}")
    _check_options(binary, adb, taskset)
    tool = "litert-benchmark" if binary is None else "benchmark_model"
    version = litert.version() if binary is None else native.version(binary)
    serial = None if adb is None else android.chosen_device(adb, timeout_s)
    facts = subprocess_check.check_runs(path, timeout_s)

    with contextlib.ExitStack() as stack:
        # Each machine has a `device`, `processors` (their number, or None), a `load_average()` and
        # a `run(threads, runs, warmup, timeout_s)` that gives a `native.Run`.
        if binary is None:
            machine = litert.LiteRt(path, facts["delegate_partitions"])
        elif adb is None:
            machine = native.Desktop(binary, path, facts["inputs"], litert.device_name())
        else:
            machine = stack.enter_context(
                android.on_phone(serial, binary, path, facts["inputs"], taskset, timeout_s)
            )
        results = {}
        for threads in thread_counts:
            load_average = machine.load_average()
            measured = [machine.run(threads, runs, warmup, timeout_s) for _ in range(repeats)]
            after = None if machine.processors is None else machine.load_average()
            busy = is_busy(load_average, after, threads, machine.processors)
            if busy:
                warnings.warn(
                    f"{path} was measured on a busy machine: {machine.processors} processors, and "
                    f"a load of {load_average:.1f} in the minute before, {after:.1f} in the end. "
                    "The latency may be too high: measure again when nothing else runs",
                    stacklevel=2,
                )
            results[threads] = BenchmarkResult(
                **_summary(measured),
                busy=busy,
                threads=threads,
                runs=runs,
                warmup=warmup,
                repeats=repeats,
                device=machine.device,
                load_average=None if load_average is None else round(load_average, 2),
                tool=tool,
                version=version,
                taskset=taskset,
            )
        return results


def is_busy(before, after, threads, processors):
    """Whether a machine had too few processors free for a measurement; None where unknown.

    Args:
      before: load average before it, or None.
      after: load average at its end, its own threads included, or None.
      threads: of the runtime.
      processors: of the machine, or None.
    """
    if None in (before, after, processors):
        return None
    # More threads than processors is what was asked for. Half a process is always about.
    return max(before + min(threads, processors), after) > processors + 0.5


def _check_options(binary, adb, taskset):
    if not (adb is None or adb is True or isinstance(adb, str)):
        raise ValueError(
            'adb must be the serial of a phone, "" or True for the only one '
            f"connected, or None for this machine, got {adb!r}"
        )
    if adb is not None and binary is None:
        raise ValueError(
            f"adb is {adb!r} without a binary: litert-benchmark does not run on Android, give the "
            "path of a benchmark_model built for it (android_arm64)"
        )
    if taskset is None:
        return
    if adb is None:
        raise ValueError(
            f"taskset is {taskset!r} without adb: it is for a phone, give its serial, "
            "or start Python itself under taskset"
        )
    mask = "[0-9a-fA-F]*[1-9a-fA-F][0-9a-fA-F]*"
    if not (isinstance(taskset, str) and re.fullmatch(mask, taskset)):
        raise ValueError(
            f'taskset must be a hexadecimal mask of processors such as "f0", got {taskset!r}'
        )


def _summary(measured):
    """Fields of a BenchmarkResult from the Run of each repeat."""

    def median(field):
        values = [getattr(run, field) for run in measured]
        return None if None in values else statistics.median(values)

    medians = [run.p50_ms for run in measured]
    memory_bytes = median("memory_bytes")
    return {
        "p50_ms": statistics.median(medians),
        "p95_ms": median("p95_ms"),
        "mean_ms": median("mean_ms"),
        "min_ms": min(run.min_ms for run in measured),
        "max_ms": max(run.max_ms for run in measured),
        "p50_low_ms": min(medians),
        "p50_high_ms": max(medians),
        "init_ms": median("init_ms"),
        "memory_bytes": None if memory_bytes is None else round(memory_bytes),
        "delegate": measured[0].delegate,
        "delegate_partitions": measured[0].delegate_partitions,
        "fully_delegated": measured[0].fully_delegated,
    }
