"""The study of when distillation helps: its plan, its labels, its findings, and a small run."""

import json
from pathlib import Path

import numpy as np
import pytest

from kdtf import data, losses, students, teachers
from kdtf.metrics import comparison, predictions
from kdtf.pipeline import evaluation
from kdtf.study import command, conditions, effects, view_cache
from kdtf.study.conditions import Condition, Job
from kdtf.study.config import StudyConfig
from kdtf.study.trainer import Trainer, split_student
from tfrecords_tools import synthetic

CLASSES = 6
LABELS = np.repeat(np.arange(CLASSES), [40, 20, 10, 5, 2, 1])


def test_points_take_each_axis_in_turn():
    planned = conditions.points(["label_noise", "teacher"], ["good", "bad", "worse"])
    assert [(point.axis, point.value) for point in planned] == [
        ("label_noise", 0.0),
        ("teacher", "good"),
        ("label_noise", 0.4),
        ("teacher", "bad"),
        ("label_noise", 0.2),
        ("teacher", "worse"),
        ("label_noise", 0.1),
    ]
    assert planned[0].condition == planned[1].condition == Condition("good")
    assert planned[3].condition == Condition("bad")


def test_unlabelled_points_share_the_baseline_of_their_label_fraction():
    planned = conditions.points(["label_fraction", "unlabelled"], ["t"])
    names = [job.name for job in conditions.jobs(planned, [0])]
    assert len(names) == len(set(names)) == 5 * 2 + 4
    assert sum(name.startswith("baseline") for name in names) == 5


@pytest.mark.parametrize("student", conditions.STUDENTS)
def test_jobs_of_one_name_are_one_training(student):
    planned = conditions.points([axis for axis in conditions.AXES if axis != "teacher"], ["t"])
    trainings = {}
    for point in planned:
        job = Job(student, point.condition, 0)
        trainings.setdefault(job.name, set()).add(job.seen)
    assert len(trainings) > 9
    assert all(len(seen) == 1 for seen in trainings.values())


def test_a_baseline_s_batches_hold_no_photo_without_a_label():
    added = Condition("t", label_fraction=0.1, unlabelled=True)
    for student, used_photos in (("baseline", 10), ("distilled", len(LABELS))):
        labels, used = conditions.visible_labels(LABELS, CLASSES, Job(student, added, 0).seen, 0)
        assert used.sum() == used_photos
        assert (labels[used] < 0).any() == (student == "distilled")


def test_jobs_finish_a_point_before_the_next():
    planned = conditions.points(["label_noise"], ["t"])
    jobs = conditions.jobs(planned, [3, 5])
    assert [(job.student, job.seed, job.condition.label_noise) for job in jobs[:5]] == [
        ("baseline", 3, 0.0),
        ("distilled", 3, 0.0),
        ("baseline", 5, 0.0),
        ("distilled", 5, 0.0),
        ("baseline", 3, 0.4),
    ]


def test_teachers_share_baselines_and_nothing_else_is_shared():
    condition = Condition("a", label_noise=0.1)
    assert (
        Job("baseline", condition, 0).name
        == Job("baseline", Condition("b", label_noise=0.1), 0).name
    )
    names = {
        Job("distilled", c, s).name
        for s in (0, 1)
        for c in (
            condition,
            Condition("b", label_noise=0.1),
            Condition("a"),
            Condition("a", length=3.0),
            Condition("a", width=0.5),
            Condition("a", label_fraction=0.1),
            Condition("a", label_fraction=0.1, unlabelled=True),
        )
    }
    assert len(names) == 14


def test_axes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="unknown axes.*'depth'.*label_fraction"):
        conditions.points(["depth"], ["t"])
    with pytest.raises(ValueError, match="'teacher' compares teachers, got only 't'"):
        conditions.points(["teacher"], ["t"])


@pytest.mark.parametrize("fraction", [0.05, 0.5, 1.0])
def test_labelled_subset_holds_the_fraction_of_every_class(fraction):
    kept = conditions.labelled_subset(LABELS, fraction, seed=1)
    counts = np.bincount(LABELS)
    want = [max(1, round(fraction * count)) for count in counts]
    np.testing.assert_array_equal(np.bincount(LABELS[kept]), want)


