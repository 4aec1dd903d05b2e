"""Kernels as they are rounded in training, and when they are."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from int8_students import aware, head, quantized, small
from small_models import training_photos as examples

from kdtf import layer_graph
from kdtf.quantize import fake_quant


def rounded_kernel(kernel, axis):
    """Symmetric, 127 steps up to the largest weight of each channel."""
    others = tuple(i for i in range(kernel.ndim) if i != axis)
    scale = np.abs(np.float64(kernel)).max(others, keepdims=True) / 127
    return np.round(kernel / scale) * scale


@pytest.mark.parametrize(("shape", "axis"), [((3, 3, 4, 6), 3), ((3, 3, 6, 1), 2), ((5, 6), 1)])
def test_kernels_are_symmetric_per_channel(shape, axis):
    """A hundredfold difference between channels costs the small ones nothing."""
    span = [1] * len(shape)
    span[axis] = 6
    channels = np.geomspace(0.01, 1, 6).reshape(span)
    kernel = (np.random.default_rng(0).normal(size=shape) * channels).astype("float32")
    got = fake_quant.Kernel(axis)(tf.constant(kernel), True, {}).numpy()
    np.testing.assert_allclose(got, rounded_kernel(kernel, axis), atol=1e-6 * channels.max())
    relative = np.abs(got - kernel) / channels
    assert relative.max() < 0.02


def test_a_kernel_of_zeros_stays_zero():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 3)).astype("float32")
    kernel[..., 1] = 0
    got = fake_quant.Kernel(3)(tf.constant(kernel), True, {}).numpy()
    assert np.isfinite(got).all() and not got[..., 1].any() and got[..., 0].any()


def test_layers_use_their_rounded_kernel():
    """The oracle of a whole layer, for a convolution and a depthwise one."""

    def body(x):
        x = keras.layers.Conv2D(5, 3, name="conv", use_bias=False)(x)
        x = keras.layers.DepthwiseConv2D(3, name="depthwise", use_bias=False)(x)
        return head(x)

    student = small(body)
    rng = np.random.default_rng(0)
    for name, shape in (("conv", (3, 3, 3, 5)), ("depthwise", (3, 3, 5, 1))):
        span = np.geomspace(0.01, 1, 5).reshape((5, 1) if name == "depthwise" else (5,))
        student.get_layer(name).set_weights([rng.normal(size=shape) * span])
    model = quantized(student)
    for name, axis, convolve in (
        ("conv", 3, tf.nn.conv2d),
        ("depthwise", 2, tf.nn.depthwise_conv2d),
    ):
        wrapper = model.get_layer(name)
        x = rng.normal(size=(1, 6, 6, wrapper.input.shape[-1])).astype("float32")
        kernel = rounded_kernel(student.get_layer(name).get_weights()[0], axis)
        want = convolve(x, kernel.astype("float32"), [1, 1, 1, 1], "VALID").numpy()
        low, high = layer_graph.output_range(wrapper)
        inside = np.clip(want, low, high)
        got = wrapper(x, training=False).numpy()
        assert np.abs(got - inside).max() <= 1.01 * (high - low) / 255


def test_the_mode_comes_back_after_an_error():
    model, (x, _) = aware(), examples()
    rounded = model(x, training=False).numpy()
    with pytest.raises(ZeroDivisionError), fake_quant.quantization_mode("off"):
        exact = model(x, training=False).numpy()
        raise ZeroDivisionError
    assert np.abs(exact - rounded).max() > 1e-4
    np.testing.assert_array_equal(model(x, training=False), rounded)


def test_gradients_pass_straight_through():
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype("float32"))
    with tf.GradientTape() as tape:
        rounded = tf.reduce_sum(fake_quant.Kernel(3)(kernel, True, {}) * 2.0)
    np.testing.assert_array_equal(tape.gradient(rounded, kernel), np.full(kernel.shape, 2.0))
