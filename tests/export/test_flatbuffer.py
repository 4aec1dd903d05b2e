"""What is read out of .tflite files and changed in them, on a file of one matrix product."""

import os
import sys

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from kdtf.export import flatbuffer, runtime

KERNEL = np.array([[1.0, 0.01, -4.0], [0.5, -0.02, 2.0]], "float32")
BIAS = np.array([0.5, 0.25, -1.0], "float32")


def converted(quantized, name="logits"):
    """Bytes of a file for x [1, 2] -> x @ KERNEL + BIAS, x from -1 to 1 and y from -6 to 6."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((1, 2), tf.float32, name="image")])
    def answer(x):
        fake = tf.quantization.fake_quant_with_min_max_args if quantized else lambda y, *_: y
        with tf.name_scope("head"):
            y = fake(tf.matmul(fake(x, -1.0, 1.0), KERNEL) + BIAS, -6.0, 6.0)
        return {name: tf.identity(y)}

    module.answer = answer
    with runtime.quiet():
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [answer.get_concrete_function()], module
        )
        if quantized:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()


@pytest.fixture(scope="module")
def float_file():
    return converted(quantized=False)


@pytest.fixture(scope="module")
def int_file():
    return converted(quantized=True)


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "x.tflite"
        path.write_bytes(content)
        return path

    return write


X = np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype("float32")


def test_predict_on_a_float_file(float_file, written):
    np.testing.assert_allclose(
        runtime.predict(written(float_file), X), X @ KERNEL + BIAS, atol=1e-5
    )


def test_linear_scales_by_hand(int_file):
    ((layer, multipliers, bias),) = flatbuffer.linear_scales(int_file)
    kernel_scales = np.abs(KERNEL).max(0) / 127
    np.testing.assert_allclose(multipliers, 2 / 255 * kernel_scales / (12 / 255), rtol=1e-4)
    np.testing.assert_array_equal(bias, np.round(BIAS / (2 / 255 * kernel_scales)))
    assert multipliers.dtype == np.float64 and bias.dtype == np.int32 and layer == "head"


def test_linear_scales_leave_float_layers_out(float_file):
    assert flatbuffer.linear_scales(float_file) == []


@pytest.mark.parametrize("quantized", [False, True])
def test_softmax_is_appended(quantized, float_file, int_file, written):
    content = int_file if quantized else float_file
    want = scipy.special.softmax(runtime.predict(written(content), X), -1)
    with_softmax = flatbuffer.with_softmax(content)
    path = written(with_softmax)
    assert flatbuffer.builtin_ops(path) == [*flatbuffer.operators_of(content), "SOFTMAX"]
    np.testing.assert_allclose(runtime.predict(path, X), want, atol=1e-6)
    runner = runtime.Interpreter(model_path=str(path)).get_signature_runner()
    ((name, output),) = runner.get_output_details().items()
    assert name == "probabilities" and output["dtype"] == np.float32
    assert output["shape"].tolist() == [1, 3]


def test_a_file_that_returns_something_else_is_refused(written):
    path = written(converted(quantized=False, name="boxes"))
    with pytest.raises(ValueError, match=r"returns \['boxes'\], expected \['logits'\]"):
        runtime.predict(path, X)


def test_custom_operators_are_named(float_file, written):
    file = schema.ModelT.InitFromPackedBuf(float_file, 0)
    code = file.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    assert flatbuffer._builtin(code) == "CUSTOM:?"
    code.customCode = b"Erfinv"
    assert flatbuffer._builtin(code) == "CUSTOM:Erfinv"
    # Files of old converters have the number in the deprecated field alone.
    code.builtinCode, code.deprecatedBuiltinCode = 0, schema.BuiltinOperator.CONV_2D
    assert flatbuffer._builtin(code) == "CONV_2D"


@pytest.mark.parametrize(("dtype", "low"), [(tf.int8, -128), (tf.uint8, 0)])
def test_bytes_are_fed_as_a_camera_gives_them(dtype, low, written):
    """Raw 0..255, rounded and clipped, minus 128 where the type is signed."""

    @tf.function(input_signature=[tf.TensorSpec((1, 4), dtype, name="image")])
    def answer(x):
        return {"logits": tf.cast(x, tf.float32)}

    with runtime.quiet():
        content = tf.lite.TFLiteConverter.from_concrete_functions(
            [answer.get_concrete_function()], tf.Module()
        ).convert()
    got = runtime.predict(written(content), np.float32([[-3.0, 0.4, 254.6, 300.0]]))
    np.testing.assert_array_equal(got - low, [[0, 0, 255, 255]])


def test_quiet_holds_back_every_stream(capfd):
    with runtime.quiet() as printed:
        print("python")
        print("python's errors", file=sys.stderr)
        os.write(1, b"C++\n")
    assert sorted(printed) == ["C++", "python", "python's errors"]
    print("after")
    assert capfd.readouterr() == ("after\n", "")


def test_quiet_gives_the_streams_back_after_an_error(capfd):
    with pytest.raises(ZeroDivisionError), runtime.quiet() as printed:
        print("before")
        raise ZeroDivisionError
    print("after")
    assert printed == ["before"] and capfd.readouterr().out == "after\n"
