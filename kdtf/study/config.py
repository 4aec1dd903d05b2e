"""What every training of a study has in common."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from kdtf import files, limits
from kdtf.arguments import Argument
from kdtf.pipeline.config import SMALLEST_IMAGE, Count, Decay, Rate

MOBILENET, CIFAR = "mobilenet_v3_small", "cifar_cnn"


def check_weights(path):
    """Refuses what is not a file of weights."""
    files.check_file(path, ".npz", ".keras")


@dataclass(frozen=True)
class StudyConfig:
    """Settings of a study; written to `config.json`, compared when it is continued."""

    student: Literal["mobilenet_v3_small", "cifar_cnn"] = MOBILENET
    """the network"""
    image_size: Annotated[int, Ge(8)] = 96
    """side of its input, pixels; 32 or more for mobilenet_v3_small"""
    weights: Annotated[str | None, Argument("FILE", check_weights)] = None
    """file that it starts from (default: random)"""
    frozen_blocks: Annotated[int, Interval(ge=0, le=11)] = 0
    """how many of MobileNetV3's 11 blocks keep those weights"""
    views: Count = 4
    """of each training image"""
    view_size: Annotated[int, Ge(8)] = 160
    """side in pixels at which views are drawn"""
    epochs: Count = 8
    """of the base; all label fractions take as many steps"""
    batch_size: Count = 64
    """images per batch"""
    learning_rate: Rate = 1e-3
    """peak of the cosine schedule"""
    weight_decay: Decay = 0.02
    """of AdamW"""
    temperature: Annotated[float, Gt(0)] = 4.0
    """T of the soft targets"""
    alpha: Annotated[float, Interval(ge=0, le=1)] = 0.7
    """weight of the soft targets"""

    def __post_init__(self):
        limits.check(self)

    def conflicts(self):
        """(field, rule) of what one value forbids another."""
        if self.student == CIFAR and (self.weights or self.frozen_blocks):
            named = "weights" if self.weights else "frozen_blocks"
            yield named, "is for mobilenet_v3_small: cifar_cnn starts at random"
        elif self.frozen_blocks and not self.weights:
            yield "frozen_blocks", "must be 0 without weights"
        if self.student == MOBILENET and self.image_size < SMALLEST_IMAGE:
            yield "image_size", f"must be at least {SMALLEST_IMAGE} for mobilenet_v3_small"

    def steps(self, examples, length):
        """Steps of a training of `length` times the base's on `examples` images."""
        return max(1, round(length * self.epochs * examples / self.batch_size))
