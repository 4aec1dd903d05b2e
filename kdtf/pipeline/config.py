"""What decides a run of the main job, and a teacher's training: settings with their limits.

Nothing heavy is imported here: a command line's help needs no TensorFlow.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, MinLen

from kdtf import data, files, limits
from kdtf.arguments import Argument, Preset
from kdtf.benchmark import android

BACKBONES = ("mobilenet_v2", "mobilenet_v3_large", "efficientnet_v2_b0", "efficientnet_v2_s")
RESNETS = ("resnet14_v2", "resnet18_v2")
SMALLEST_IMAGE = 32  # pixels, of the networks that halve the image five times

Count = Annotated[int, Ge(1)]
Side = Annotated[int, Ge(SMALLEST_IMAGE)]
Rate = Annotated[float, Gt(0)]  # of learning
Decay = Annotated[float, Ge(0)]
Seed = Annotated[int, Interval(ge=0, le=2**32 - 1)]


def check_teacher(path):
    """Refuses what is neither a `.keras` file nor the word `train`."""
    if path != "train":
        files.check_file(path, ".keras")


def check_weights(path):
    """Refuses what is neither a file of weights nor the word `imagenet`."""
    if path != "imagenet":
        files.check_file(path, ".npz", ".keras")


def check_arrays(path):
    """Refuses what is neither a file of arrays nor the word `imagenet`."""
    if path != "imagenet":
        files.check_file(path, ".npz")


def check_warm_start(path):
    """Refuses what is not a student with the file beside it that names its classes."""
    files.check_file(path, ".keras")
    described = Path(path).with_suffix(".json")
    if not described.is_file():
        raise FileNotFoundError(f"no {described}, which names its classes: keep the two together")


def check_backbone(name):
    """Refuses what is neither a backbone's name nor a saved classifier."""
    if name.endswith(".keras"):
        files.check_file(name)
    elif name not in BACKBONES + RESNETS:
        raise ValueError(f"must be one of {', '.join(BACKBONES + RESNETS)}, or a .keras file")


def check_mask(mask):
    """Refuses what is not a hexadecimal mask of processors."""
    if not re.fullmatch("[0-9a-fA-F]*[1-9a-fA-F][0-9a-fA-F]*", mask):
        raise ValueError("must be a hexadecimal mask, such as f0")


Data = Annotated[str, Argument("DIR", data.DatasetInfo.load)]
TeacherFile = Annotated[str, Argument("FILE", check_teacher)]


@dataclass(frozen=True)
class TeacherConfig:
    """Everything that decides a teacher, apart from the data."""

    backbone: Annotated[str, Argument("NAME", check_backbone)] = "mobilenet_v2"
    """mobilenet_v2, mobilenet_v3_large, efficientnet_v2_b0, efficientnet_v2_s; resnet14_v2,
    resnet18_v2 (keras-cv, from scratch); or a saved classifier of -1..1 images (.keras) to cut
    before its head"""
    weights: Annotated[str | None, Argument("FILE", check_arrays)] = None
    """imagenet, an .npz of the backbone's arrays, or nothing: random"""
    image_size: Side = 224
    """side of the input, pixels"""
    metadata: bool = False
    """use the metadata columns too"""
    epochs: Count = 12
    """epochs"""
    batch_size: Count = 32
    """images per batch"""
    learning_rate: Rate = 1e-3
    """peak of the cosine schedule"""
    weight_decay: Decay = 0.02
    """of AdamW"""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2
    """before the head"""
    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    """label smoothing"""
    mixup: Annotated[float, Ge(0)] = 0.2
    """MixUp's Beta parameter, 0 = none"""
    cutmix: Annotated[float, Ge(0)] = 1.0
    """CutMix's Beta parameter, 0 = none"""
    ema: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    """momentum of the weights' moving average, 0 = none"""
    seed: Seed = 0
    """of initial head, order and views"""
    allow_leaks: bool = False
    """train although photos of the test split are in train too"""

    def __post_init__(self):
        limits.check(self)


