"""Cached logits: written whole or not at all, checked, replayed as if the teacher were there."""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
import tf_keras
from PIL import Image

from kdtf import data, losses, quantize, students, teachers
from kdtf.data import augment, views
from kdtf.distillation.distiller import Distiller
from kdtf.teachers import cached_logits
from kdtf.teachers.cached_logits import CachedLogits
from tfrecords_tools import cache_logits, shards
from tfrecords_tools.sources import to_jpeg

CLASSES = tuple(f"class {number:02d}" for number in range(12))
SIZE, PHOTOS = 16, 22


def encode_noise(photo):
    """JPEG of blurred noise; module level, so that its repr is stable."""
    noise = np.random.default_rng(photo.source).integers(0, 256, (6, 8, 3), np.uint8)
    return to_jpeg(Image.fromarray(noise).resize((40, 30)))


def write_photos(out, seed=0, labelled=PHOTOS):
    photos = [
        shards.Photo(
            f"photo/{n}",
            n,
            "train",
            CLASSES[n % 12] if n < labelled else None,
            {"region": "ns"[n % 2]},
        )
        for n in range(PHOTOS)
    ]
    shards.write_dataset(
        out, photos, encode_noise, classes=CLASSES, examples_per_shard=6, workers=1, seed=seed
    )
    return data.DatasetInfo.load(out)


