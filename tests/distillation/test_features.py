import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf import model_inputs
from kdtf.distillation import features as features_module
from kdtf.distillation import probabilities


def conv_net(size=8, channels=3, name="net"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, channels), name="image")
    x = keras.layers.Conv2D(4, 3, name="stem")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(name="relu")(x))
    return keras.Model(inputs, keras.layers.Dense(5, name="logits")(x), name=name)


def nested_net():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="image")
    x = conv_net(name="backbone")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x / 2.0), name="outer")


def images(size=8, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (4, size, size, 3)).astype("float32")


def test_tap_gives_output_and_features_of_the_shared_layers():
    model = conv_net()
    tapped = features_module.feature_extractor(model, ["stem", "pool"])
    logits, features = tapped(images())
    np.testing.assert_array_equal(logits, model(images()))
    np.testing.assert_array_equal(features["stem"], model.get_layer("stem")(images()))
    assert set(features) == {"stem", "pool"} and features["pool"].shape == (4, 4)
    assert {id(w) for w in tapped.weights} == {id(w) for w in model.weights}


def test_tap_of_a_sequential_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a")])
    model.add(keras.layers.Dense(2, name="b"))
    logits, features = features_module.feature_extractor(model, ["a", "b"])(
        np.ones((2, 3), "float32")
    )
    np.testing.assert_array_equal(logits, model(np.ones((2, 3))))
    np.testing.assert_array_equal(features["b"], logits)
    assert features["a"].shape == (2, 4)


def test_tap_reaches_into_nested_models():
    model = nested_net()
    model.compile("sgd", lambda y, logits: logits)  # compiled state must not matter
    logits, features = features_module.feature_extractor(
        model, ["backbone/stem", "backbone", "head"]
    )(images())
    np.testing.assert_allclose(logits, model(images()), rtol=1e-6)
    backbone = model.get_layer("backbone")
    np.testing.assert_array_equal(features["backbone/stem"], backbone.get_layer("stem")(images()))
    np.testing.assert_array_equal(features["backbone"], backbone(images()))
    np.testing.assert_array_equal(features["head"], logits)
    deep = keras.Sequential([keras.Input((8, 8, 3)), nested_net()])
    logits, features = features_module.feature_extractor(deep, ["outer/backbone/stem"])(images())
    np.testing.assert_allclose(logits, deep(images()), rtol=1e-6)
    assert features["outer/backbone/stem"].shape == (4, 6, 6, 4)


def test_a_tapped_nested_model_trains_as_before():
    model, twin = nested_net(), nested_net()
    tapped = features_module.feature_extractor(model, ["backbone/norm"])
    logits, _ = tapped(images(), training=True)
    np.testing.assert_allclose(logits, twin(images(), training=True), rtol=1e-5)
    mean = model.get_layer("backbone").get_layer("norm").moving_mean
    np.testing.assert_array_equal(mean, twin.get_layer("backbone").get_layer("norm").moving_mean)
    assert np.all(mean != np.zeros(4))


def test_a_tap_leaves_the_model_as_it_was(tmp_path):
    model = nested_net()
    before = model.to_json()
    features_module.feature_extractor(model, ["backbone/stem", "head"])
    assert model.to_json() == before
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(images()), model(images()))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("steem", r"model 'net' has no layer 'steem'; near names: \['stem'"),
        ("zzzz", "its layers: .*'stem'"),
        ("stem/conv", "layer 'stem' of 'net' has no layers inside: 'stem/conv'"),
    ],
)
def test_tap_refuses_names(name, message):
    with pytest.raises(ValueError, match=message):
        features_module.feature_extractor(conv_net(), [name])


def test_tap_suggests_paths_into_nested_models():
    with pytest.raises(ValueError, match=r"near names: \['backbone/stem'"):
        features_module.feature_extractor(nested_net(), ["stem"])
    with pytest.raises(ValueError, match=r"model 'backbone' has no layer 'sten'"):
        features_module.feature_extractor(nested_net(), ["backbone/sten"])


def test_tap_refuses_models_without_a_graph():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="'sub' cannot be read by name"):
        features_module.feature_extractor(Subclassed(name="sub"), ["a"])


def test_tap_refuses_layers_that_give_several_tensors():
    inputs = keras.Input((3, 2))
    outputs, *_ = keras.layers.LSTM(2, return_state=True, name="lstm")(inputs)
    with pytest.raises(ValueError, match="layer 'lstm' gives several tensors"):
        features_module.feature_extractor(keras.Model(inputs, outputs), ["lstm"])


def test_tap_refuses_layers_first_used_elsewhere():
    shared = keras.layers.Dense(3, name="shared")
    shared(keras.Input((3,)))
    inputs = keras.Input((3,))
    model = keras.Model(inputs, shared(inputs), name="second")
    with pytest.raises(ValueError, match=r"\['shared'\] was first called outside .* 'second'"):
        features_module.feature_extractor(model, ["shared"])


# Inputs


def test_feed_picks_a_models_own_columns():
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


def test_feed_leaves_other_callables_their_batch():
    batch = {"image": images(), "teacher_logits": np.zeros(4)}
    assert model_inputs.prepare_inputs(lambda x: x, batch) is batch


def test_feed_refuses_missing_columns():
    with pytest.raises(ValueError, match=r"'net' takes the input 'image'.*\['pixels'\]"):
        model_inputs.prepare_inputs(conv_net(), {"pixels": images()})


