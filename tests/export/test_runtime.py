"""Holding back what the process prints, and what is left of it afterwards."""

import io
import logging
import sys

import pytest
from small_models import in_new_process

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
