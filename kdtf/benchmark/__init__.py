"""Latency of TFLite files, here or on a phone.

BenchmarkResult    latency and the circumstances of its measurement
benchmark          one file with LiteRT's or the native benchmark tool
benchmark_threads  over numbers of threads
device_name        of this machine
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "latency": ["BenchmarkResult", "benchmark", "benchmark_threads"],
        "litert": ["device_name"],
    },
)
