"""The whole job: photos to a distilled, exported, measured student, and a report."""

import os
from dataclasses import asdict
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
)
from kdtf.pipeline.batches import Batches
from kdtf.pipeline.evaluation import Evaluation
from kdtf.pipeline.progress import Progress
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.pipeline.run_models import RunModels
from kdtf.pipeline.teacher import load_or_train_teacher
from kdtf.results import INT8, MODELS, SHIPPED, STUDENTS


def distill(run_dir, config):
    """Runs, or continues, the whole job.

    Args:
      run_dir: directory for everything the run writes.
      config: a `DistillConfig`.

    Returns:
      (results as in `results.json`, path of `report.html`).

    Raises:
      ValueError: the directory holds a run of other settings or of another format; photos are in
        train and test; `config.logits` holds something else.
    """
    run = RunDirectory(Path(run_dir))
    dataset.check_leaks(config)
    logit_cache.check_folder(config)
    settings = asdict(config)
    del settings["allow_leaks"]  # decides whether to run, not what
    run_config.check_or_write(run.config, {"format": run_config.FORMAT} | settings)
    progress = Progress(run, total=9 if config.online_teacher else 10)

    with progress.stage(estimates.data_stage(config)):
        info = dataset.open_or_draw(run, config)
    if info.split("train").unlabelled:
        print(dataset.unlabelled_note(info))
    with progress.stage(estimates.teacher_stage(config, info)):
        teacher = load_or_train_teacher(run, config, info)
    cached = None
    if not config.online_teacher:
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
