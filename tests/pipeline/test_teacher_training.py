"""A teacher trained here: its network, its labels, its files, and how a killed training goes on."""

import json

import keras
import killing
import numpy as np
import pytest
import tensorflow as tf

from kdtf import teachers
from kdtf.pipeline import schedules, teacher_networks, teacher_training
from kdtf.pipeline.config import TeacherConfig


def images(size=32, count=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (count, size, size, 3)).astype("float32")


def test_keras_cv_backbone_saves_and_loads(tmp_path):
    model = teachers.classifier(teacher_networks.resnet_v2("resnet14_v2", 32), 4)
    model.save(tmp_path / "t.keras")
    np.testing.assert_allclose(
        teachers.load([tmp_path / "t.keras"])(images()), model(images()), atol=1e-5
    )


def test_label_mixing_keeps_label_mass_and_shapes():
    """About half of the batches are mixed; each row of labels still sums to 1."""
    mix = teacher_training.mix_labels(4, mixup=0.4, cutmix=1.0, seed=0)
    label = np.array([0, 1, 2, 3], "int32")
    weight = np.ones(4, "float32")
    mixed = 0
    for _ in range(30):
        x, y, w = mix({"image": tf.constant(images(count=4))}, label, weight)
        assert x["image"].shape == (4, 32, 32, 3)
        np.testing.assert_allclose(y.numpy().sum(1), 1, atol=1e-5)
        mixed += int((y.numpy().max(1) < 0.999).any())
    assert 6 <= mixed <= 24


def test_the_rate_rises_for_an_epoch_and_falls_to_nothing():
    rates = [float(schedules.cosine_schedule(0.2, 10, 3)(step)) for step in range(31)]
    assert rates[0] == 0.0 and np.argmax(rates) == 10
    assert rates[5] == pytest.approx(0.1) and rates[10] == pytest.approx(0.2)
    assert rates[20] == pytest.approx(0.1) and rates[30] == pytest.approx(0.0, abs=1e-7)
    half = [float(schedules.cosine_schedule(0.2, 10, 1)(step)) for step in range(11)]
    assert np.argmax(half) == 5  # of a single epoch, half


def test_a_killed_teacher_goes_on_as_if_it_had_not_been(shards, tmp_path):
    config = TeacherConfig(
        backbone="resnet14_v2", image_size=32, epochs=2, batch_size=64, mixup=0, cutmix=0
    )
    whole, curves = teacher_training.train(shards, config, tmp_path / "whole.keras", verbose=0)
    with killing.killed_in("killed.checkpoint"):
        teacher_training.train(shards, config, tmp_path / "killed.keras", verbose=0)
    assert not (tmp_path / "killed.keras").exists()
    model, again = teacher_training.train(shards, config, tmp_path / "killed.keras", verbose=0)
    assert not (tmp_path / "killed.checkpoint.npz").exists()
    for one, two in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    facts = json.loads((tmp_path / "killed.json").read_text())
    assert facts["history"] == again and set(again) == set(curves)
    assert tuple(facts["classes"]) == shards.classes and facts["config"]["epochs"] == 2
    loaded = keras.models.load_model(tmp_path / "killed.keras", compile=False)
    np.testing.assert_allclose(loaded(images()), model(images()), atol=1e-5)
