"""The views that teachers score: of any size the same; other ones are found out."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from noise_shards import SIZE, copied

from kdtf.data import augment
from kdtf.teachers import teacher_views
from kdtf.teachers.cached_logits import CachedLogits


def test_views_of_two_sizes_show_the_same(info, cached):
    big = dataclasses.replace(cached.settings, image_size=2 * SIZE)
    pairs = [
        next(iter(teacher_views.view_batches(info, settings, 0, 1, 6)))["image"]
        for settings in (cached.settings, big)
    ]
    shrunk = tf.image.resize(pairs[1], (SIZE, SIZE), antialias=True)
    assert np.abs(shrunk - pairs[0]).mean() < 3


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
