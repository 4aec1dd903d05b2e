"""The whole job: photos to a distilled, exported, measured student, and a report."""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kdtf.pipeline import logit_cache
from kdtf.pipeline.config import (
    EMBEDDED_DATA,
    EMBEDDED_TEACHER,
    MODELS,
    REAL_TEACHER,
    STUDENTS,
)
from kdtf.pipeline.stages import Run

# Measured on two cores, for the times announced; seconds for one photo's training step.
TEACHER_SECONDS = {EMBEDDED_TEACHER: 0.004, REAL_TEACHER: 0.06}
START_SECONDS = 12  # tracing and compiling a training


def student_seconds(image_size):
    """Seconds of a student's training step for one photo, on two cores."""
    return 0.002 + 0.14e-6 * image_size**2


def distill(run_dir, config):
    """Runs, or continues, the whole job.

    Args:
      run_dir: directory for everything the run writes.
      config: a `DistillConfig`.

    Returns:
      (results as in `results.json`, path of `report.html`).
    """
    run = Run(run_dir, config)
    total = 9 if config.online_teacher else 10
    numbers = iter(range(1, total + 1))

    def stage(name, what, seconds, *steps):
        about = f"about {max(seconds, 5) / 60:.1f} min on two cores" if seconds else "seconds"
        print(f"\n[{next(numbers)}/{total}] {name}: {what} ({about})", flush=True)
        started = time.monotonic()
        for step, *arguments in steps:
            step(*arguments)
        run.spend(name, time.monotonic() - started)

    photos = EMBEDDED_DATA["photos"]
    embedded = config.data is None
    what = f"draw {photos:,} shelf photos" if embedded else f"open {config.data}"
    stage("data", what, photos * 0.008 if embedded else 0, (run.prepare_data,))

    train = run.info.split("train")
    train_photos = train.examples
    if train.unlabelled:
        print(
            f"{train.labelled:,} of {train_photos:,} training photos have a label: the distilled "
            "student learns the others from the teacher alone, the baseline takes as many steps "
            "on those with a label"
        )
    if config.teacher == ("train",):
        teacher = EMBEDDED_TEACHER if embedded else REAL_TEACHER
        seconds = START_SECONDS + train.labelled * teacher.epochs * TEACHER_SECONDS[teacher]
        what = f"train {teacher.backbone}, {teacher.epochs} epochs at {teacher.image_size} px"
    else:
        what, seconds = f"load {', '.join(config.teacher)}", 0
    stage("teacher", what, seconds, (run.prepare_teacher,))

    if not config.online_teacher:
        images = train_photos * config.views
        seconds = START_SECONDS + images * (run.forward_s + logit_cache.VIEW_SECONDS)
        what = f"the teacher's logits of {config.views} views, {images:,} images, unless cached"
        stage("cache", what, seconds, (run.cache_logits,))
        print(logit_cache.summary(run.cache_facts))

    images = train_photos * config.epochs
    live_s = run.forward_s if config.online_teacher else 0.0
    budget = f"{config.epochs} epochs of {run.steps} steps at {config.image_size} px"
    seconds = START_SECONDS + images * student_seconds(config.image_size)
    stage("baseline", f"labels only, {budget}", seconds, (run.train_student, "baseline"))
    seconds += images * live_s
    what = f"labels and teacher, T={config.temperature:g}, alpha={config.alpha:g}, {budget}"
    stage("distilled", what, seconds, (run.train_student, "distilled"))

    budget = f"{config.qat_epochs} epochs of {run.steps} steps, 8 bits emulated"
    steps = ((run.train_int8, name) for name in STUDENTS)
    images = train_photos * config.qat_epochs
    seconds = 2 * (START_SECONDS * 3 + images * 2 * student_seconds(config.image_size))
    seconds += images * live_s
    stage("int8", f"baseline and distilled, {budget}", seconds, *steps)

    stage("export", "TFLite files, compared with Keras", 90, *((run.export, n) for n in MODELS))
    test = run.info.split("test").examples
    what = f"the exported files on {test:,} test photos"
    stage("evaluate", what, 20 + test * 0.02, *((run.evaluate, n) for n in MODELS), (run.examine,))
    what = "the exported files, one photo at a time, one thread"
    stage("benchmark", what, 20, *((run.measure_latency, n) for n in MODELS))
    stage("report", "results.json, report.html, report.md", 0, (run.report,))
    return run.results, run.page


def summary(results, page):
    """Text for the terminal: the table of models, the gates, the verdict."""
    heads = ("top-1", "macro-F1", "ECE", "MB", "p50 ms", "p95 ms")
    lines = ["", f"{'':<23} " + " ".join(f"{head:>8}" for head in heads)]
    for name, row in results["models"].items():
        latency = row["latency_ms"]
        lines.append(
            f"{name:<23} {row['top1']:>8.1%} {row['macro_f1']:>8.3f} {row['ece']:>8.3f} "
            f"{row['size_bytes'] / 1e6:>8.2f} {latency['p50']:>8.2f} {latency['p95']:>8.2f}"
        )
    lines.append("")
    for gate in results["gates"]:
        value = "not measured" if gate["value"] is None else f"{gate['value']:,.4g}"
        mark = "pass" if gate["passed"] else "FAIL"
        lines.append(f"{mark}  {gate['name']}: {value} (limit {gate['rule']} {gate['limit']:,.4g})")
    lines.append("")
    for label, key in (("float", "verdict"), ("int8", "verdict_int8")):
        verdict = results[key]
        low, high = verdict["interval"]
        lines.append(
            f"Distillation, {label} students: {verdict['verdict']} ({verdict['difference']:+.1%} "
            f"top-1, 95 % interval {low:+.1%} to {high:+.1%} over {verdict['test_examples']:,} "
            "test photos, one seed)"
        )
    return "\n".join([*lines, f"Report: {page}"])
