"""Quantization-aware students: what they compute, and trained, kept and restored."""

import keras
import numpy as np
import pytest
import tf_keras
from int8_students import call, folded_float, head, photos, quantized, small, swish

from kdtf import layer_graph, quantize
from kdtf.quantize import fake_quant


def test_without_rounding_it_is_the_student(made):
    with fake_quant.quantization_mode("off"):
        np.testing.assert_allclose(call(made.model, made.batch), made.want, atol=1e-4)


def test_folded_without_rounding_is_the_student(made):
    np.testing.assert_allclose(folded_float(made.model, made.batch), made.want, atol=1e-4)


def test_rounding_costs_a_little(made):
    error = np.abs(made.emulated - made.want).max() / np.ptp(made.want)
    assert 1e-4 < error < 0.15


def test_weights_are_the_students_by_name(made):
    for layer in made.student.layers:
        found = {}
        if layer.weights:
            for variable in made.model.get_layer(layer.name).weights:
                found[variable.name.split("/")[-1].split(":")[0]] = variable.numpy()
        for weight in layer.weights:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            np.testing.assert_array_equal(found["depthwise_" * depthwise + weight.name], weight)


def test_the_student_is_not_changed(made):
    for one, other in zip(made.student.get_weights(), made.before, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(call(made.student, made.batch), made.want)


def test_ranges_of_activations_come_from_calibration():
    student = small(lambda x: head(keras.layers.Conv2D(3, 1, activation="relu", name="conv")(x)))
    student.get_layer("conv").set_weights([2 * np.eye(3).reshape(1, 1, 3, 3), np.zeros(3)])
    dark, bright = np.full((2, 8, 8, 3), 100.0), np.full((2, 8, 8, 3), 255.0)
    model = quantize.quantize_aware(student, [dark, bright])
    assert layer_graph.output_range(model.get_layer("conv")) == pytest.approx((0, 2), abs=0.05)


# Graphs that our own students do not have


def hard_swish_after_add(x):
    x = keras.layers.Conv2D(3, 1, name="conv")(x)
    x = keras.layers.Add(name="add")([x, keras.layers.Conv2D(3, 1, name="conv_b")(x)])
    return head(keras.layers.Activation("hard_swish", name="act")(x))


def add_of_three(x):
    branches = [keras.layers.Conv2D(3, 1, name=f"conv_{i}")(x) for i in range(3)]
    return head(keras.layers.Add(name="add")(branches))


def multiply_of_three(x):
    branches = [keras.layers.Conv2D(3, 1, name=f"conv_{i}")(x) for i in range(3)]
    return head(keras.layers.Multiply(name="mul")(branches))


def pooled_pixels(x):
    return head(x)


def concatenated_after_add(x):
    y = keras.layers.Activation("hard_swish")(keras.layers.Add()([x, x]))
    return head(keras.layers.Concatenate()([x, y]))


def dilated(x):
    return head(keras.layers.Conv2D(3, 3, dilation_rate=2, name="conv")(x))


def grouped(x):
    return head(keras.layers.Conv2D(6, 3, groups=3, name="conv")(x))


def normalised_after_relu(x):
    x = keras.layers.Conv2D(3, 1, activation="relu", name="conv")(x)
    return head(keras.layers.BatchNormalization(name="late_bn")(x))


def normalised_pixels(x):
    x = keras.layers.BatchNormalization(name="early_bn")(x)
    return head(keras.layers.Conv2D(3, 1, name="conv")(x))


def gated_pool(x):
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Activation("hard_sigmoid", name="gate")(x)
    return head(keras.layers.Conv2D(3, 1, name="conv")(x))


def two_readers_of_a_convolution(x):
    x = keras.layers.Conv2D(3, 1, name="conv")(x)
    y = keras.layers.BatchNormalization(name="bn")(x)
    return head(keras.layers.Add()([x, y]))


@pytest.mark.parametrize(
    "body",
    [
        hard_swish_after_add,
        add_of_three,
        multiply_of_three,
        pooled_pixels,
        concatenated_after_add,
        dilated,
        grouped,
        normalised_after_relu,
        normalised_pixels,
        gated_pool,
        two_readers_of_a_convolution,
    ],
)
def test_other_graphs_are_computed_right_or_refused(body):
    student = small(body)
    rng = np.random.default_rng(1)
    student.set_weights([w + rng.uniform(0, 0.5, w.shape) for w in student.get_weights()])
    try:
        model = quantized(student)
    except ValueError as error:
        assert "layer '" in str(error)
        return
    batch = photos(student, count=2)
    want = call(student, batch)
    with fake_quant.quantization_mode("off"):
        np.testing.assert_allclose(call(model, batch), want, atol=1e-4)
    np.testing.assert_allclose(folded_float(model, batch), want, atol=1e-4)


# Refusals


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.LayerNormalization(name="norm"), "'norm' is a LayerNormalization"),
        (keras.layers.Activation("gelu", name="act"), "'act' has the activation 'gelu'"),
        (
            keras.layers.Conv2D(3, 1, activation="tanh", name="conv"),
            "'conv' has the activation 'tanh'",
        ),
        (keras.layers.Rescaling(1 / 255, name="again"), "'again' rescales by 0.0039.* and 0"),
    ],
)
def test_refuses_layers_without_an_int8_form(layer, message):
    with pytest.raises(ValueError, match=message):
        quantized(small(lambda x: head(layer(x))))


def test_refuses_models_without_a_graph():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="must be a functional Keras 3 model.*Subclassed"):
        quantize.quantize_aware(Subclassed(), [])


def test_refuses_calibration_on_nothing_or_on_nan():
    student = small(head)
    with pytest.raises(ValueError, match="no calibration batch"):
        quantize.quantize_aware(student, [])
    with pytest.raises(ValueError, match="not finite"):
        quantize.quantize_aware(student, [np.full((1, 8, 8, 3), np.nan, "float32")])


# Keeping and restoring


def test_saved_weights_and_ranges_come_back(tiny, tmp_path):
    path = tmp_path / "qat.npz"
    quantize.save_weights(tiny.model, path)
    restored = quantize.load_weights(small(swish, seed=9), path)
    np.testing.assert_array_equal(call(restored, tiny.batch), tiny.emulated)
    with pytest.raises(ValueError, match="qat.npz holds"):
        quantize.load_weights(small(head), path)


def test_models_are_told_apart(tiny):
    assert layer_graph.is_quantized(tiny.model)
    assert not layer_graph.is_quantized(tf_keras.Sequential([tf_keras.layers.Dense(2)]))
