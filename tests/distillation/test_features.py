import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf.distillation.features import FeatureLoss, feature_extractor, forward_function


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


def test_feature_extractor_gives_output_and_features_of_the_shared_layers():
    model = conv_net()
    extractor = feature_extractor(model, ["stem", "pool"])
    logits, features = extractor(images())
    np.testing.assert_array_equal(logits, model(images()))
    np.testing.assert_array_equal(features["stem"], model.get_layer("stem")(images()))
    assert set(features) == {"stem", "pool"} and features["pool"].shape == (4, 4)
    assert {id(w) for w in extractor.weights} == {id(w) for w in model.weights}


def test_feature_extractor_of_a_sequential_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a")])
    model.add(keras.layers.Dense(2, name="b"))
    logits, features = feature_extractor(model, ["a", "b"])(np.ones((2, 3), "float32"))
    np.testing.assert_array_equal(logits, model(np.ones((2, 3))))
    np.testing.assert_array_equal(features["b"], logits)
    assert features["a"].shape == (2, 4)


def test_feature_extractor_reaches_into_nested_models():
    model = nested_net()
    model.compile("sgd", lambda y, logits: logits)  # compiled state must not matter
    logits, features = feature_extractor(model, ["backbone/stem", "backbone", "head"])(images())
    np.testing.assert_allclose(logits, model(images()), rtol=1e-6)
    backbone = model.get_layer("backbone")
    np.testing.assert_array_equal(features["backbone/stem"], backbone.get_layer("stem")(images()))
    np.testing.assert_array_equal(features["backbone"], backbone(images()))
    np.testing.assert_array_equal(features["head"], logits)
    deep = keras.Sequential([keras.Input((8, 8, 3)), nested_net()])
    logits, features = feature_extractor(deep, ["outer/backbone/stem"])(images())
    np.testing.assert_allclose(logits, deep(images()), rtol=1e-6)
    assert features["outer/backbone/stem"].shape == (4, 6, 6, 4)


def test_an_extracted_nested_model_trains_as_before():
    model, twin = nested_net(), nested_net()
    extractor = feature_extractor(model, ["backbone/norm"])
    logits, _ = extractor(images(), training=True)
    np.testing.assert_allclose(logits, twin(images(), training=True), rtol=1e-5)
    mean = model.get_layer("backbone").get_layer("norm").moving_mean
    np.testing.assert_array_equal(mean, twin.get_layer("backbone").get_layer("norm").moving_mean)
    assert np.all(mean != np.zeros(4))


def test_a_feature_extractor_leaves_the_model_as_it_was(tmp_path):
    model = nested_net()
    before = model.to_json()
    feature_extractor(model, ["backbone/stem", "head"])
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
def test_feature_extractor_refuses_names(name, message):
    with pytest.raises(ValueError, match=message):
        feature_extractor(conv_net(), [name])


def test_feature_extractor_suggests_paths_into_nested_models():
    with pytest.raises(ValueError, match=r"near names: \['backbone/stem'"):
        feature_extractor(nested_net(), ["stem"])
    with pytest.raises(ValueError, match=r"model 'backbone' has no layer 'sten'"):
        feature_extractor(nested_net(), ["backbone/sten"])


def test_feature_extractor_refuses_models_without_a_graph():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="'sub' cannot be read by name"):
        feature_extractor(Subclassed(name="sub"), ["a"])


def test_feature_extractor_refuses_layers_that_give_several_tensors():
    inputs = keras.Input((3, 2))
    outputs, *_ = keras.layers.LSTM(2, return_state=True, name="lstm")(inputs)
    with pytest.raises(ValueError, match="layer 'lstm' gives several tensors"):
        feature_extractor(keras.Model(inputs, outputs), ["lstm"])


def test_feature_extractor_refuses_layers_first_used_elsewhere():
    shared = keras.layers.Dense(3, name="shared")
    shared(keras.Input((3,)))
    inputs = keras.Input((3,))
    model = keras.Model(inputs, shared(inputs), name="second")
    with pytest.raises(ValueError, match=r"\['shared'\] was first called outside .* 'second'"):
        feature_extractor(model, ["shared"])


# Forward functions


def test_forward_function_hands_training_to_those_who_take_it():
    seen = []

    def takes(x, training=True):
        seen.append(training)
        return x

    forward_function(takes)(tf.zeros([2, 3]), training=False)
    forward_function(lambda x: x)(tf.zeros([2, 3]), training=False)
    assert seen == [False]


def test_forward_function_unwraps_a_serving_signature():
    logits, features = forward_function(lambda x: {"output_0": x})(tf.ones([2, 3]), training=False)
    assert logits.shape == (2, 3) and features == {}
    with pytest.raises(ValueError, match="got 2 outputs"):
        forward_function(lambda x: {"a": x, "b": x})(tf.ones([2, 3]), training=False)


class Subclassed(keras.Model):
    def __init__(self, activation):
        super().__init__(name="m")
        self.head = keras.layers.Dense(2, activation=activation)

    def call(self, x):
        return self.head(x)


# Terms


def test_a_feature_loss_refuses_nonsense():
    def loss(teacher, student):
        return student

    with pytest.raises(ValueError, match="weight must be finite and >= 0, got -1"):
        FeatureLoss("a", "b", loss, weight=-1)
    with pytest.raises(ValueError, match="got nan"):
        FeatureLoss("a", "b", loss, weight=float("nan"))
    with pytest.raises(TypeError, match="FeatureLoss.loss must be a function .* got 'mse'"):
        FeatureLoss("a", "b", "mse")
    with pytest.raises(TypeError, match="adapter must be a Keras layer"):
        FeatureLoss("a", "b", loss, adapter=lambda x: x)
