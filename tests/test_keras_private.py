"""Private attributes of Keras, tf_keras, tfmot and TensorFlow: that they are there, and one by one.

A new release that has lost one fails here, and the message names it.
"""

import ast
import importlib
import importlib.metadata
import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from kdtf import keras_private, quantize
from kdtf.quantize import fake_quant

ROOT = Path(__file__).parent.parent
FILE = "kdtf/keras_private.py"
KERASES = pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras", "tf_keras"])
# What named tuples offer is public in spite of its names.
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}


def check(owner, name, package="keras"):
    """That an object has the attribute; the message is for whoever raises the pin of a package."""
    version = importlib.metadata.version(package)
    kind = owner if inspect.isclass(owner) else type(owner)
    assert hasattr(owner, name), (
        f"{package} {version} has no {kind.__module__}.{kind.__name__}.{name}, which {FILE} reads: "
        f"change it there, or pin {package} below {version} in setup.cfg"
    )


def dense(k, activation=None):
    image = k.Input((4,), name="image")
    return k.Model(image, k.layers.Dense(3, activation, name="logits")(image), name="dense")


def compiled():
    model = dense(keras)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss)
    return model


@pytest.fixture(scope="module")
def quantized():
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(2, 3, name="conv")(x))
    student = keras.Model(image, keras.layers.Dense(3, name="logits")(x))
    photos = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    return quantize.quantize_aware(student, [photos])


@KERASES
def test_keras_history(k):
    output = dense(k).output
    check(output, "_keras_history", k.__name__)
    check(output._keras_history, {keras: "operation", tf_keras: "layer"}[k], k.__name__)
    assert keras_private.layer_of(output).name == "logits"


@KERASES
def test_nodes_by_depth(k):
    model = dense(k)
    check(model, "_nodes_by_depth", k.__name__)
    ((node,), _) = model._nodes_by_depth.values()
    names = {keras: ("operation", "input_tensors"), tf_keras: ("layer", "keras_inputs")}[k]
    for name in names:
        check(node, name, k.__name__)
    (image, inputs), (logits, tensors) = keras_private.calls_of(model)
    assert (image.name, inputs, logits.name) == ("image", [], "logits")
    assert tensors[0] is model.inputs[0]


@KERASES
def test_the_graph_of_a_sequential_model(k):
    model = k.Sequential([k.Input((4,), name="image"), k.layers.Dense(3, name="logits")])
    if k is keras:
        check(model, "_functional")
    assert [layer.name for layer, _ in keras_private.calls_of(model)] == ["image", "logits"]


@KERASES
def test_flatten_layers(k):
    check(k.Model, "_flatten_layers", k.__name__)
    outer = k.Sequential([k.Input((4,)), dense(k)])
    assert outer.layers[-1].get_layer("logits") in list(keras_private.all_layers(outer))


def test_output_quantizers_and_their_variables(quantized):
    layer = quantized.get_layer("pool")
    for name in ("_output_quantizers", "_output_quantizer_vars"):
        check(layer, name, "tensorflow-model-optimization")
    (quantizer,) = keras_private.output_quantizers(layer)
    assert isinstance(quantizer, fake_quant.Activation)
    variables = keras_private.output_quantizer_variables(layer)
    assert variables.keys() == {"low", "high"} and float(variables["low"]) < float(
        variables["high"]
    )
    plain = tf_keras.layers.Dense(3)
    assert not keras_private.output_quantizers(plain)
    assert not keras_private.output_quantizer_variables(plain)


def test_weight_vars(quantized):
    layer = quantized.get_layer("conv")
    check(layer, "_weight_vars", "tensorflow-model-optimization")
    ((variable, quantizer, variables),) = keras_private.quantized_weights(layer)
    assert tuple(variable.shape) == (3, 3, 3, 2) and variables == {}
    assert isinstance(quantizer, fake_quant.Kernel)


