"""What a file's inputs take, and holding back what the process prints."""

import io
import logging
import sys

import int8_students
import numpy as np
import pytest
import tensorflow as tf
from small_models import in_new_process

from kdtf import export, students
from kdtf.export import runtime


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_was_made_meanwhile_prints_to_the_real_stream_afterwards(monkeypatch, stream):
    real = io.StringIO()
    monkeypatch.setattr(sys, stream, real)
    logger = logging.getLogger("test_runtime")
    logger.propagate = False
    with runtime.quiet() as printed:
        with runtime.quiet() as inner:
            handler = logging.StreamHandler(getattr(sys, stream))
            logger.addHandler(handler)
            logger.warning("inside")
        kept = getattr(sys, stream)
        kept.write("between\n")
    print("kept", file=kept)
    handler.emit(logging.makeLogRecord({"msg": "by whoever kept the handler"}))
    assert not kept.closed and handler not in logger.handlers
    assert inner == ["inside"] and printed == ["between"]
    assert real.getvalue() == "kept\nby whoever kept the handler\n"
    assert getattr(sys, stream) is real


def test_a_failure_leaves_nothing_behind(monkeypatch):
    real = io.StringIO()
    monkeypatch.setattr(sys, "stderr", real)
    with pytest.raises(KeyError), runtime.quiet() as printed:
        handler = logging.StreamHandler()
        print("Käse ①", file=sys.stderr)
        raise KeyError
    handler.emit(logging.makeLogRecord({"msg": "logged"}))
    assert printed == ["Käse ①"] and real.getvalue() == "logged\n"


def test_log_lines_of_tensorflow_after_an_export_are_printed_once():
    in_new_process("""
        import contextlib, io, os, sys, tempfile
        import keras
        from kdtf import export
        image = keras.Input((4,), name="image")
        model = keras.Model(image, keras.layers.Dense(2)(image))
        with tempfile.TemporaryDirectory() as folder:
            export.to_tflite(model, os.path.join(folder, "m.tflite"))
        import tensorflow as tf
        read, write = os.pipe()
        saved = os.dup(2)
        os.dup2(write, 2)
        tf.get_logger().warning("a line")
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(write)
        text = os.read(read, 10000).decode()
        assert text.count("a line") == 1 and "Logging error" not in text, text
    """)


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