@dataclass(frozen=True)
class DistillConfig:
    """What decides a run; written to `config.json`, compared when a run is continued."""

    data: Data | None = None
    """directory with dataset.json and shards (default: images drawn here)"""
    teacher: Annotated[tuple[TeacherFile, ...], MinLen(1)] = ("train",)
    """.keras file; several make an ensemble; `train` trains one"""
    student: Literal["none", "metadata"] = "none"
    """metadata branch of the student"""
    image_size: Side = 224
    """side of the student's input, pixels"""
    epochs: Count = 10
    """epochs of each student"""
    batch_size: Count = 32
    """images per batch"""
    learning_rate: Rate = 1e-3
    """peak of the cosine schedule"""
    weight_decay: Decay = 0.02
    """of AdamW"""
    temperature: Annotated[float, Gt(0)] = 4.0
    """T of the soft targets"""
    alpha: Annotated[float, Interval(ge=0, le=1)] = 0.7
    """weight of the soft targets"""
    views: Count = 10
    """views of each training image that the teacher scores, once"""
    top_k: Count = 64
    """logits kept of each view; all, where that takes no more bytes"""
    logits: Annotated[str | None, Argument("DIR", files.check_folder)] = None
    """where the teacher's logits are or go (default: beside the shards, by settings)"""
    online_teacher: bool = False
    """ask the teacher in every step, about a new view of every image in every epoch"""
    qat_epochs: Count = 4
    """epochs of quantization-aware training of each student"""
    qat_learning_rate: Rate = 3e-5
    """peak of its cosine schedule where the teacher helps"""
    qat_label_learning_rate: Rate = 2e-6
    """the same, of labels alone"""
    qat_freeze_epoch: Annotated[int, Ge(0)] = 0
    """epoch of it from which batch norms keep their statistics"""
    weights: Annotated[str | None, Argument("FILE", check_weights)] = "imagenet"
    """student's start: imagenet, none, or a file (.npz, .keras)"""
    warm_start: Annotated[str | None, Argument("FILE", check_warm_start)] = None
    """an earlier run's models/distilled.keras that both students start from, class by class by
    name, instead of --weights"""
    seed: Seed = 0
    """of initial weights, order and views"""
    allow_leaks: bool = False
    """run although photos of the test split are in train too: measures will be too good"""
    benchmark_binary: Annotated[str | None, Argument("FILE", files.check_file)] = None
    """TensorFlow Lite's native benchmark_model"""
    adb: Annotated[str | None, Argument("SERIAL", android.chosen_device, bare="")] = None
    """measure latency on the Android phone that adb knows; with --benchmark-binary"""
    taskset: Annotated[str | None, Argument("MASK", check_mask)] = None
    """with --adb: cores to run on, in hex, such as f0"""

    def __post_init__(self):
        limits.check(self)

    def conflicts(self):
        """(field, rule) of what one value forbids another."""
        if "train" in self.teacher and len(self.teacher) > 1:
            yield "teacher", "must be files, or `train` alone"
        if self.adb is not None and self.benchmark_binary is None:
            yield "adb", "needs --benchmark-binary: what runs on the phone"
        if self.taskset is not None and self.adb is None:
            yield "taskset", "needs --adb: it is for a phone's cores"


EMBEDDED = DistillConfig(image_size=96, epochs=10, views=8, qat_epochs=2, weights=None)
EMBEDDED_DATA = {"classes": 40, "photos": 2400, "size": 128, "examples_per_shard": 128}
EMBEDDED_TEACHER = TeacherConfig(
    backbone="resnet14_v2", image_size=96, epochs=12, mixup=0.0, cutmix=0.0
)
REAL_TEACHER = TeacherConfig(backbone="mobilenet_v2", weights="imagenet")
PRESET = Preset(EMBEDDED, unless="data", note="drawn", otherwise="with --data")