def small_teacher(seed, size=SIZE, scale=1 / 20):
    """Convolution, pooling and a head, whose logits span a few nats."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(12, name="logits", kernel_initializer="glorot_normal")(x)
    return keras.Model(image, keras.layers.Rescaling(scale)(x), name=f"teacher_{seed}")


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def teacher():
    return small_teacher(1)


@pytest.fixture(scope="module")
def cached(info, teacher):
    cache, scored = cache_logits.cache(info, [teacher], views=3, batch_size=4, seed=5)
    assert scored == 3 * PHOTOS
    return cache


def batches(info, cached, **options):
    settings = {"seed": 1, "epochs": 5, "batch_size": 4, "image_size": SIZE} | options
    return data.training_batches(info, "train", cached_logits=cached, **settings)


def copied(cached, target):
    """The same cache in a directory of its own, to be spoiled."""
    target.mkdir()
    for path in cached.directory.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def float16_tolerance(logits):
    return 2.0**-11 * np.abs(logits).max() * 3  # of the largest, and of a difference to it


def test_files_stand_one_to_one_beside_the_shards(info, cached):
    assert cached.directory.parent == info.directory
    names = [shard.file for shard in info.split("train").shards]
    assert sorted(os.listdir(cached.directory)) == sorted([*names, "logits.json"])
    assert [shard.file for shard in cached.shards] == names
    for number, name in enumerate(names):
        photos = [
            data.deserialize(record).id.encode()
            for record in tf.data.TFRecordDataset(str(info.directory / name)).as_numpy_iterator()
        ]
        records = cached.records(number).as_numpy_iterator()
        features = [tf.train.Example.FromString(record).features.feature for record in records]
        assert [f["image/id"].bytes_list.value[0] for f in features] == photos
        # 12 classes, 64 wanted: all are kept. 3 views x 12 x 2 bytes.
        assert {len(f["logits"].bytes_list.value[0]) for f in features} == {72}
        assert set(features[0]) == {"image/id", "logits", "largest"}


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
    cached, _ = cache_logits.cache(info, [teacher], views=1, batch_size=4, seed=5)
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
    cached, _ = cache_logits.cache(info, [teacher], views=1, batch_size=4, seed=5)
    x, y, _ = next(iter(batches(info, cached, batch_size=9, unlabelled="skip")))
    assert sorted(y.numpy()) == list(range(9))
    live = teacher(x["image"]).numpy()
    np.testing.assert_allclose(x["teacher_logits"], live, atol=float16_tolerance(live))


def test_an_ensemble_s_target_is_the_mean_of_its_members_probabilities(info, teacher, tmp_path):
    models = [teacher, small_teacher(2, size=12)]
    cached, _ = cache_logits.cache(
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


def test_few_logits_are_kept_of_many_classes(info, teacher, tmp_path):
    cached, _ = cache_logits.cache(
        info, [teacher], views=2, top_k=3, batch_size=4, seed=5, out=tmp_path / "top"
    )
    record = next(cached.records(0).as_numpy_iterator())
    feature = tf.train.Example.FromString(record).features.feature
    sizes = {name: len(value.bytes_list.value[0]) for name, value in feature.items()}
    sizes.pop("image/id")
    assert sizes == {"logits": 12, "classes": 6, "largest": 4, "rest": 4}  # 2 views x 3 or 1
    x, _, _ = next(iter(batches(info, cached)))
    live = teacher(x["image"]).numpy()
    best = np.argsort(-live, -1)[:, :3]
    probs, true = (tf.nn.softmax(z).numpy() for z in (x["teacher_logits"], live))
    np.testing.assert_allclose(*(np.take_along_axis(p, best, -1) for p in (probs, true)), rtol=5e-3)


def test_mixed_views_are_the_same_on_both_sides(info, teacher, tmp_path):
    augmentation = augment.Augmentation(mixup=1.0)
    cached, _ = cache_logits.cache(
        info, [teacher], views=2, batch_size=4, out=tmp_path / "mixed", augmentation=augmentation
    )
    plain, shares = {}, []  # view 0, not mixed
    unmixed = dataclasses.replace(cached.settings, augmentation=augment.Augmentation())
    for shard in range(len(cached.shards)):
        for x in cached_logits.view_batches(info, unmixed, shard, 0, 6):
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


def test_partners_are_another_record_of_the_shard(info):
    path, shard = info.paths("train")[0], info.split("train").shards[0]
    records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    shifts = set()
    for number in range(12):
        dataset = views.partners(path, shard.file, shard.examples, number, seed=0)
        found = list(dataset.as_numpy_iterator())
        shift = records.index(found[0])
        assert found == records[shift:] + records[:shift] and shift > 0
        shifts.add(shift)
    assert len(shifts) > 2


def test_shares_follow_their_beta_distribution():
    """Of Beta(b, b) the mean is 1/2 and the variance 1 / (4 (2 b + 1))."""
    for beta in (0.4, 1.0):
        ids = tf.strings.as_string(tf.range(2000))
        shares = tf.function(views.mix_weights)(ids, 0, 7, beta).numpy()
        np.testing.assert_allclose(tf.reduce_mean(shares), 0.5, atol=0.03)
        np.testing.assert_allclose(np.var(shares), 1 / (4 * (2 * beta + 1)), rtol=0.1)


def test_views_of_two_sizes_show_the_same(info, cached):
    big = dataclasses.replace(cached.settings, image_size=2 * SIZE)
    pairs = [
        next(iter(cached_logits.view_batches(info, settings, 0, 1, 6)))["image"]
        for settings in (cached.settings, big)
    ]
    shrunk = tf.image.resize(pairs[1], (SIZE, SIZE), antialias=True)
    assert np.abs(shrunk - pairs[0]).mean() < 3


def test_bytes_do_not_depend_on_order_or_rest_of_shard(info, teacher, cached, tmp_path):
    score = cache_logits.Scorer([teacher], info, 4)
    for shard in (2, 0):
        name = cached.shards[shard].file
        written = cache_logits.write_shard(tmp_path / name, info, cached.settings, shard, score)
        assert written == cached.shards[shard]
        assert (tmp_path / name).read_bytes() == (cached.directory / name).read_bytes()


def test_a_finished_cache_is_opened_not_scored(info, teacher, cached, monkeypatch):
    monkeypatch.setattr(cache_logits, "write_shard", None)
    again, scored = cache_logits.cache(info, [teacher], views=3, batch_size=4, seed=5)
    assert (again, scored) == (cached, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": 4}, "cached with views = 3, asked for is 4"),
        ({"seed": 6}, "cached with seed = 5, asked for is 6"),
        ({"image_size": 32}, "cached with image_size = 16, asked for is 32"),
        ({"top_k": 2}, "cached with kept = 12, asked for is 2"),
        ({"augmentation": augment.Augmentation(flip=False)}, "(?s)'flip': True.*'flip': False"),
        ({"models": "another"}, r"cached with teachers = \('\w{64}',\), asked for is \('\w{64}',"),
    ],
)
def test_other_settings_are_refused(change, message, info, teacher, cached):
    options = {"views": 3, "batch_size": 4, "seed": 5, "out": cached.directory} | change
    models = [small_teacher(9)] if options.pop("models", None) else [teacher]
    with pytest.raises(ValueError, match=message):
        cache_logits.cache(info, models, **options)


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


def test_a_version_that_draws_other_views_is_refused(info, cached, tmp_path, monkeypatch):
    folder = copied(cached, tmp_path / "old")
    manifest = json.loads((folder / "logits.json").read_text())
    manifest["tensorflow"] = "2.0.0"
    (folder / "logits.json").write_text(json.dumps(manifest))
    CachedLogits.load(folder, info)  # draws the same: fine
    draw = augment.training_view
    monkeypatch.setattr(
        augment, "training_view", lambda *args: tf.clip_by_value(draw(*args) + 1, 0, 255)
    )
    with pytest.raises(ValueError, match=r"drawn by TensorFlow 2.0.0; TensorFlow 2\.\d+.* 1.0 of"):
        CachedLogits.load(folder, info)


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
    with pytest.raises(FileNotFoundError, match="tfrecords_tools.cache_logits"):
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


def test_verification_finds_a_teacher_that_answers_otherwise(info, cached):
    score = cache_logits.Scorer([small_teacher(9)], info, 4)
    with pytest.raises(ValueError, match="stored logit .*, scored again .* where float16 allows"):
        cache_logits.verify(cached, info, score)


def test_logits_that_cannot_be_stored_name_the_photos(info, tmp_path):
    teacher = small_teacher(1, scale=float("nan"))
    with pytest.raises(ValueError, match="view 0 of the photos 'photo/.*' to .* is nan: logits"):
        cache_logits.cache(info, [teacher], batch_size=4, out=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tfrecord"]


def test_a_fingerprint_is_of_the_weights(teacher, tmp_path):
    teacher.save(tmp_path / "t.keras")
    (again,) = teachers.load_members([tmp_path / "t.keras"], CLASSES)
    assert teachers.fingerprint(again) == teachers.fingerprint(teacher)
    kernel = again.get_layer("logits").kernel
    kernel.assign(tf.tensor_scatter_nd_add(kernel, [[0, 0]], [1e-6]))
    assert teachers.fingerprint(again) != teachers.fingerprint(teacher)
    with pytest.raises(TypeError, match="a hash of weights"):
        teachers.fingerprint(lambda x: x)


KILLED = """
import os, signal, sys
import tensorflow as tf
from kdtf import data, files, teachers
from tfrecords_tools import cache_logits, shards

