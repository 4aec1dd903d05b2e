"""Frames as bytes: int8 files take their own, and nothing takes another's."""

import int8_students
import numpy as np
import pytest
import tensorflow as tf

from kdtf import export, students
from kdtf.export import runtime


@pytest.fixture(scope="module")
def trained():
    return int8_students.quantized(int8_students.realistic(students.tiny_cnn(4, 32, 3)))


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def test_an_int8_file_takes_its_own_frames(trained, frames, tmp_path):
    path = export.to_tflite(trained, tmp_path / "x.tflite")
    want = runtime.predict(path, frames)
    own = (frames.astype(np.int16) - 128).astype(np.int8)
    np.testing.assert_array_equal(runtime.predict(path, own), want)
    np.testing.assert_array_equal(runtime.predict(path, {"image": own}), want)
    np.testing.assert_array_equal(runtime.predict(path, frames.astype(np.float32)), want)


@pytest.mark.parametrize("kind", [tf.uint8, tf.float32])
def test_int8_frames_are_refused_by_other_files(trained, frames, tmp_path, kind):
    path = export.to_tflite(trained, tmp_path / "x.tflite", image=kind)
    own = (frames.astype(np.int16) - 128).astype(np.int8)
    with pytest.raises(ValueError, match="'image' of .*x.tflite is raw 0..255, got int8.* add 128"):
        runtime.predict(path, own)


def test_int8_frames_are_refused_by_float_models(tmp_path):
    path = export.to_tflite(students.tiny_cnn(4, 16, 3), tmp_path / "x.tflite")
    with pytest.raises(ValueError, match="is raw 0..255, got int8"):
        runtime.predict(path, np.zeros((1, 16, 16, 3), np.int8))