@pytest.mark.parametrize("size", [5, 8, 12])
def test_feed_resizes_like_tensorflow(size):
    model = conv_net(size=size)
    got = tf.function(lambda x: model_inputs.prepare_inputs(model, x), jit_compile=True)(images())
    want = images() if size == 8 else tf.image.resize(images(), (size, size), antialias=True)
    np.testing.assert_allclose(got, want, atol=1e-3)
    sizes_unknown = tf.TensorSpec([None, None, None, 3])
    dynamic = tf.function(lambda x: model_inputs.prepare_inputs(model, x), [sizes_unknown])
    np.testing.assert_allclose(dynamic(images()), want, atol=1e-3)


def test_feed_casts_to_the_declared_dtype():
    integer = keras.Sequential([keras.Input((8, 8, 3), dtype="uint8"), keras.layers.Flatten()])
    got = model_inputs.prepare_inputs(
        integer, np.full((1, 8, 8, 3), [254.7, -3.0, 300.0], "float32")
    )
    assert got.dtype == tf.uint8
    np.testing.assert_array_equal(got[0, 0, 0], [255, 0, 255])
    assert model_inputs.prepare_inputs(conv_net(), images().astype("uint8")).dtype == tf.float32


def test_feed_resizes_nothing_but_images():
    volume = keras.Sequential([keras.Input((4, 4, 7)), keras.layers.Flatten()])
    assert model_inputs.prepare_inputs(volume, np.zeros((2, 8, 8, 3), "float32")).shape == (
        2,
        8,
        8,
        3,
    )


# Readers


def test_reader_hands_training_to_those_who_take_it():
    seen = []

    def takes(x, training=True):
        seen.append(training)
        return x

    features_module.reader(takes)(tf.zeros([2, 3]), training=False)
    features_module.reader(lambda x: x)(tf.zeros([2, 3]), training=False)
    assert seen == [False]


def test_reader_unwraps_a_serving_signature():
    logits, features = features_module.reader(lambda x: {"output_0": x})(
        tf.ones([2, 3]), training=False
    )
    assert logits.shape == (2, 3) and features == {}
    with pytest.raises(ValueError, match="got 2 outputs"):
        features_module.reader(lambda x: {"a": x, "b": x})(tf.ones([2, 3]), training=False)


# Probabilities


def _head(*layers):
    return keras.Sequential([keras.Input((3,)), *layers], name="m")


def _nested(inner):
    return keras.Sequential([keras.Input((3,)), inner, keras.layers.Identity()], name="m")


class Subclassed(keras.Model):
    def __init__(self, activation):
        super().__init__(name="m")
        self.head = keras.layers.Dense(2, activation=activation)

    def call(self, x):
        return self.head(x)


def _functional(function):
    inputs = keras.Input((3,))
    return keras.Model(inputs, function(keras.layers.Dense(2)(inputs)), name="m")


@pytest.mark.parametrize(
    "model",
    [
        lambda: _head(keras.layers.Dense(2, activation="softmax")),
        lambda: _head(keras.layers.Dense(2, activation="sigmoid")),
        lambda: _head(keras.layers.Dense(2), keras.layers.Softmax()),
        lambda: _head(keras.layers.Dense(2), keras.layers.Activation("softmax")),
        lambda: _head(
            keras.layers.Dense(2, activation="softmax"),
            keras.layers.Activation("linear", dtype="float32"),
        ),
        lambda: _nested(_head(keras.layers.Dense(2, activation="softmax"))),
        lambda: _functional(keras.ops.softmax),
        lambda: Subclassed("softmax"),
    ],
)
def test_probabilities_are_refused(model):
    with pytest.raises(ValueError, match="^teacher '.*' ends in a (softmax|sigmoid)"):
        probabilities.refuse_probabilities(model(), "teacher")


def test_probabilities_of_tf_keras_are_refused():
    tf_keras = pytest.importorskip("tf_keras")
    inputs = tf_keras.Input((3,))
    dense = tf_keras.layers.Dense(2, activation="softmax")(inputs)
    for outputs in (dense, tf.nn.softmax(tf_keras.layers.Dense(2)(inputs))):
        with pytest.raises(ValueError, match="ends in a softmax"):
            probabilities.refuse_probabilities(tf_keras.Model(inputs, outputs), "teacher")
    probabilities.refuse_probabilities(
        tf_keras.Model(inputs, tf_keras.layers.Dense(2)(inputs)), "teacher"
    )


@pytest.mark.parametrize(
    "model",
    [
        lambda: _head(keras.layers.Dense(2)),
        lambda: _head(keras.layers.Dense(4, activation="softmax"), keras.layers.Dense(2)),
        lambda: _head(keras.layers.Dense(2, activation="relu")),
        lambda: _functional(lambda x: x * 2.0),
        lambda: Subclassed("sigmoid"),
        lambda: lambda x: x,
    ],
)
def test_logits_pass(model):
    probabilities.refuse_probabilities(model(), "teacher")


# Hints


def test_hint_refuses_nonsense():
    def loss(teacher, student):
        return student

    with pytest.raises(ValueError, match="weight must be finite and >= 0, got -1"):
        features_module.FeatureLoss("a", "b", loss, weight=-1)
    with pytest.raises(ValueError, match="got nan"):
        features_module.FeatureLoss("a", "b", loss, weight=float("nan"))
    with pytest.raises(TypeError, match="Hint loss must be a function .* got 'mse'"):
        features_module.FeatureLoss("a", "b", "mse")
    with pytest.raises(TypeError, match="adapter must be a Keras layer"):
        features_module.FeatureLoss("a", "b", loss, adapter=lambda x: x)