remember, write_shard = shards.remember, cache_logits.write_shard
def die_in_the_second(path, info, settings, shard, score, progress):
    if shard == 1:
        def die(images):  # as the writer would: its file is half there
            with files.replacing(path) as partial:
                partial.write_bytes(b"half a shard")
                os.kill(os.getpid(), signal.SIGKILL)
        progress = die
    return write_shard(path, info, settings, shard, score, progress)
cache_logits.write_shard = die_in_the_second
cache_logits.main(sys.argv[1:])
"""


def test_command_line_killed_and_continued(info, teacher, cached, tmp_path):
    """SIGKILL in the second of four shards: the first is kept, the rest written, nothing left."""
    teacher.save(tmp_path / "teacher.keras")
    out = tmp_path / "logits"
    arguments = ["--data", str(info.directory), "--teacher", str(tmp_path / "teacher.keras")]
    arguments += ["--views", "3", "--batch-size", "4", "--seed", "5", "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    left = {path.name for path in out.iterdir()}
    first, second = (shard.file for shard in cached.shards[:2])
    assert first in left and second not in left and "logits.json" not in left
    assert [name for name in left if "partial" in name]
    stamp = (out / first).stat().st_mtime_ns
    time.sleep(0.01)
    cache_logits.main(arguments)
    assert (out / first).stat().st_mtime_ns == stamp
    for shard in cached.shards:
        assert (out / shard.file).read_bytes() == (cached.directory / shard.file).read_bytes()
    assert len(list(out.iterdir())) == len(cached.shards) + 1


def test_a_finished_shard_that_was_damaged_is_written_again(info, teacher, cached, tmp_path):
    folder = copied(cached, tmp_path / "damaged")
    (folder / "logits.json").unlink()
    signature = f"{cached.settings.key()} TensorFlow {tf.__version__}"
    for shard in cached.shards:
        shards.remember(folder, shard.file, signature, shard)
    with open(folder / cached.shards[1].file, "ab") as stream:
        stream.write(b"more")
    again, scored = cache_logits.cache(info, [teacher], views=3, batch_size=4, seed=5, out=folder)
    assert scored == 3 * cached.shards[1].examples
    assert again.shards == cached.shards


def test_command_line_help_and_errors(info, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cache_logits.main(["--help"])
    assert stop.value.code == 0
    assert "--views" in capsys.readouterr().out
    missing = ["--data", str(info.directory), "--teacher", str(tmp_path / "none.keras")]
    with pytest.raises(SystemExit, match="error: teacher .*none.keras does not exist"):
        cache_logits.main(missing)


@pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="Apache Beam is not installed: pip install 'kdtf[beam]'",
)
def test_two_worker_processes_of_beam_write_the_same_bytes(info, teacher, tmp_path, capsys):
    teacher.save(tmp_path / "teacher.keras")
    arguments = ["--data", str(info.directory), "--teacher", str(tmp_path / "teacher.keras")]
    arguments += ["--views", "2", "--batch-size", "4"]
    cache_logits.main([*arguments, "--out", str(tmp_path / "local")])
    beam = ["--runner", "DirectRunner", "--direct_num_workers", "2"]
    beam += ["--direct_running_mode", "multi_processing"]
    cache_logits.main([*arguments, "--out", str(tmp_path / "beam"), *beam])
    assert f"{2 * PHOTOS} images scored now" in capsys.readouterr().out.splitlines()[-1]
    local, beam = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ("local", "beam")
    )
    assert beam == local
    with pytest.raises(ValueError, match="give their paths"):
        cache_logits.cache(info, [teacher], out=tmp_path / "more", runner=["DirectRunner"])
