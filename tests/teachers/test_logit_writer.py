"""Logits are written whole or not at all, and the same whatever was written before."""

import os

import numpy as np
import pytest
import tensorflow as tf
from noise_shards import batches, copied, small_teacher, write_photos

from kdtf import data, teachers
from kdtf.data import augment, resumable
from kdtf.teachers import cached_logits, logit_writer, scorer


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


def test_few_logits_are_kept_of_many_classes(info, teacher, tmp_path):
    cached, _ = teachers.cache_logits(
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


def test_bytes_do_not_depend_on_order_or_rest_of_shard(info, teacher, cached, tmp_path):
    score = scorer.Scorer([teacher], info, 4)
    for shard in (2, 0):
        name = cached.shards[shard].file
        written = logit_writer.write_shard(tmp_path / name, info, cached.settings, shard, score)
        assert written == cached.shards[shard]
        assert (tmp_path / name).read_bytes() == (cached.directory / name).read_bytes()


def test_a_finished_cache_is_opened_not_scored(info, teacher, cached, monkeypatch):
    monkeypatch.setattr(logit_writer, "write_shard", None)
    again, scored = teachers.cache_logits(info, [teacher], views=3, batch_size=4, seed=5)
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
        teachers.cache_logits(info, models, **options)


def test_verification_finds_a_teacher_that_answers_otherwise(info, cached):
    score = scorer.Scorer([small_teacher(9)], info, 4)
    with pytest.raises(ValueError, match="stored logit .*, scored again .* where float16 allows"):
        logit_writer.verify(cached, info, score)


def test_logits_that_cannot_be_stored_name_the_photos(info, tmp_path):
    teacher = small_teacher(1, scale=float("nan"))
    with pytest.raises(ValueError, match="view 0 of the photos 'photo/.*' to .* is nan: logits"):
        teachers.cache_logits(info, [teacher], batch_size=4, out=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tfrecord"]


def test_a_finished_shard_that_was_damaged_is_written_again(info, teacher, cached, tmp_path):
    folder = copied(cached, tmp_path / "damaged")
    (folder / "logits.json").unlink()
    signature = f"{cached.settings.key()} TensorFlow {tf.__version__}"
    for shard in cached.shards:
        resumable.record_finished(folder, shard.file, signature, shard)
    with open(folder / cached.shards[1].file, "ab") as stream:
        stream.write(b"more")
    again, scored = teachers.cache_logits(
        info, [teacher], views=3, batch_size=4, seed=5, out=folder
    )
    assert scored == 3 * cached.shards[1].examples
    assert again.shards == cached.shards


def test_a_runner_needs_the_teachers_files(info, teacher, tmp_path):
    with pytest.raises(ValueError, match="give their paths"):
        teachers.cache_logits(info, [teacher], out=tmp_path / "more", runner=["DirectRunner"])


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.parametrize("where", ["its own shards", "another data set", "a folder above"])
def test_logits_never_go_where_anything_else_lies(where, info, teacher, tmp_path):
    other = write_photos(tmp_path / "sets" / "other", seed=3)
    out = {
        "its own shards": info.directory,
        "another data set": other.directory,
        "a folder above": tmp_path / "sets",
    }[where]
    before = snapshot(out)
    with pytest.raises(ValueError, match="is not empty.*cached logits.*Nothing was changed"):
        teachers.cache_logits(info, [teacher], views=1, batch_size=4, out=out)
    assert snapshot(out) == before


def test_unfinished_logits_of_other_settings_stay(info, teacher, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(logit_writer, "verify", killed)
    with pytest.raises(KeyboardInterrupt):
        teachers.cache_logits(info, [teacher], views=1, batch_size=4, out=tmp_path / "out")
    monkeypatch.undo()
    before = snapshot(tmp_path / "out")
    with pytest.raises(ValueError, match="began with other settings"):
        teachers.cache_logits(info, [teacher], views=2, batch_size=4, out=tmp_path / "out")
    with pytest.raises(ValueError, match="holds cached logits that an interrupted .* a data set"):
        write_photos(tmp_path / "out")
    assert snapshot(tmp_path / "out") == before
    _, scored = teachers.cache_logits(info, [teacher], views=1, batch_size=4, out=tmp_path / "out")
    assert scored == 0


def test_a_folder_is_checked_before_a_teacher_is_there(info, cached):
    cached_logits.check_folder(cached.directory, info, views=3)
    with pytest.raises(ValueError, match="cached with views = 3, asked for is 5"):
        cached_logits.check_folder(cached.directory, info, views=5)
    with pytest.raises(ValueError, match="is not empty"):
        cached_logits.check_folder(info.directory, info)
