"""Cached logits: checked, and replayed as if the teacher were there."""

import dataclasses

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
import tf_keras
from noise_shards import (
    CLASSES,
    PHOTOS,
    SIZE,
    batches,
    copied,
    float16_tolerance,
    small_teacher,
    write_photos,
)

from kdtf import losses, quantize, students, teachers
from kdtf.data import augment
from kdtf.distillation.distiller import Distiller
from kdtf.teachers import teacher_views
from kdtf.teachers.cached_logits import CachedLogits


def test_replayed_logits_are_the_live_teacher_s_to_float16(info, teacher, cached):
    """Every batch of five epochs: two more than there are views."""
    seen = {}
    for number, (x, _, _) in enumerate(batches(info, cached)):
        live = teacher(x["image"]).numpy()
        np.testing.assert_allclose(x["teacher_logits"], live, atol=float16_tolerance(live))
        seen.setdefault(number // 5, []).append(x["image"].numpy())
    pixels = [np.sort(np.concatenate(seen[epoch]).mean((1, 2, 3))) for epoch in range(5)]
    assert len(seen) == 5  # epochs 0 and 3 show view 0, in another order, without 2 other photos
    common = [len(np.intersect1d(pixels[0].round(3), pixels[e].round(3))) for e in (1, 3)]
    assert common[0] < 3 and common[1] >= 16


def test_without_cached_logits_every_epoch_has_new_views(info):
    images = [x["image"].numpy().mean((1, 2, 3)) for x, _, _ in batches(info, None)]
    epochs = [np.concatenate(images[5 * e : 5 * e + 5]).round(3) for e in range(5)]
    assert len(np.intersect1d(epochs[0], epochs[3])) < 3


def float_distiller(teacher, loss=None, **options):
    distiller = Distiller(small_teacher(3), teacher, temperature=3.0, alpha=0.6, **options)
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(1e-3), loss)
    return distiller


def int8_distiller(teacher, loss=None, **options):
    calibration = [np.random.default_rng(0).uniform(0, 255, (8, SIZE, SIZE, 3)).astype("float32")]
    keras.utils.set_random_seed(3)
    student = students.tiny_cnn(12, image_size=SIZE, channels=3)
    model = quantize.quantize_aware(student, calibration)
    distiller = quantize.QATDistiller(model, teacher, temperature=3.0, alpha=0.6, **options)
    loss = loss or tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(tf_keras.optimizers.SGD(1e-5), loss)
    return distiller


@pytest.mark.parametrize("build", [float_distiller, int8_distiller])
def test_training_without_the_teacher_is_training_with_it(build, info, teacher, cached):
    live, replayed = build(teacher, log_agreement=True), build(None, log_agreement=True)
    histories = [
        distiller.fit(
            batches(info, cached), epochs=4, steps_per_epoch=5, shuffle=False, verbose=0
        ).history
        for distiller in (live, replayed)
    ]
    assert histories[0]["distillation_loss"][0] > 0.1
    before, one, other = (
        np.concatenate([weight.ravel() for weight in distiller.student.get_weights()])
        for distiller in (build(None), live, replayed)
    )
    assert np.linalg.norm(one - before) > 50 * np.linalg.norm(one - other)
    for name in ("loss", "distillation_loss", "label_loss"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=2e-3)
    assert histories[0]["teacher_agreement"] == histories[1]["teacher_agreement"]


@pytest.mark.parametrize("build", [float_distiller, int8_distiller])
def test_photos_without_a_label_are_taught_by_the_cached_logits_alone(build, teacher, tmp_path):
    info = write_photos(tmp_path, labelled=9)
    cached, _ = teachers.cache_logits(info, [teacher], views=1, batch_size=4, seed=5)
    x, y, weight = next(iter(batches(info, cached, batch_size=PHOTOS, unlabelled="keep")))
    labels = y.numpy()
    assert (labels < 0).sum() == PHOTOS - 9
    distiller = build(None, loss=losses.label_cross_entropy)
    student = distiller.student(x["image"], training=True).numpy()
    hard = reference.cross_entropy(np.maximum(labels, 0), student)[labels >= 0]
    soft = reference.soft_target_kl(x["teacher_logits"].numpy(), student, 3.0)
    logs = distiller.train_on_batch(x, y, weight, return_dict=True)
    np.testing.assert_allclose(logs["label_loss"], hard.sum() / PHOTOS, rtol=1e-4)
    np.testing.assert_allclose(logs["distillation_loss"], soft.mean(), rtol=1e-4)
    want = 0.4 * hard.sum() / PHOTOS + 0.6 * soft.mean()
    np.testing.assert_allclose(logs["loss"], want, rtol=1e-4)


def test_skipped_photos_take_their_logits_with_them(teacher, tmp_path):
    info = write_photos(tmp_path, labelled=9)
    cached, _ = teachers.cache_logits(info, [teacher], views=1, batch_size=4, seed=5)
    x, y, _ = next(iter(batches(info, cached, batch_size=9, unlabelled="skip")))
    assert sorted(y.numpy()) == list(range(9))
    live = teacher(x["image"]).numpy()
    np.testing.assert_allclose(x["teacher_logits"], live, atol=float16_tolerance(live))


