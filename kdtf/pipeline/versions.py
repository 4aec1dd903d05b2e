"""What a run's figures depend on besides its settings: versions, machine, data."""

import os
import platform
import time
from importlib.metadata import version

import keras
import tensorflow as tf
import tf_keras

import kdtf
from kdtf import benchmark


def environment(info):
    """{name: value} for `results.json`, of a `data.DatasetInfo` and this machine."""
    return {
        "kdtf": kdtf.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "tf_keras": tf_keras.__version__,
        "tensorflow_model_optimization": version("tensorflow-model-optimization"),
        "device": benchmark.device_name(),
        "cores": os.cpu_count(),
        "data": str(info.directory),
        "data_sha256": info.sha256(),
        "training_photos": info.split("train").examples,
        "training_labels": info.split("train").labelled,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }
