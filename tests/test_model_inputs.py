"""What a model is fed: its own columns, resized and cast."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf import model_inputs


def conv_net(size=8, channels=3, name="net"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, channels), name="image")
    x = keras.layers.Conv2D(4, 3, name="stem")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(name="relu")(x))
    return keras.Model(inputs, keras.layers.Dense(5, name="logits")(x), name=name)


def images(size=8, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (4, size, size, 3)).astype("float32")


def test_prepare_inputs_picks_a_models_own_columns():
    batch = {"image": images(), "a": np.zeros(4), "region": np.arange(4), "z": np.ones(4)}
    region = keras.Input((), name="region", dtype="int32")
    image = keras.Input((8, 8, 3), name="image")
    logits = keras.ops.mean(image, axis=(1, 2)) + keras.ops.cast(region, "float32")[:, None]
    by_name = model_inputs.prepare_inputs(keras.Model([region, image], logits), batch)
    assert [x.dtype for x in by_name] == [tf.int32, tf.float32]
    by_key = model_inputs.prepare_inputs(
        keras.Model({"region": region, "image": image}, logits), batch
    )
    assert set(by_key) == {"region", "image"}
    np.testing.assert_array_equal(model_inputs.prepare_inputs(conv_net(), batch), batch["image"])
    anonymous = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    np.testing.assert_array_equal(model_inputs.prepare_inputs(anonymous, batch), batch["image"])


def test_prepare_inputs_leaves_other_callables_their_batch():
    batch = {"image": images(), "teacher_logits": np.zeros(4)}
    assert model_inputs.prepare_inputs(lambda x: x, batch) is batch


def test_prepare_inputs_refuses_missing_columns():
    with pytest.raises(ValueError, match=r"'net' takes the input 'image'.*\['pixels'\]"):
        model_inputs.prepare_inputs(conv_net(), {"pixels": images()})


@pytest.mark.parametrize("size", [5, 8, 12])
def test_prepare_inputs_resizes_like_tensorflow(size):
    model = conv_net(size=size)
    got = tf.function(lambda x: model_inputs.prepare_inputs(model, x), jit_compile=True)(images())
    want = images() if size == 8 else tf.image.resize(images(), (size, size), antialias=True)
    np.testing.assert_allclose(got, want, atol=1e-3)
    sizes_unknown = tf.TensorSpec([None, None, None, 3])
    dynamic = tf.function(lambda x: model_inputs.prepare_inputs(model, x), [sizes_unknown])
    np.testing.assert_allclose(dynamic(images()), want, atol=1e-3)


def test_prepare_inputs_casts_to_the_declared_dtype():
    integer = keras.Sequential([keras.Input((8, 8, 3), dtype="uint8"), keras.layers.Flatten()])
    got = model_inputs.prepare_inputs(
        integer, np.full((1, 8, 8, 3), [254.7, -3.0, 300.0], "float32")
    )
    assert got.dtype == tf.uint8
    np.testing.assert_array_equal(got[0, 0, 0], [255, 0, 255])
    assert model_inputs.prepare_inputs(conv_net(), images().astype("uint8")).dtype == tf.float32


def test_prepare_inputs_resizes_nothing_but_images():
    volume = keras.Sequential([keras.Input((4, 4, 7)), keras.layers.Flatten()])
    assert model_inputs.prepare_inputs(volume, np.zeros((2, 8, 8, 3), "float32")).shape == (
        2,
        8,
        8,
        3,
    )