def test_an_ensemble_s_target_is_the_mean_of_its_members_probabilities(info, teacher, tmp_path):
    models = [teacher, small_teacher(2, size=12)]
    cached, _ = teachers.cache_logits(
        info, models, views=1, batch_size=4, seed=5, out=tmp_path / "ensemble"
    )
    assert cached.settings.image_size == SIZE
    x, _, _ = next(iter(batches(info, cached)))
    assert x["teacher_logits"].shape == (4, 2, 12)
    live = teachers.members(models)(x)
    np.testing.assert_allclose(x["teacher_logits"], live, atol=float16_tolerance(live.numpy()))
    for temperature in (0.5, 1.0, 4.0):
        probs = np.mean([tf.nn.softmax(live[:, m] / temperature) for m in (0, 1)], axis=0)
        target = losses.tempered_mean(x["teacher_logits"], temperature)
        np.testing.assert_allclose(tf.nn.softmax(target / temperature), probs, atol=2e-3)
    histories = [
        float_distiller(teacher)
        .fit(batches(info, cached), epochs=1, steps_per_epoch=5, shuffle=False, verbose=0)
        .history["distillation_loss"]
        for teacher in (teachers.members(models), None)
    ]
    np.testing.assert_allclose(*histories, rtol=2e-3)


def test_mixed_views_are_the_same_on_both_sides(info, teacher, tmp_path):
    augmentation = augment.Augmentation(mixup=1.0)
    cached, _ = teachers.cache_logits(
        info, [teacher], views=2, batch_size=4, out=tmp_path / "mixed", augmentation=augmentation
    )
    plain, shares = {}, []  # view 0, not mixed
    unmixed = dataclasses.replace(cached.settings, augmentation=augment.Augmentation())
    for shard in range(len(cached.shards)):
        for x in teacher_views.view_batches(info, unmixed, shard, 0, 6):
            plain |= dict(zip(x["id"].numpy(), x["image"].numpy(), strict=True))
    options = {"augmentation": augmentation, "class_weights": np.arange(12.0), "epochs": 2}
    for number, (x, label, weight) in enumerate(batches(info, cached, **options)):
        live = teacher(x["image"]).numpy()
        np.testing.assert_allclose(x["teacher_logits"], live, atol=float16_tolerance(live))
        np.testing.assert_allclose(tf.reduce_sum(label, -1), 1.0, rtol=1e-6)
        np.testing.assert_allclose(weight, label.numpy() @ np.arange(12.0), rtol=1e-5)
        if number >= 5:  # view 1
            continue
        for image, soft in zip(x["image"].numpy(), label.numpy(), strict=True):
            first, second = np.argsort(-soft)[:2]
            share = soft[first]
            shares.append(share)
            candidates = [
                share * a + (1 - share) * b
                for i, a in plain.items()
                if int(i.split(b"/")[1]) % 12 == first
                for j, b in plain.items()
                if int(j.split(b"/")[1]) % 12 == second
            ]
            if 0 < soft[second]:
                assert min(np.abs(image - c).max() for c in candidates) < 1e-2
    assert np.std(shares) > 0.1
    matching = Distiller(small_teacher(3), alpha=1.0)
    matching.compile(keras.optimizers.SGD(1e-3))
    mixed = batches(info, cached, augmentation=augmentation)
    history = matching.fit(mixed, epochs=2, steps_per_epoch=5, shuffle=False, verbose=0).history
    assert history["distillation_loss"][1] < history["distillation_loss"][0]
    with pytest.raises(ValueError):  # a loss on class numbers cannot take mixed labels
        float_distiller(None).fit(mixed, epochs=1, steps_per_epoch=1, verbose=0)


def test_training_refuses_what_the_logits_are_not_of(info, cached, tmp_path):
    with pytest.raises(ValueError, match="augmentation = .*'area': .0.25.*asked for.*'area': .0.5"):
        batches(info, cached, augmentation=augment.Augmentation(area=(0.5, 1.0)))
    other = write_photos(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="cached with data_sha256 = '"):
        batches(other, cached)
    with pytest.raises(ValueError, match="cached with teachers = .*asked for is .'feed'"):
        CachedLogits.load(cached.directory, info, teachers=["feed"])
    renamed = dataclasses.replace(info, classes=("class 00", "pear", *CLASSES[2:]))
    with pytest.raises(ValueError, match="class 01 as number 1', asked for is 'pear as number 1"):
        CachedLogits.load(cached.directory, renamed)


def test_spoiled_caches_are_refused(info, cached, tmp_path):
    folder = copied(cached, tmp_path / "spoiled")
    path = folder / cached.shards[1].file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="has sha256 .*, logits.json says .*changed or cut off"):
        CachedLogits.load(folder, info)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="is missing, logits.json names it"):
        CachedLogits.load(folder, info)
    for text, message in (("{", "not a manifest of cached"), ('{"format": 9}', "has format 9")):
        (folder / "logits.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            CachedLogits.load(folder, info)
    (folder / "logits.json").unlink()
    with pytest.raises(FileNotFoundError, match="kdtf cache-logits"):
        CachedLogits.load(folder, info)


def test_logits_of_other_photos_are_refused_while_reading(info, cached, tmp_path):
    """Two records changed places; the file is not hashed again after `load`."""
    folder = copied(cached, tmp_path / "swapped")
    records = list(cached.records(0).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(folder / cached.shards[0].file)) as writer:
        for record in [records[1], records[0], *records[2:]]:
            writer.write(record)
    swapped = dataclasses.replace(cached, directory=folder)
    with pytest.raises(tf.errors.InvalidArgumentError, match="are of other photos"):
        list(batches(info, swapped))
