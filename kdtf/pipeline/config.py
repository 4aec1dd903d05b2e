"""What decides a run of the main job: its settings, and the models that it makes."""

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version

import keras
import tensorflow as tf
import tf_keras

import kdtf
from kdtf import benchmark
from kdtf.pipeline import teacher_training

STUDENTS = ("baseline", "distilled")
INT8 = tuple(f"{name}_int8" for name in STUDENTS)
# Other ways to a small file, for comparison: none of them is trained for it.
POST_TRAINING = ("distilled_ptq_int8", "distilled_dynamic_range", "distilled_float16")
MODELS = ("teacher", *STUDENTS, *INT8, *POST_TRAINING)
SHIPPED = "distilled_int8"
PACKAGES = ("kdtf", "tensorflow", "keras", "tf_keras", "tensorflow_model_optimization")


@dataclass(frozen=True)
class Config:
    """What decides a run; written to `config.json`, compared when a run is continued."""

    data: str | None = None
    teacher: tuple[str, ...] = ("train",)
    student: str = "none"
    image_size: int = 224
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    temperature: float = 4.0
    alpha: float = 0.7
    views: int = 10
    top_k: int = 64
    logits: str | None = None
    live_teacher: bool = False
    qat_epochs: int = 4
    qat_learning_rate: float = 3e-5
    qat_label_learning_rate: float = 2e-6
    qat_freeze_epoch: int = 0
    weights: str | None = "imagenet"
    warm_start: str | None = None
    seed: int = 0
    benchmark_binary: str | None = None
    adb: str | None = None
    taskset: str | None = None


EMBEDDED = Config(image_size=96, epochs=10, views=8, qat_epochs=2, weights=None)
EMBEDDED_DATA = {"classes": 40, "photos": 2400, "size": 128, "examples_per_shard": 128}
EMBEDDED_TEACHER = teacher_training.Config(
    backbone="resnet14_v2", image_size=96, epochs=12, mixup=0.0, cutmix=0.0
)
REAL_TEACHER = teacher_training.Config(backbone="mobilenet_v2", weights="imagenet")


def environment(info):
    """What a run's figures depend on besides its settings: versions, machine, data."""
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