@pytest.mark.parametrize(
    "library, name",
    [(keras, "built"), (tf_keras, "_built")],
    ids=["keras", "tf_keras"],
)
def test_built_optimizers(library, name):
    optimizer, model = library.optimizers.Adam(), dense(library)
    assert not keras_private.is_built(optimizer)
    optimizer.build(model.trainable_variables)
    check(optimizer, name, library.__name__)
    assert keras_private.is_built(optimizer)


@KERASES
def test_learning_rate(k):
    rates = []
    for rate in (0.5, k.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)):
        optimizer, model = k.optimizers.SGD(rate), dense(k)
        check(optimizer, "_learning_rate", k.__name__)
        gradients = [tf.zeros(variable.shape) for variable in model.trainable_variables]
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        rates.append(float(keras.ops.convert_to_numpy(keras_private.learning_rate(optimizer))))
    assert rates == [0.5, 0.25]  # of the step to come


def test_compile_loss():
    model = compiled()
    check(model, "_compile_loss")
    logits = np.zeros((2, 3), "float32")
    loss = keras_private.compiled_loss(model)(np.zeros(2, "int32"), logits)
    assert float(loss) == pytest.approx(np.log(3))
    model = dense(keras)
    model.compile("sgd")
    assert keras_private.compiled_loss(model) is None


def test_aggregate_additional_loss():
    check(keras.Model, "_aggregate_additional_loss")
    loss = keras_private.additional_loss(compiled(), tf.constant([1.0, 2.0]))
    assert float(loss) == 3.0


def test_loss_tracker():
    model = compiled()
    check(model, "_loss_tracker")
    assert keras_private.loss_tracker(model).name == "loss"


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("_maybe_symbolic_build", ["self", "iterator", "data_batch"]),
        ("_make_function", ["self", "step_function"]),
        ("_get_metrics_result_or_logs", ["self", "logs"]),
    ],
)
def test_methods_of_the_trainer(name, parameters):
    check(keras.Model, name)
    assert list(inspect.signature(getattr(keras.Model, name)).parameters) == parameters
    assert list(inspect.signature(getattr(keras_private.DistributedModel, name)).parameters) == (
        parameters
    )


def test_the_trainer_calls_the_methods():
    called = []

    class Model(keras_private.DistributedModel):
        def call(self, x):
            return x * self.scale

        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")

        def _maybe_symbolic_build(self, *args, **kwargs):
            called.append("_maybe_symbolic_build")
            return super()._maybe_symbolic_build(*args, **kwargs)

        def _make_function(self, step_function):
            called.append("_make_function")
            return super()._make_function(step_function)

        def _get_metrics_result_or_logs(self, logs):
            called.append("_get_metrics_result_or_logs")
            return super()._get_metrics_result_or_logs(logs)

    model = Model()
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0)
    expected = {"_maybe_symbolic_build", "_make_function", "_get_metrics_result_or_logs"}
    assert set(called) == expected, (
        f"keras {keras.__version__} no longer calls {expected - set(called)} in fit, which "
        f"DistributedModel in {FILE} overrides"
    )


def test_in_multi_worker_mode():
    extended = tf.distribute.MultiWorkerMirroredStrategy().extended
    check(extended, "_in_multi_worker_mode", "tensorflow")
    assert not keras_private.is_on_many_hosts(tf.distribute.MultiWorkerMirroredStrategy())
    assert not keras_private.is_on_many_hosts(tf.distribute.get_strategy())


@pytest.mark.parametrize("hooks", ["train", "test", "predict"])
def test_implements_batch_hooks(hooks):
    name = f"_implements_{hooks}_batch_hooks"
    check(tf_keras.callbacks.Callback, name, "tf_keras")
    assert getattr(keras_private.Callback(), name)() is False
    asked = [cls for cls in keras_private.Callback.__mro__[1:] if name in vars(cls)]
    assert not asked, f"keras {keras.__version__} has a {name} of its own: see {FILE}"


