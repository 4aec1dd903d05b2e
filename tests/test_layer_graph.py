"""The walk over the layers of a functional model, in both Kerases."""

import keras
import pytest
import tf_keras

from kdtf import layer_graph, quantize


def branched(k):
    """A graph with a branch, a layer that reads another twice, and an activation."""
    image = k.Input((8, 8, 3), name="image")
    x = k.layers.Conv2D(4, 3, name="conv")(image)
    relu = k.layers.Activation("relu", name="relu")(x)
    total = k.layers.Add(name="add")([relu, x])
    twice = k.layers.Multiply(name="square")([total, total])
    x = k.layers.Flatten(name="flatten")(twice)
    return k.Model(image, k.layers.Dense(2, name="logits")(x), name="branched")


@pytest.mark.parametrize("k", [keras, tf_keras])
def test_every_layer_knows_what_it_reads_and_who_reads_it(k):
    model = branched(k)
    nodes = layer_graph.nodes(model)
    assert list(nodes) == [layer.name for layer in model.layers]
    assert all(node.layer is model.get_layer(name) for name, node in nodes.items())
    assert {name: node.inputs for name, node in nodes.items()} == {
        "image": (),
        "conv": ("image",),
        "relu": ("conv",),
        "add": ("relu", "conv"),
        "square": ("add", "add"),
        "flatten": ("square",),
        "logits": ("flatten",),
    }
    assert nodes["conv"].consumers == ("relu", "add")
    assert nodes["add"].consumers == ("square", "square") and nodes["logits"].consumers == ()
    activations = [nodes[name].activation for name in ("image", "relu", "logits")]
    assert activations == [None, "relu", "linear"]


@pytest.mark.parametrize("k", [keras, tf_keras])
def test_the_input_of_a_sequential_model_comes_first(k):
    layers = [k.Input((4,), name="image"), k.layers.Dense(3, name="a"), k.layers.ReLU(name="b")]
    nodes = layer_graph.nodes(k.Sequential(layers))
    assert list(nodes) == ["image", "a", "b"] and nodes["a"].inputs == ("image",)


def test_layers_of_other_models_do_not_count():
    """Only calls of the model's own graph do, whichever came first."""
    shared = keras.layers.Dense(4, name="shared")
    other = keras.Input((4,), name="other")
    keras.Model(other, shared(other))
    image = keras.Input((4,), name="image")
    nodes = layer_graph.nodes(keras.Model(image, shared(image)))
    assert nodes["shared"].inputs == ("image",)


def shared_dense():
    image = keras.Input((8, 8, 3), name="image")
    shared = keras.layers.Dense(3, name="shared")
    x = shared(keras.layers.Rescaling(1 / 127.5, -1.0)(image))
    x = keras.layers.GlobalAveragePooling2D()(shared(x))
    return keras.Model(image, keras.layers.Dense(2)(x), name="student")


def operation():
    image = keras.Input((8, 8, 3), name="image")
    x = keras.ops.cumsum(keras.layers.GlobalAveragePooling2D()(image), axis=1)
    return keras.Model(image, keras.layers.Dense(2)(x), name="student")


@pytest.mark.parametrize(
    "model, message",
    [
        (shared_dense, "layer 'shared' of 'student' is called more than once"),
        (operation, r"'cumsum\w*' of 'student' is no layer but .* a Cumsum"),
    ],
)
@pytest.mark.parametrize("walk", [quantize.equalize, quantize.quantize_aware, layer_graph.nodes])
def test_what_cannot_be_told_apart_by_layer_is_refused(walk, model, message):
    arguments = () if walk is layer_graph.nodes else ([],)
    with pytest.raises(ValueError, match=message):
        walk(model(), *arguments)


def test_shared_layers_and_operations_are_taken_where_that_is_enough():
    shared = shared_dense()
    assert list(layer_graph.nodes(shared, shared=True)) == [layer.name for layer in shared.layers]
    model = operation()
    *listed, last = layer_graph.nodes(model, shared=True).items()
    assert [name for name, _ in listed] == [layer.name for layer in model.layers]
    name, node = last
    assert type(node.layer).__name__ == "Cumsum" and node.consumers == (model.layers[-1].name,)


@pytest.mark.parametrize("k", [keras, tf_keras])
def test_the_output_layer_is_looked_for_in_nested_models(k):
    image = k.Input((8, 8, 3))
    model = k.Sequential([image, branched(k), k.layers.Dropout(0.5)])

    def passes_on(layer):
        return isinstance(layer, k.layers.Dropout)

    assert layer_graph.output_layer(model, passes_on).name == "logits"
    assert isinstance(layer_graph.output_layer(model), k.layers.Dropout)