def test_labelled_subsets_are_nested_and_decided_by_the_seed():
    small, again, large = (
        conditions.labelled_subset(LABELS, fraction, 1) for fraction in (0.1, 0.1, 0.5)
    )
    np.testing.assert_array_equal(small, again)
    assert large[small].all()
    assert (small != conditions.labelled_subset(LABELS, 0.1, 2)).any()
    with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\], got 0"):
        conditions.labelled_subset(LABELS, 0, 1)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.4, 1.0])
def test_noisy_labels_replace_the_fraction_of_every_class(noise):
    noisy = conditions.noisy_labels(LABELS, CLASSES, noise, seed=1)
    for number, count in enumerate(np.bincount(LABELS)):
        replaced = np.sum(noisy[LABELS == number] != number)
        assert abs(replaced - noise * count) < 1
    assert noisy.min() >= 0 and noisy.max() < CLASSES


def test_noisy_labels_are_nested_and_decided_by_the_seed():
    low, again, high = (
        conditions.noisy_labels(LABELS, CLASSES, noise, 1) for noise in (0.2, 0.2, 0.4)
    )
    np.testing.assert_array_equal(low, again)
    wrong = low != LABELS
    np.testing.assert_array_equal(high[wrong], low[wrong])
    assert (low != conditions.noisy_labels(LABELS, CLASSES, 0.2, 2)).any()


def test_wrong_labels_are_any_other_class():
    noisy = conditions.noisy_labels(np.zeros(6000, int), 4, 1.0, seed=0)
    np.testing.assert_allclose(np.bincount(noisy, minlength=4), [0, 2000, 2000, 2000], atol=150)


def test_visible_labels_hide_what_is_not_labelled():
    hidden = Condition("t", label_fraction=0.1)
    labels, used = conditions.visible_labels(LABELS, CLASSES, hidden, 0)
    kept = conditions.labelled_subset(LABELS, 0.1, 0)
    np.testing.assert_array_equal(used, kept)
    np.testing.assert_array_equal(labels, np.where(kept, LABELS, -1))
    added = Condition("t", label_fraction=0.1, unlabelled=True)
    more, all_used = conditions.visible_labels(LABELS, CLASSES, added, 0)
    np.testing.assert_array_equal(more, labels)
    assert all_used.all()


def test_schedule_shows_all_photos_and_views_equally_often():
    used = np.array([True, False, True, True, False, True])
    photos, views = conditions.schedule(used, views=3, steps=12, batch_size=2, seed=0)
    assert photos.shape == views.shape == (12, 2)
    seen = np.zeros((6, 3), int)
    np.add.at(seen, (photos.ravel(), views.ravel()), 1)
    np.testing.assert_array_equal(seen, np.where(used, 2, 0)[:, None] * np.ones(3, int))
    first_pass = photos.ravel()[:4]
    assert sorted(first_pass) == [0, 2, 3, 5]


def _results(planned, seeds, rng, gain=0.0):
    """Results of made-up students; with a gain, distilled ones mend that fraction of the errors."""
    results = {}
    labels = rng.integers(0, 3, 400)
    for job in conditions.jobs(planned, seeds):
        right = rng.random(400) < 0.6
        if job.student == "distilled":
            base = results[Job("baseline", job.condition, job.seed).name]["predictions"]
            right = (np.array(base) == labels) | (rng.random(400) < gain)
        predictions = np.where(right, labels, (labels + 1) % 3)
        metrics = {name: 0.1 for name in effects.MEASURES} | {"top1": float(right.mean())}
        results[job.name] = {
            "seed": job.seed,
            "metrics": metrics,
            "predictions": predictions.tolist(),
        }
    return results, labels


def test_measure_pairs_by_seed_and_by_photo():
    planned = conditions.points(["label_noise"], ["t"])[:2]
    results, labels = _results(planned, [0, 1, 2], np.random.default_rng(0), gain=0.3)
    rows = effects.measure(planned, results, [0, 1, 2], labels)
    for row, point in zip(rows, planned, strict=True):
        top1 = [
            [results[Job(s, point.condition, seed).name]["metrics"]["top1"] for seed in (0, 1, 2)]
            for s in conditions.STUDENTS
        ]
        want = comparison.seed_difference(*top1)
        assert row["over_seeds"] == want and row["gain"] == want["difference"]
        assert row["over_photos"]["mean"] == pytest.approx(row["gain"])
        assert row["over_photos"]["count"] == 400
        assert row["verdict"] == "helps"
        assert row["measures"]["nll"]["mean"] == 0
    same, labels = _results(planned, [0, 1, 2], np.random.default_rng(0))
    assert effects.measure(planned, same, [0, 1, 2], labels)[0]["verdict"] == "no difference shown"


