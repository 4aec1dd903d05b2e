"""The whole job: photos to a distilled, exported, measured student, and a report.

    python recipes/distill.py                                  # drawn shelf photos, no download
    python recipes/distill.py --data shards/ --teacher teacher.keras --run-dir runs/2026-w47

A baseline student learns from labels, a distilled one from labels and the teacher (Hinton et al.,
2015, arXiv:1503.02531): same initial weights, batches, steps and schedule. Both are exported to
TFLite, and the exported files are what is evaluated and benchmarked. Everything lands in the run
directory; a killed run continues when the same command is given again.

The teacher scores `--views` views of each training photo once, and both students are trained on
these views, float and 8 bits; later runs with the same teacher and data find them scored. With
`--live-teacher` it scores a new view of every photo in every epoch. Training photos without a label
are the distilled student's, which learns them from the teacher; the baseline takes as many steps on
the others, in views of its own.

Cost: with no arguments 11 minutes on two cores. On 2,640 photos at 224 px four to six
minutes a student plus the teacher's forward passes. What it gave: docs/grocery.md.
"""

import argparse
import os
from dataclasses import asdict, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kdtf.pipeline import (
    benchmarking,
    dataset,
    estimates,
    exporting,
    logit_cache,
    reporting,
    run_config,
    student_training,
    teacher_training,
)
from kdtf.pipeline.batches import Batches
from kdtf.pipeline.config import EMBEDDED, Config
from kdtf.pipeline.evaluation import Evaluation
from kdtf.pipeline.progress import Progress
from kdtf.pipeline.reporting import summary
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.pipeline.run_models import RunModels
from kdtf.pipeline.teacher import load_or_train_teacher
from kdtf.results import INT8, MODELS, SHIPPED, STUDENTS


def distill(run_dir, config):
    """Runs, or continues, the whole job.

    Args:
      run_dir: directory for everything the run writes.
      config: a `Config`.

    Returns:
      (results as in `results.json`, path of `report.html`).

    Raises:
      ValueError: the directory holds a run of other settings or of another format.
    """
    run = RunDirectory(Path(run_dir))
    run_config.check_or_write(run.config, {"format": run_config.FORMAT} | asdict(config))
    progress = Progress(run, total=9 if config.live_teacher else 10)

    with progress.stage(estimates.data_stage(config)):
        info = dataset.open_or_draw(run, config)
    if info.split("train").unlabelled:
        print(dataset.unlabelled_note(info))
    with progress.stage(estimates.teacher_stage(config, info)):
        teacher = load_or_train_teacher(run, config, info)
    cached = None
    if not config.live_teacher:
        with progress.stage(estimates.cache_stage(config, info, teacher.forward_s)):
            cached, cache_facts = logit_cache.open_or_write(run, config, info, teacher)
        print(logit_cache.summary(cache_facts))
    batches = Batches(info, config, teacher.model, cached)
    models = RunModels(run, teacher.model, batches)

    for student in STUDENTS:
        with progress.stage(estimates.student_stage(config, info, student, teacher.forward_s)):
            student_training.train_student(run, config, info, teacher, batches, student)
    with progress.stage(estimates.int8_stage(config, info, teacher.forward_s)):
        for model in INT8:
            if not run.int8_weights(model).exists():
                network = models.calibrated(model)
                calibrated = model.at("ptq_int8")
                if calibrated in MODELS:  # before training changes it
                    exporting.export_model(run, models, batches, calibrated, network)
                student_training.train_int8(run, config, teacher, batches, model, network)
                models.keep_int8(model, network)

    with progress.stage(estimates.export_stage()):
        for model in MODELS:
            exporting.export_model(run, models, batches, model)
    evaluation = Evaluation(run, info, models, batches)
    with progress.stage(estimates.evaluate_stage(info)):
        for model in MODELS:
            evaluation.measure(model)
        evaluation.collect_mistakes(SHIPPED)
        evaluation.measure_layers(SHIPPED)
    with progress.stage(estimates.benchmark_stage()):
        for model in MODELS:
            benchmarking.measure_latency(run, config, model)
    with progress.stage(estimates.report_stage()):
        results = reporting.assemble(run, info, teacher, evaluation)
        page = reporting.write_report(run, config, info, results)
    return results.to_json(), page


def parse(argv=None):
    """(run directory, Config) of a command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", help="directory with dataset.json and shards (default: photos drawn here)")
    add("--run-dir", help="where everything goes (default: runs/<data>-<seed>)")
    add(
        "--teacher",
        nargs="+",
        help=".keras file; several make an ensemble; `train` (default) trains one",
    )
    add("--student", choices=("none", "metadata"), help="metadata branch of the student")
    add("--weights", help="student's start: imagenet, none, or a file (.npz, .keras)")
    add(
        "--warm-start",
        metavar="FILE",
        help="an earlier run's models/distilled.keras that both students start from, class by "
        "class by name, instead of --weights",
    )
    for name, kind, text in (
        ("image_size", int, "side of the student's input, pixels"),
        ("epochs", int, "epochs of each student"),
        ("batch_size", int, "photos per batch"),
        ("learning_rate", float, "peak of the cosine schedule"),
        ("weight_decay", float, "of AdamW"),
        ("temperature", float, "T of the soft targets"),
        ("alpha", float, "weight of the soft targets, 0 to 1"),
        ("views", int, "views of each training photo that the teacher scores, once"),
        ("top_k", int, "logits kept of each view; all, where that takes no more bytes"),
        ("qat_epochs", int, "epochs of quantization-aware training of each student"),
        ("qat_freeze_epoch", int, "epoch of it from which batch norms keep their statistics"),
        ("qat_learning_rate", float, "peak of its cosine schedule where the teacher helps"),
        ("qat_label_learning_rate", float, "the same, of labels alone"),
        ("seed", int, "of initial weights, order and views"),
    ):
        defaults = {getattr(EMBEDDED, name), getattr(Config(), name)}
        shown = " drawn, ".join(f"{value:g}" for value in sorted(defaults))
        note = f"{shown} with --data" if len(defaults) > 1 else shown
        add("--" + name.replace("_", "-"), type=kind, help=f"{text} (default: {note})")
    add(
        "--logits",
        metavar="DIR",
        help="where the teacher's logits are or go (default: beside the shards, by settings)",
    )
    add(
        "--live-teacher",
        action="store_true",
        help="ask the teacher in every step, about a new view of every photo in every epoch",
    )
    add("--benchmark-binary", metavar="PATH", help="TensorFlow Lite's native benchmark_model")
    add(
        "--adb",
        nargs="?",
        const="",
        metavar="SERIAL",
        help="measure latency on the Android phone that adb knows; with --benchmark-binary",
    )
    add("--taskset", metavar="MASK", help="with --adb: cores to run on, in hex, such as f0")
    given = {k: v for k, v in vars(parser.parse_args(argv)).items() if v is not None}
    run_dir = given.pop("run_dir", None)
    base = Config() if "data" in given else EMBEDDED
    if "teacher" in given:
        given["teacher"] = tuple(given["teacher"])
    if given.get("weights") == "none":
        given["weights"] = None
    config = replace(base, **given)
    source = Path(config.data).resolve().name if config.data else "embedded"
    return run_dir or f"runs/{source}-{config.seed}", config


def main(argv=None):
    run_dir, config = parse(argv)
    with teacher_training.report_errors():
        results, page = distill(run_dir, config)
    print(summary(results, page))


if __name__ == "__main__":
    main()
