"""What decides a run of the main job."""

from dataclasses import dataclass


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
