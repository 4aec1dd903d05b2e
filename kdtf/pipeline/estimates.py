"""What each stage of a run is announced with: what it does, and about how long on two cores."""

from typing import NamedTuple

from kdtf.pipeline.batches import steps_per_epoch
from kdtf.pipeline.config import EMBEDDED_DATA, EMBEDDED_TEACHER, REAL_TEACHER
from kdtf.pipeline.teacher import default_teacher
from kdtf.results import BASELINE

# Measured on two cores; seconds for one image's training step.
TEACHER_SECONDS = {EMBEDDED_TEACHER: 0.004, REAL_TEACHER: 0.06}
START_SECONDS = 12  # tracing and compiling a training
VIEW_SECONDS = 0.004  # to decode and draw one view


class Stage(NamedTuple):
    """A stage of a run.

    name: as in `stages.json`; what: it does, for people; seconds: it takes, 0 where they are few.
    """

    name: str
    what: str
    seconds: float = 0


def student_seconds(image_size):
    """Seconds of a student's training step for one image."""
    return 0.002 + 0.14e-6 * image_size**2


def data_stage(config):
    """`Stage` of opening or drawing the data that a `DistillConfig` names."""
    if config.data is not None:
        return Stage("data", f"open {config.data}")
    images = EMBEDDED_DATA["photos"]
    return Stage("data", f"draw {images:,} shelf photos", images * 0.008)


def teacher_stage(config, info):
    """`Stage` of loading or training the teacher, on a `data.DatasetInfo`."""
    if config.teacher != ("train",):
        return Stage("teacher", f"load {', '.join(config.teacher)}")
    teacher = default_teacher(config)
    what = f"train {teacher.backbone}, {teacher.epochs} epochs at {teacher.image_size} px"
    steps = info.split("train").labelled * teacher.epochs
    return Stage("teacher", what, START_SECONDS + steps * TEACHER_SECONDS[teacher])


def cache_stage(config, info, forward_s):
    """`Stage` of the cached logits; forward_s: of the teacher, for one image."""
    images = info.split("train").examples * config.views
    what = f"the teacher's logits of {config.views} views, {images:,} images, unless cached"
    return Stage("cache", what, START_SECONDS + images * (forward_s + VIEW_SECONDS))


def student_stage(config, info, student, forward_s):
    """`Stage` of training a float student."""
    images = info.split("train").examples * config.epochs
    what = f"{config.epochs} epochs of {steps_per_epoch(info, config)} steps"
    what += f" at {config.image_size} px"
    seconds = START_SECONDS + images * student_seconds(config.image_size)
    if student == BASELINE:
        return Stage(student.key, f"labels only, {what}", seconds)
    what = f"labels and teacher, T={config.temperature:g}, alpha={config.alpha:g}, {what}"
    return Stage(student.key, what, seconds + images * _live_seconds(config, forward_s))


def int8_stage(config, info, forward_s):
    """`Stage` of quantization-aware training of both students."""
    images = info.split("train").examples * config.qat_epochs
    what = f"baseline and distilled, {config.qat_epochs} epochs of "
    what += f"{steps_per_epoch(info, config)} steps, 8 bits emulated"
    seconds = 2 * (START_SECONDS * 3 + images * 2 * student_seconds(config.image_size))
    return Stage("int8", what, seconds + images * _live_seconds(config, forward_s))


def export_stage():
    """`Stage` of the TFLite files."""
    return Stage("export", "TFLite files, compared with Keras", 90)


def evaluate_stage(info):
    """`Stage` of measuring the files."""
    images = info.split("test").examples
    return Stage("evaluate", f"the exported files on {images:,} test photos", 20 + images * 0.02)


def benchmark_stage():
    """`Stage` of the files' latency."""
    return Stage("benchmark", "the exported files, one photo at a time, one thread", 20)


def report_stage():
    """`Stage` of the results and their page."""
    return Stage("report", "results.json, report.html, report.md")


def _live_seconds(config, forward_s):
    return forward_s if config.online_teacher else 0.0