def test_unfinished_points_are_said_to_be_not_measured():
    planned = conditions.points(["label_noise"], ["t"])[:2]
    results, labels = _results(planned, [0, 1], np.random.default_rng(0))
    for seed in (0, 1):
        del results[Job("distilled", planned[1].condition, seed).name]
    rows = effects.measure(planned, results, [0, 1], labels)
    assert rows[0]["gain"] is not None and rows[0]["seeds"] == [0, 1]
    assert rows[1]["gain"] is None and rows[1]["seeds"] == []
    lines = effects.table(rows).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "| label noise | 0.4 | 0 | not measured |" in lines[3]


def test_rows_are_ordered_by_value_within_an_axis():
    planned = conditions.points(["label_noise", "label_fraction"], ["t"])
    rows = effects.ordered(effects.measure(planned, {}, [0, 1], np.zeros(3, int)))
    assert [row["value"] for row in rows] == [0, 0.1, 0.2, 0.4, 0.05, 0.1, 0.25, 0.5, 1.0]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    synthetic.synthesize(out, classes=4, photos=80, size=32, seed=0, workers=1)
    return data.DatasetInfo.load(out)


@pytest.fixture(scope="module")
def arguments(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    teacher = folder / "teacher.keras"
    students.cifar_cnn(4, 16).save(teacher)
    return [
        "--data",
        str(shards.directory),
        "--teacher",
        str(teacher),
        "--student",
        "cifar_cnn",
        "--image-size",
        "16",
        "--view-size",
        "24",
        "--views",
        "2",
        "--epochs",
        "1",
        "--batch-size",
        "16",
        "--run-dir",
        str(folder / "run"),
        "--seeds",
        "0",
        "1",
    ]


@pytest.fixture(scope="module")
def run(arguments, tmp_path_factory):
    command.main([*arguments, "--axes", "unlabelled"])
    return Path(arguments[arguments.index("--run-dir") + 1])


def test_a_small_study_from_end_to_end(run, arguments, capsys):
    report = json.loads((run / "study.json").read_text())
    assert [point["value"] for point in report["points"]] == [0.1, 0.25, 0.05, 0.5]
    assert all(point["gain"] is not None for point in report["points"])
    for name in ("gains.png", "parts.png"):
        assert (run / name).read_bytes()[:4] == b"\x89PNG"
    assert (run / "table.md").read_text().count("\n") == 6
    before = {path: path.stat().st_mtime_ns for path in (run / "jobs").iterdir()}
    assert len(before) == 16
    lost = run / "jobs" / f"{sorted(before)[-1].name}"
    content = json.loads(lost.read_text())
    lost.unlink()
    command.main([*arguments, "--axes", "unlabelled"])
    assert "1 of them left" in capsys.readouterr().out
    again = json.loads(lost.read_text())
    assert again["predictions"] == content["predictions"]
    assert again["loss"] == pytest.approx(content["loss"], rel=1e-5)
    after = {path: path.stat().st_mtime_ns for path in (run / "jobs").iterdir()}
    assert {path for path in after if after[path] != before[path]} == {lost}


def test_a_point_s_baseline_is_trained_on_its_labelled_photos(run, shards, arguments):
    teacher = arguments[arguments.index("--teacher") + 1]
    readers = {
        "student": lambda: view_cache.pixels(16),
        "teacher": lambda: view_cache.logits(teachers.load([teacher]), 4),
    }
    views = view_cache.read_views(run / "views", shards, readers, views=2, view_size=24)
    labels = {
        split: evaluation.read_truth(shards, split).labels for split in ("train", "val", "test")
    }
    settings = StudyConfig(
        student="cifar_cnn", image_size=16, view_size=24, views=2, epochs=1, batch_size=16
    )
    alone = Job("baseline", Condition("teacher", label_fraction=0.25), 1)
    want = Trainer(shards, settings, views, labels).run(alone)
    got = json.loads((run / "jobs" / f"{alone.name}.json").read_text())
    assert got["predictions"] == want["predictions"]
    assert got["loss"] == pytest.approx(want["loss"], rel=1e-5)


def test_other_settings_in_the_same_directory_are_refused(run, arguments):
    with pytest.raises(SystemExit, match="'alpha': 0.7.*'alpha': 0.5"):
        command.main([*arguments, "--axes", "unlabelled", "--alpha", "0.5"])


def test_views_are_drawn_once_and_logits_are_of_these_views(run, shards, arguments):
    teacher = teachers.load([arguments[arguments.index("--teacher") + 1]])
    stored = np.load(run / "views" / "teacher.npz")["train"]
    readers = {"teacher": lambda: view_cache.logits(teacher, 4)}
    fresh = view_cache.read_views(run / "fresh", shards, readers, views=2, view_size=24)
    np.testing.assert_allclose(fresh["teacher"]["train"], stored, rtol=1e-5, atol=1e-5)
    assert stored.shape == (2, shards.split("train").examples, 4)
    assert np.abs(stored[0] - stored[1]).max() > 0


def test_photos_without_a_label_learn_from_the_teacher_alone(run, shards):
    settings = StudyConfig(student="cifar_cnn", image_size=16, batch_size=4, alpha=0.25)
    labels = {"train": np.zeros(4, int)}
    trainer = Trainer(shards, settings, {}, labels)
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (4, 16, 16, 3)).astype("float32")
    teacher = rng.normal(size=(4, 4)).astype("float32")
    x = {"image": image, "teacher_logits": teacher}
    student = trainer.distiller(1.0, 1, 0.0).student(image, training=True).numpy()
    hard = predictions.log_losses(student, np.array([2, 0, 3, 1]))
    soft = losses.soft_target_kl(teacher, student, 4.0).numpy()
    for alpha in (0.0, 0.25):
        distiller = trainer.distiller(1.0, 1, alpha)
        loss = distiller.train_on_batch(x, np.array([2, -1, 3, -1], "int32"), return_dict=True)
        want = alpha * soft.mean() + (1 - alpha) * hard[[0, 2]].sum() / 4
        assert loss["loss"] == pytest.approx(want, rel=1e-4)