@KERASES
def test_what_callbacks_remember(k):
    for name, attributes in keras_private.REMEMBERED.items():
        kind = getattr(k.callbacks, name)
        path = ["a.weights.h5"] if name == "ModelCheckpoint" else []
        callback = kind(*path, monitor="val_loss", **({"save_best_only": True} if path else {}))
        if name == "EarlyStopping":
            callback.on_train_begin()
        for attribute in attributes:
            check(callback, attribute, k.__name__)


@KERASES
def test_callbacks_of_a_fit_in_their_order_and_where_it_starts(k):
    class Watching(k.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.beside = keras_private.callbacks_of_fit(self)
            keras_private.start_at(self.model, 3)

        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)

        def on_train_end(self, logs=None):
            keras_private.start_at(self.model, None)

    epochs, watching = [], Watching()
    others = [k.callbacks.TerminateOnNaN(), k.callbacks.LambdaCallback()]
    model = dense(k)
    model.compile("sgd", "mse")
    check(model, "_initial_epoch" if k is keras else "_training_state", k.__name__)
    data = np.ones((2, 4)), np.ones((2, 3))
    model.fit(*data, epochs=4, callbacks=[others[0], watching, others[1]], verbose=0)
    assert [each for each in watching.beside if each in (watching, *others)] == [
        others[0],
        watching,
        others[1],
    ]
    assert epochs == [3]
    assert keras_private.callbacks_of_fit(watching) == [watching]
    model.fit(
        *data,
        epochs=2,
        verbose=0,
        callbacks=[
            k.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
        ],
    )
    assert epochs == [3, 0, 1]


def test_swapped_averages_are_seen():
    check(keras.callbacks.SwapEMAWeights(), "_ema_weights_in_model")
    assert keras_private.leaves_averages(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    assert not keras_private.leaves_averages(keras.callbacks.SwapEMAWeights())
    assert not keras_private.leaves_averages(keras.callbacks.TerminateOnNaN())


# Nowhere else


def modules():
    return [
        path for path in sorted((ROOT / "kdtf").rglob("*.py")) if path.name != "keras_private.py"
    ]


def private(name):
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


def defined(tree):
    """Private names that a file gives to its own classes and objects."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                names.add(node.attr)
    return names


def test_no_other_file_touches_a_private_attribute_of_another_object():
    trees = {path: ast.parse(path.read_text()) for path in modules()}
    own = set().union(*map(defined, trees.values()))
    touched = []
    for path, tree in trees.items():
        in_this_file = defined(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and private(node.attr):
                # A class may use what its base in another file of kdtf defines.
                inherits = ast.unparse(node.value) in ("self", "cls", "super()")
                known = own if inherits else in_this_file
                if node.attr not in known:
                    touched.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                names = [text for text in texts if isinstance(text, str) and private(text)]
                if node.func.id in ("getattr", "hasattr", "setattr", "delattr") and names:
                    touched.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
    assert not touched, f"give these a function in {FILE}: {touched}"


@pytest.mark.parametrize(
    "module, name, base",
    [
        ("kdtf.distillation.distiller", "Distiller", compiled),
        ("kdtf.quantize.distiller", "QATDistiller", lambda: dense(tf_keras)),
        ("kdtf.callbacks.checkpoint", "EpochCheckpoint", keras.callbacks.Callback),
        ("kdtf.callbacks.tensorboard", "TensorBoardFigures", keras.callbacks.Callback),
        ("kdtf.callbacks.tensorboard", "TensorBoardFigures", tf_keras.callbacks.Callback),
    ],
)
def test_private_names_of_our_own_do_not_hide_those_of_keras(module, name, base):
    kind = getattr(importlib.import_module(module), name)
    ours = [
        cls
        for cls in kind.__mro__
        if cls.__module__.startswith("kdtf.") and cls.__module__ != "kdtf.keras_private"
    ]
    names = set().union(*(defined(ast.parse(inspect.getsource(cls))) for cls in ours))
    hidden = {each for each in names if private(each) and hasattr(base(), each)}
    assert not hidden, f"{kind.__name__} hides {hidden} of keras {keras.__version__}: rename them"
