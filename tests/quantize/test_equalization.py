"""Equalized students: the same function, channels of one width."""

import keras
import numpy as np
import pytest

from kdtf import model_inputs, quantize, students
from kdtf.quantize.equalization import equalize


def student(body, channels=3, size=6, seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, channels), name="image")
    return keras.Model(image, body(image), name="small")


def photos(model, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, (16, *model.input_shape[1:])).astype("float32")


def uneven(model, seed=0):
    """The same model with channels that differ 100-fold, behind kernels and batch norms."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            factor = 10 ** rng.uniform(-1, 1, weights[0].shape)
            weights[:2] = [rng.normal(1, 0.2, factor.shape) * factor, 0.3 * factor]
        elif weights and "logits" not in layer.name:
            shape = weights[0].shape[-2:] if "depthwise" in layer.name else weights[0].shape[-1:]
            factor = 10 ** rng.uniform(-1, 1, shape)
            weights = [
                value * np.reshape(factor, -1 if value.ndim == 1 else shape) for value in weights
            ]
        layer.set_weights(weights)
    return model


def widths(model, name, batch):
    value = keras.Model(model.input, model.get_layer(name).output)(batch, training=False)
    return np.abs(value).reshape(-1, value.shape[-1]).max(0)


def conv(x, filters, name, norm=False, activation="relu", size=3):
    x = keras.layers.Conv2D(filters, size, padding="same", name=name)(x)
    if norm:
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    if activation:
        x = keras.layers.Activation(activation, name=f"{name}_{activation}")(x)
    return x


def head(x):
    return keras.layers.Dense(4, name="logits")(keras.layers.GlobalAveragePooling2D()(x))


def residual(x):
    a = conv(x, 5, "first", norm=True, activation=None)
    b = conv(a, 5, "second", norm=True)
    b = conv(b, 5, "third", norm=True, activation=None)
    return head(conv(keras.layers.Add(name="sum")([a, b]), 6, "last"))


def squeeze_and_excite(x):
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(conv(x, 5, "first"))
    x = keras.layers.Activation("relu", name="x")(keras.layers.BatchNormalization(name="bn")(x))
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = conv(gate, 4, "reduce", size=1)
    gate = conv(gate, 5, "expand", size=1, activation="hard_sigmoid")
    return head(conv(keras.layers.Multiply(name="product")([x, gate]), 6, "last", activation=None))


@pytest.mark.parametrize(
    ("body", "equal"),
    [
        (residual, {"sum", "second_relu", "last_relu"}),
        (squeeze_and_excite, {"first_relu", "x", "reduce_relu"}),
    ],
)
def test_channels_become_equally_wide_and_nothing_else_changes(body, equal):
    model = uneven(student(body))
    batch = photos(model)
    other = equalize(model, [batch])
    want = model(batch, training=False)
    np.testing.assert_allclose(other(batch, training=False), want, rtol=1e-4, atol=1e-4)
    for name in equal:
        before, after = widths(model, name, batch), widths(other, name, batch)
        assert before.max() > 5 * before[before > 0].min()
        ratio = after.max() / after[before > 0.011 * before.max()].min()
        # A sum has one scale for its terms too, so its own channels may stay narrower.
        assert ratio < (3 if name == "sum" else 1.001)
    np.testing.assert_allclose(other(photos(model, 1)), model(photos(model, 1)), rtol=1e-3)


def test_scale_is_that_of_the_widest_channel_by_hand():
    model = student(
        lambda x: keras.layers.Dense(1, name="logits")(
            keras.layers.Dense(2, "relu", name="hidden")(keras.layers.Flatten()(x))
        ),
        1,
        1,
    )
    model.get_layer("hidden").set_weights([np.array([[8.0, 2.0]]), np.array([0.0, 0.5])])
    model.get_layer("logits").set_weights([np.array([[3.0], [12.0]]), np.array([1.0])])
    other = equalize(model, [np.ones((1, 1, 1, 1), "float32")])
    # Channels reach 8 and 2.5, so the second is multiplied by 3.2 and divided where it is read.
    kernel, bias = other.get_layer("hidden").get_weights()
    np.testing.assert_allclose(kernel, [[8.0, 6.4]], rtol=1e-6)
    np.testing.assert_allclose(bias, [0.0, 1.6], rtol=1e-6)
    np.testing.assert_allclose(other.get_layer("logits").get_weights()[0], [[3.0], [3.75]])


def test_channels_past_the_bend_of_hard_swish_shrink_and_others_stay():
    model = student(lambda x: head(conv(conv(x, 3, "first", True, "hard_swish"), 2, "last")))
    norm = model.get_layer("first_bn")
    kernel = np.zeros((3, 3, 3, 3))
    kernel[1, 1] = np.eye(3)
    model.get_layer("first").set_weights([kernel, np.zeros(3)])
    # Inputs are 0..1: the channels lie in 12..13, 3.3..3.4 and -2..5.
    scale, offset = np.array([1.0, 0.1, 7.0]), np.array([12.0, 3.3, -2.0])
    norm.set_weights([scale, offset, np.zeros(3), np.full(3, 1 - norm.epsilon)])
    batch = photos(model)
    other = equalize(model, [batch])
    np.testing.assert_allclose(other(batch), model(batch), rtol=1e-4, atol=1e-5)
    before = widths(model, "first_hard_swish", batch)
    after = widths(other, "first_hard_swish", batch)
    np.testing.assert_allclose(after, [before[2], before[1], before[2]], rtol=1e-3)


def test_the_student_is_not_changed_and_dead_channels_stay_finite():
    model = uneven(student(residual))
    norm = model.get_layer("second_bn")
    gamma, beta, *statistics = norm.get_weights()
    gamma[2], beta[2], gamma[3], beta[3] = 0.0, -1.0, 1e-9, 0.0
    norm.set_weights([gamma, beta, *statistics])
    before = model.get_weights()
    other = equalize(model, [photos(model)])
    for one, same in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)
    for weight in other.get_weights():
        assert np.isfinite(weight).all()
    np.testing.assert_allclose(other(photos(model)), model(photos(model)), rtol=1e-3, atol=1e-4)


def test_a_student_of_hard_swish_blocks_and_metadata_computes_the_same():
    model = students.mobilenet_v3_small(5, 32, width=0.35, metadata={"region": 3})
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.uniform(0, 255, (4, 32, 32, 3)).astype("float32"),
        "meta/region": np.array([0, 1, 2, 3], "int32"),
    }
    other = equalize(model, [(batch, None)])
    fed = model_inputs.prepare_inputs(model, batch)
    np.testing.assert_allclose(other(fed), model(fed), rtol=1e-3, atol=1e-5)
    weights = zip(other.get_weights(), model.get_weights(), strict=True)
    assert not all(np.allclose(a, b) for a, b in weights)


def test_refusals():
    model = student(residual)
    with pytest.raises(ValueError, match="no batch: pass at least one"):
        equalize(model, [])
    with pytest.raises(ValueError, match="functional Keras 3 model"):
        quantize.equalize(lambda x: x, [])