def test_a_top_on_a_trunk_is_the_whole_student():
    whole = students.mobilenet_v3_small(3, 32, 0.35)
    photos = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    for blocks in (1, 8, 9):
        trunk, top = split_student(whole, blocks)
        np.testing.assert_allclose(top(trunk(photos)), whole(photos), rtol=1e-5, atol=1e-5)
        left = {layer.name for layer in top.layers}
        assert f"expanded_conv_{blocks}_expand" in left
        assert f"expanded_conv_{blocks - 1}_project" not in left


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"student": "resnet"}, "student must be mobilenet_v3_small or cifar_cnn, got 'resnet'"),
        ({"views": 0}, "views must be at least 1, got 0"),
        ({"frozen_blocks": 12}, "frozen_blocks must be from 0 to 11, got 12"),
        ({"frozen_blocks": 8}, "frozen_blocks must be 0 without weights, got 8"),
        ({"image_size": 16}, "image_size must be at least 32 for mobilenet_v3_small, got 16"),
        ({"student": "cifar_cnn", "weights": "a.npz"}, "cifar_cnn starts at random"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        StudyConfig(**wrong)


def test_command_lines_that_are_refused(arguments, tmp_path, capsys):
    weights = tmp_path / "a.npz"
    weights.write_bytes(b"")
    for more, message in (
        (["--seeds", "1", "1"], "--seeds 1 1: must be different ones"),
        (["--axes", "depth"], "--axes depth: must be one of label_fraction, "),
        (["--frozen-blocks", "3"], "--frozen-blocks 3: is for mobilenet_v3_small"),
        (
            ["--student", "mobilenet_v3_small", "--image-size", "32", "--weights", str(weights)]
            + ["--axes", "width"],
            "--axes width: 'width' needs students that start at random",
        ),
    ):
        with pytest.raises(SystemExit) as end:
            command.parse([*arguments, *more])
        assert end.value.code == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")


def test_axes_that_do_not_fit_are_left_out(arguments):
    assert command.parse(arguments)[2] == [axis for axis in conditions.AXES if axis != "teacher"]
