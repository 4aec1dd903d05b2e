"""Students, teachers and adapters that plain Keras trains, and so do the Distillers."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from both_kerases import BOTH, CLASSES, FEATURES, ROWS, compiled, examples, hard, step, student
from small_models import in_new_process

from kdtf import losses
from kdtf.distillation.features import FeatureLoss

# Restored teachers


def _exported(folder):
    model = student(keras, seed=2)
    model.export(folder, verbose=False)
    return model


def _with_meta(folder):
    image = keras.Input((FEATURES,), name="image")
    region = keras.Input((1,), name="meta_region")
    logits = keras.layers.Dense(CLASSES)(keras.layers.Concatenate()([image, region]))
    keras.Model([image, region], logits).export(folder, verbose=False)
    return keras.Model([image, region], logits)


@BOTH
def test_signatures_and_whole_savedmodels_teach(k, tmp_path):
    want = step(compiled(k, _exported(tmp_path)))
    restored = tf.saved_model.load(tmp_path)
    signature = restored.signatures["serving_default"]
    x, y = examples()
    for teacher in (restored, signature, restored.serve):
        assert step(compiled(k, teacher)) == pytest.approx(want, rel=1e-5)
    assert step(compiled(k, signature, compiled={})) == pytest.approx(want, rel=1e-5)
    logs = step(compiled(k, signature), {"image": x.astype("float64"), "camera": y}, y)
    assert logs == pytest.approx(want, rel=1e-5)


def test_a_signature_outlives_its_savedmodel_once_it_teaches(tmp_path):
    want = step(compiled(keras, _exported(tmp_path)))
    for name in ("signatures", "serve"):
        restored = tf.saved_model.load(tmp_path)
        teacher = restored.serve if name == "serve" else restored.signatures["serving_default"]
        made = compiled(keras, teacher)
        del restored, teacher
        gc.collect()
        assert step(made) == pytest.approx(want, rel=1e-5)


def test_a_signature_without_its_savedmodel_is_refused_at_once(tmp_path):
    _exported(tmp_path)
    signature = tf.saved_model.load(tmp_path).signatures["serving_default"]
    gc.collect()
    with pytest.raises(ValueError, match="has lost its variables.*restored = tf.saved_model.load"):
        compiled(keras, signature)


def test_signatures_take_columns_by_name(tmp_path):
    model, (x, _) = _with_meta(tmp_path), examples()
    region = np.arange(ROWS, dtype="float32")[:, np.newaxis]
    signature = tf.saved_model.load(tmp_path)
    batch = {"image": x, "meta/region": region, "teacher_logits": np.zeros((ROWS, CLASSES))}
    want = step(compiled(keras, lambda batch: model([batch["image"], batch["meta/region"]])), batch)
    assert step(compiled(keras, signature), batch) == pytest.approx(want, rel=1e-5)
    with pytest.raises(ValueError, match="takes the input 'meta_region', which the batch lacks"):
        step(compiled(keras, signature), {"image": x})


def test_concrete_functions_teach():
    model = student(keras, seed=2)
    spec = tf.TensorSpec([None, FEATURES], tf.float32)
    concrete = tf.function(lambda x: model(x)).get_concrete_function(spec)
    assert step(compiled(keras, concrete)) == pytest.approx(step(compiled(keras, model)), rel=1e-5)


def test_a_savedmodel_without_signature_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), tmp_path)
    with pytest.raises(TypeError, match="has no signature 'serving_default'"):
        compiled(keras, tf.saved_model.load(tmp_path))


# Adapters


class Wrapped(keras.layers.Layer):
    """Without a `build`: only a call makes its variables."""

    def __init__(self, units):
        super().__init__()
        self.inner = keras.Sequential([keras.layers.Dense(units), keras.layers.Dropout(0.0)])

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize("compiled_as", [{"run_eagerly": True}, {}], ids=["eager", "graph"])
def test_adapters_without_build_train(compiled_as):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(9, name="hidden")(inputs)
    teacher = keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))
    adapter = Wrapped(9)
    hint = FeatureLoss("hidden", "hidden", losses.hint_mse, adapter=adapter)
    made = compiled(keras, teacher, feature_losses=[hint], compiled=compiled_as)
    before = [np.array(weight) for weight in adapter.get_weights()]
    assert len(before) == 2
    step(made)
    assert np.abs(adapter.get_weights()[0] - before[0]).max() > 0


# Frozen students


@BOTH
@pytest.mark.parametrize("how", [{"run_eagerly": True}, {}], ids=["eager", "graph"])
def test_a_frozen_student_is_measured_and_stays(k, how):
    model = student(k)
    model.trainable = False
    made = compiled(k, model=model, compiled=how)
    before = [np.array(weight) for weight in model.get_weights()]
    with pytest.warns(UserWarning, match="wholly frozen"):
        logs = step(made)
    assert logs == pytest.approx(step(compiled(k)), rel=1e-6)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_only_the_adapter_of_a_frozen_student_trains():
    model = student(keras)
    model.trainable = False
    adapter = keras.layers.Dense(5)
    hint = FeatureLoss("hidden", "hidden", losses.hint_mse, adapter=adapter)
    made = compiled(keras, model=model, feature_losses=[hint])
    before = [np.array(weight) for weight in (*model.get_weights(), *adapter.get_weights())]
    step(made)
    after = [*model.get_weights(), *adapter.get_weights()]
    moved = [np.abs(a - b).max() > 0 for a, b in zip(before, after, strict=True)]
    assert moved == [False] * 4 + [True] * 2


# Inputs


def _nested(k, kind, seed=1):
    k.utils.set_random_seed(seed)
    a, b, c = (k.Input((size,), name=name) for name, size in (("a", 1), ("b", 2), ("c", 1)))
    outputs = k.layers.Dense(CLASSES)(k.layers.Concatenate()([a, b, c]))
    return k.Model(_structure(kind, a, b, c), outputs)


def _structure(kind, a, b, c):
    return {
        "dicts": {"d": {"a": a, "b": b}, "c": c},
        "lists": [[a, b], c],
        "tuples": ((a, b), c),
        "dicts in a list": [{"a": a, "b": b}, c],
        "lists in a dict": {"ab": [a, b], "c": c},
    }[kind]


@BOTH
@pytest.mark.parametrize("kind", ["dicts", "lists", "tuples", "dicts in a list", "lists in a dict"])
def test_nested_inputs_train_as_in_plain_keras(k, kind):
    x, y = examples()
    batch = _structure(kind, x[:, :1], x[:, 1:3], x[:, 3:])
    made = compiled(k, _nested(k, kind, seed=2), model=_nested(k, kind), alpha=0)
    plain = _nested(k, kind)
    plain.compile(k.optimizers.SGD(0.1), hard(k))
    histories = [
        model.fit(batch, y, verbose=0, shuffle=False).history["loss"] for model in (plain, made)
    ]
    np.testing.assert_allclose(*histories, rtol=1e-6)
    for one, other in zip(plain.get_weights(), made.student.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    distilled = compiled(k, _nested(k, kind, seed=2), model=_nested(k, kind))
    assert np.isfinite(distilled.fit(batch, y, verbose=0).history["distillation_loss"]).all()


@BOTH
def test_inputs_nested_otherwise_are_refused_with_both_structures(k):
    x, y = examples()
    made = compiled(k, model=_nested(k, "lists"), teacher=lambda x: tf.zeros([ROWS, CLASSES]))
    flat = [x[:, :1], x[:, 1:3], x[:, 3:]]
    with pytest.raises(ValueError, match=r"takes the inputs \[\[a tensor, a tensor\], a tensor\]"):
        step(made, flat, y)


def test_nested_lists_are_filled_from_columns():
    x, y = examples()
    columns = {"a": x[:, :1], "b": x[:, 1:3], "c": x[:, 3:]}
    logits = np.zeros((ROWS, CLASSES), "float32")
    made = compiled(keras, None, model=_nested(keras, "lists"))
    got = step(made, columns | {"teacher_logits": logits}, y)
    other = compiled(keras, lambda x: tf.constant(logits), model=_nested(keras, "lists"))
    assert got == pytest.approx(step(other, [[*columns.values()][:2], columns["c"]], y), rel=1e-6)


@BOTH
def test_sparse_inputs_train_as_dense_ones(k):
    def linear(sparse, seed):
        k.utils.set_random_seed(seed)
        inputs = k.Input((FEATURES,), sparse=sparse)
        return k.Model(inputs, k.layers.Dense(CLASSES)(inputs))

    x, y = examples()
    histories = []
    for rows, sparse in ((x, False), (tf.sparse.from_dense(x), True)):
        made = compiled(k, linear(False, 2), model=linear(sparse, 1), compiled={})
        data = tf.data.Dataset.from_tensor_slices((rows, y)).batch(4)
        histories.append(made.fit(data, epochs=2, verbose=0).history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)


# Backends


@pytest.mark.parametrize("what", ["kdtf.Distiller", "kdtf.quantize.QATDistiller"])
def test_other_backends_of_keras_are_refused_in_one_sentence(what):
    in_new_process(f"""
        import keras
        keras.backend.backend = lambda: "jax"
        import kdtf
        try:
            {what}
        except ImportError as error:
            message = str(error)
        assert message.startswith("kdtf's Distillers train with TensorFlow")
        assert "Keras runs on 'jax':" in message
        assert "set KERAS_BACKEND=tensorflow" in message
    """)
