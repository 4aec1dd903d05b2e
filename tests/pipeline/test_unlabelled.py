"""The main job where training photos lack labels: who learns from which, and for how long."""

import dataclasses
import json
from pathlib import Path

import keras
import killing
import numpy as np
import pytest
import runs
import tensorflow as tf

from kdtf import data, quantize, students
from kdtf.pipeline import dataset, evaluation, student_training, teacher_training
from kdtf.pipeline.config import DistillConfig, TeacherConfig
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.results import BASELINE, DISTILLED, STUDENTS
from tfrecords_tools import synthetic
from tfrecords_tools.shards import Photo, write_dataset

BATCH, EPOCHS = 8, 2


def encoded(photo):
    """Module level, so that its repr is stable."""
    return photo.source


def unlabel(info, out, split, every):
    """The data set without the labels of a split, but of one photo in `every`."""
    photos = []
    for name in info.splits:
        for number, example in enumerate(data.read_examples(info, name)):
            labelled = name != split or number % every == 0
            label = info.classes[example.label] if labelled else None
            photos.append(Photo(example.id, example.encoded, name, label, example.metadata))
    write_dataset(out, photos, encoded, classes=info.classes, workers=1)
    return data.DatasetInfo.load(out)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn")
    synthetic.synthesize(out, classes=4, photos=100, size=32, seed=0, workers=1)
    return data.DatasetInfo.load(out)


@pytest.fixture(scope="module")
def info(drawn, tmp_path_factory):
    return unlabel(drawn, tmp_path_factory.mktemp("partly"), "train", 3)


@pytest.fixture(scope="module")
def config(info, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    settings = TeacherConfig(
        backbone="resnet14_v2", image_size=32, epochs=1, batch_size=BATCH, mixup=0, cutmix=0
    )
    teacher_training.train(info, settings, path, verbose=0)
    return DistillConfig(
        data=str(info.directory),
        teacher=(str(path),),
        image_size=32,
        epochs=EPOCHS,
        qat_epochs=1,
        views=EPOCHS + 1,
        batch_size=BATCH,
        weights=None,
    )


@pytest.fixture(scope="module", autouse=True)
def small_students():
    """Which photos a student sees does not depend on its layers; MobileNetV3 is slow to trace."""

    def small(classes, image_size, *, bn_momentum, **_):
        return students.cifar_cnn(classes, image_size, 0.5, bn_momentum=bn_momentum)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(students, "mobilenet_v3_small", small)
        yield


def watched(labels, caches):
    """`data.training_batches` that notes the labels of every batch, and the caches it reads."""
    real = data.training_batches

    def batches(*arguments, **options):
        caches.append(options["cached_logits"])

        def watch(x, label, weight):
            (kept,) = tf.py_function(
                lambda each: [labels.append(each.numpy()) or each], [label], [label.dtype]
            )
            return x, tf.ensure_shape(kept, label.shape), weight

        return real(*arguments, **options).map(watch)

    return batches


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """(a begun run with both students trained, {student: labels of the photos it has seen})."""
    run, seen = runs.begin(tmp_path_factory.mktemp("run"), config), {}
    for student in STUDENTS:
        labels, caches = [], []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(data, "training_batches", watched(labels, caches))
            run.train(student)
        # A baseline goes round oftener than there are cached views.
        assert caches == [None if student == BASELINE else run.cached]
        seen[student] = np.concatenate(labels[: EPOCHS * run.batches.steps])  # more: drawn ahead
    return run, seen


def test_a_teacher_learns_from_the_photos_with_a_label(info, config):
    facts = json.loads(Path(config.teacher[0]).with_suffix(".json").read_text())
    labelled = info.split("train").labelled
    assert 0 < labelled < info.split("train").examples // 2
    assert len(facts["history"]["loss"]) == 1 and np.isfinite(facts["history"]["loss"]).all()
    settings = TeacherConfig(**facts["config"])
    assert teacher_training.steps_per_epoch(info, settings) == labelled // BATCH


def test_students_take_as_many_steps_on_what_each_can_learn_from(trained):
    run, seen = trained
    train = run.info.split("train")
    steps = run.batches.steps
    assert steps == train.examples // BATCH
    for student, labels in seen.items():
        assert len(labels) == EPOCHS * steps * BATCH
        assert (labels < 0).any() == (student == DISTILLED)
    fractions = np.bincount(seen[BASELINE], minlength=4) / len(seen[BASELINE])
    np.testing.assert_allclose(fractions, np.divide(train.class_counts, train.labelled), atol=0.1)


def test_a_baseline_continues_within_its_round(trained, config, tmp_path):
    run, _ = trained
    own = data.steps_per_epoch(run.info, "train", BATCH, unlabelled="skip")
    assert run.batches.steps % own  # the killed epoch ends within a round
    other = runs.begin(tmp_path, config)
    with killing.killed_in("baseline"):
        other.train(BASELINE)
    other.train(BASELINE)
    for one, two in zip(run.weights(BASELINE), other.weights(BASELINE), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", ["distiller", "int8_distiller"])
def test_accuracy_in_training_is_that_of_the_photos_with_a_label(build, config):
    keras.utils.set_random_seed(0)
    student = students.tiny_cnn(4, image_size=8, channels=3)
    photos = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 3)).astype("float32")
    if build == "int8_distiller":
        student = quantize.quantize_aware(student, [photos])
    distiller = getattr(student_training, build)(student, config, 10, distilled=True)
    x = {"image": photos, "teacher_logits": np.eye(4, dtype="float32")[np.arange(8) % 4]}
    answers = np.asarray(student(photos)).argmax(axis=1)
    right, wrong, none = answers[:1], (answers[1:4] + 1) % 4, [-1] * 4
    labels = np.concatenate([right, wrong, none]).astype("int32")
    logs = distiller.test_on_batch(x, labels, return_dict=True)
    assert logs["accuracy"] == 0.25


def test_where_figures_are_measured_every_photo_needs_a_label(drawn, config, tmp_path):
    unlabel(drawn, tmp_path / "partly", "test", 2)
    wrong = dataclasses.replace(config, data=str(tmp_path / "partly"))
    with pytest.raises(ValueError, match="split 'test' of .* labels: evaluation"):
        dataset.open_or_draw(RunDirectory(tmp_path / "run"), wrong)
    with pytest.raises(ValueError, match="split 'test' of .* labels: evaluation"):
        evaluation.read_truth(data.DatasetInfo.load(tmp_path / "partly"), "test")
