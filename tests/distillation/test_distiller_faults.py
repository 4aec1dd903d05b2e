"""One test for each way in which distillation is known to go silently wrong elsewhere."""

import math

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from kdtf import losses
from kdtf.distillation.distiller import Distiller
from kdtf.distillation.features import FeatureLoss

CLASSES, BATCH = 4, 8
HARD = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Watch(keras.layers.Layer):
    """Notes in which mode Python runs it: run eagerly."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.modes = []

    def call(self, x, training=None):
        self.modes.append(training)
        return x


def conv_net(seed, size=8, channels=3, activation=None, dtype="float32"):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 3), name="image", dtype=dtype)
    x = Watch(name="watch")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Conv2D(channels, 3, name="features")(x)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    return keras.Model(inputs, keras.layers.Dense(CLASSES, activation=activation)(x))


def batch(seed=0, size=8):
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 255, (BATCH, size, size, 3)).astype("float32")
    return images, np.arange(BATCH) % CLASSES


def linear(weights):
    dense = keras.layers.Dense(len(weights[0]), use_bias=False)
    model = keras.Sequential([keras.Input((len(weights),)), dense])
    model.set_weights([np.asarray(weights, "float32")])
    return model


def compiled(*args, optimizer="sgd", run_eagerly=True, **kwargs):
    distiller = Distiller(*args, **kwargs)
    distiller.compile(optimizer, HARD, run_eagerly=run_eagerly)
    return distiller


def test_the_default_loss_is_hintons():
    # One example, x = 1, so that the weights are the logits. T = 2: softened teacher (3/4, 1/4),
    # student (1/4, 3/4); T**2 KL = 2 ln 3 = 2.197, gradient T (q - p) = (-1, 1). The label's
    # cross-entropy is ln(1 + 9) with gradient softmax - onehot = (1/10 - 1, 9/10).
    log9 = 2 * math.log(3.0)
    teacher, student = linear([[log9, 0.0]]), linear([[0.0, log9]])
    distiller = compiled(
        student, teacher, alpha=0.5, temperature=2.0, optimizer=keras.optimizers.SGD(1.0)
    )
    logs = distiller.train_on_batch(np.ones((1, 1)), np.zeros(1, "int64"), return_dict=True)
    np.testing.assert_allclose(logs["distillation_loss"], 2 * math.log(3.0), rtol=1e-5)
    np.testing.assert_allclose(logs["label_loss"], math.log(10.0), rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], math.log(3.0) + math.log(10.0) / 2, rtol=1e-5)
    step = student.get_weights()[0] - [[0.0, log9]]
    np.testing.assert_allclose(step, [[0.5 + 0.45, -0.5 - 0.45]], rtol=1e-5)


@pytest.mark.parametrize("weigh", ["sample_weight", "class_weight"])
def test_weights_count_in_both_terms(weigh):
    images, labels = batch()
    weights = np.float32([0.0, 1.0, 2.0, 5.0])[labels]
    teacher, student = conv_net(1), conv_net(2)
    logits = [m(images, training=m is student).numpy() for m in (teacher, student)]
    soft = reference.soft_target_kl(*logits, 4.0)
    hard = reference.cross_entropy(labels, logits[1])
    distiller = compiled(conv_net(2), teacher)
    if weigh == "sample_weight":
        kwargs = {"sample_weight": weights}
    else:
        kwargs = {"class_weight": {0: 0.0, 1: 1.0, 2: 2.0, 3: 5.0}}
    logs = distiller.train_on_batch(images, labels, return_dict=True, **kwargs)
    assert abs(reference.weighted_mean(soft, weights) / soft.mean() - 1) > 0.1
    np.testing.assert_allclose(
        [logs["distillation_loss"], logs["label_loss"]],
        [reference.weighted_mean(soft, weights), reference.weighted_mean(hard, weights)],
        rtol=1e-4,
    )


def test_weights_count_in_feature_losses():
    images, labels = batch()
    weights = np.float32([0.0, 1.0, 2.0, 5.0])[labels]
    teacher, student = conv_net(1), conv_net(2)
    teacher_features, student_features = (
        keras.Model(m.input, m.get_layer("features").output)(images) for m in (teacher, student)
    )
    want = reference.weighted_mean(reference.hint_mse(teacher_features, student_features), weights)
    distiller = compiled(
        student, teacher, feature_losses=[FeatureLoss("features", "features", losses.hint_mse)]
    )
    logs = distiller.train_on_batch(images, labels, weights, return_dict=True)
    np.testing.assert_allclose(logs["feature_loss"], want, rtol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_regularisers_and_add_loss_count_once_whatever_alpha(alpha):
    class Penalty(keras.layers.Layer):
        def call(self, x):
            self.add_loss(7.0 * tf.reduce_mean(x))
            return x

    student = keras.Sequential(
        [keras.Input((3,)), Penalty(), keras.layers.Dense(CLASSES, kernel_regularizer="l2")]
    )
    kernel = student.get_weights()[0]
    distiller = compiled(student, linear(np.eye(3, CLASSES)), alpha=alpha)
    x, y = np.random.default_rng(0).normal(size=(BATCH, 3)).astype("float32"), batch()[1]
    extra = 7.0 * x.mean() + 0.01 * (kernel**2).sum()
    # Twice, to see that losses of an earlier step are gone.
    for _ in range(2):
        evaluated = distiller.test_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(evaluated["loss"] - evaluated["label_loss"], extra, rtol=1e-3)
    logs = distiller.train_on_batch(x, y, return_dict=True)
    mixed = alpha * logs.get("distillation_loss", 0.0) + (1 - alpha) * logs["label_loss"]
    np.testing.assert_allclose(logs["loss"] - mixed, extra, rtol=1e-3)


def test_each_model_runs_once_a_step_in_its_own_mode():
    teacher, student = conv_net(1), conv_net(2)
    distiller = compiled(
        student,
        teacher,
        feature_losses=[FeatureLoss("features", "features", losses.hint_mse)],
        log_agreement=True,
    )
    teacher_watch, student_watch = (m.get_layer("watch") for m in (teacher, student))
    for watch in (teacher_watch, student_watch):
        watch.modes.clear()
    distiller.train_on_batch(*batch())
    assert (teacher_watch.modes, student_watch.modes) == ([False], [True])


def test_evaluate_moves_no_statistics_and_no_weights():
    student = conv_net(2)
    distiller = compiled(
        student, conv_net(1), feature_losses=[FeatureLoss("features", "features", losses.hint_mse)]
    )
    before = student.get_weights()
    distiller.evaluate(*batch(), verbose=0)
    distiller.predict(batch()[0], verbose=0)
    for a, b in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert student.get_layer("watch").modes[-2:] == [False, False]


def test_the_teacher_stays_as_it_was():
    teacher = conv_net(1)
    before, trainable = teacher.get_weights(), len(teacher.trainable_weights)
    distiller = compiled(
        conv_net(2),
        teacher,
        feature_losses=[FeatureLoss("features", "features", losses.hint_mse)],
        run_eagerly=False,
    )
    distiller.fit(*batch(), epochs=2, verbose=0)
    for a, b in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(teacher.trainable_weights) == trainable > 0
    tracked = {id(v) for v in distiller.variables}
    assert not tracked & {id(v) for v in teacher.variables}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_large_logits_give_finite_exact_gradients(dtype):
    # A clipped probability has no gradient; a softmax in float16 underflows.
    teacher, student = tf.constant([[60.0, 0.0, 30.0]]), tf.Variable([[0.0, 60.0, -60.0]])
    with tf.GradientTape() as tape:
        loss = losses.soft_target_kl(tf.cast(teacher, dtype), tf.cast(student, dtype), 1.0)
    np.testing.assert_allclose(loss, [60.0], rtol=1e-4)
    np.testing.assert_allclose(tape.gradient(loss, student), [[-1.0, 1.0, 0.0]], atol=1e-3)


def test_float16_models_train_on_large_logits():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        student = conv_net(2)
    finally:
        keras.config.set_dtype_policy("float32")
    images, labels = batch()
    distiller = compiled(student, lambda x: 1e3 * tf.one_hot(labels, CLASSES), alpha=1)
    before = student.get_weights()
    logs = distiller.train_on_batch(images, labels, return_dict=True)
    assert math.isfinite(logs["loss"])
    moved = [np.abs(a - b).max() for a, b in zip(before, student.get_weights(), strict=True)]
    assert all(np.isfinite(moved)) and min(moved) > 0


def test_the_teacher_may_take_other_sizes_and_dtypes():
    images, labels = batch(size=8)
    teacher, student = conv_net(1, size=12, dtype="uint8"), conv_net(2, size=6)
    distiller = compiled(student, teacher)
    larger = tf.image.resize(images, (12, 12), antialias=True)
    smaller = tf.image.resize(images, (6, 6), antialias=True)
    teacher_logits = teacher(tf.cast(tf.round(larger), tf.uint8), training=False)
    student_logits = conv_net(2, size=6)(smaller, training=True)
    want = reference.soft_target_kl(teacher_logits, student_logits, 4.0)
    logs = distiller.train_on_batch({"image": images}, labels, return_dict=True)
    np.testing.assert_allclose(logs["distillation_loss"], want.mean(), rtol=1e-3)
    assert distiller.predict(images, verbose=0).shape == (BATCH, CLASSES)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_are_refused(activation):
    with pytest.raises(ValueError, match=f"^teacher .* ends in a {activation}.*activation=None"):
        Distiller(conv_net(1), conv_net(2, activation=activation))
    with pytest.raises(ValueError, match=f"^student .* ends in a {activation}"):
        Distiller(conv_net(1, activation=activation), conv_net(2))


def test_the_saved_file_holds_no_teacher_and_trains_on(tmp_path):
    student, teacher = conv_net(2), conv_net(1, channels=64)
    adapter = keras.layers.Conv2D(64, 1)
    distiller = compiled(
        student,
        teacher,
        feature_losses=[FeatureLoss("features", "features", losses.hint_mse, adapter=adapter)],
    )
    distiller.train_on_batch(*batch())
    distiller.save(tmp_path / "distilled.keras")
    student.save(tmp_path / "student.keras")
    sizes = [(tmp_path / name).stat().st_size for name in ("distilled.keras", "student.keras")]
    assert sizes[0] == sizes[1]
    loaded = keras.saving.load_model(tmp_path / "distilled.keras", custom_objects={"Watch": Watch})
    assert loaded.count_params() == student.count_params()
    again = compiled(loaded, teacher)
    again.fit(*batch(), verbose=0)
    loaded.compile("sgd", HARD)
    loaded.fit(*batch(), verbose=0)


def test_saved_weights_hold_no_teacher(tmp_path):
    h5py = pytest.importorskip("h5py")
    student, teacher = conv_net(2), conv_net(1, channels=64)
    adapter = keras.layers.Conv2D(64, 1)
    distiller = compiled(
        student,
        teacher,
        feature_losses=[FeatureLoss("features", "features", losses.hint_mse, adapter=adapter)],
        optimizer=keras.optimizers.SGD(0.1),
    )
    distiller.save_weights(tmp_path / "d.weights.h5")
    saved = []
    with h5py.File(tmp_path / "d.weights.h5") as file:
        file.visititems(lambda name, item: saved.append((name, getattr(item, "size", 0))))
    models = sum(size for name, size in saved if not name.startswith(("optimizer", "_")))
    assert models == student.count_params() + adapter.count_params()


def test_validation_runs_no_teacher():
    teacher = conv_net(1)
    distiller = compiled(conv_net(2), teacher)
    modes = teacher.get_layer("watch").modes
    modes.clear()
    distiller.evaluate(*batch(), verbose=0)
    assert modes == []
    distiller.fit(*batch(), validation_data=batch(), epochs=2, verbose=0)
    assert modes == [False, False]
    asked = compiled(conv_net(2), teacher, log_agreement=True)
    modes.clear()
    assert "teacher_agreement" in asked.evaluate(*batch(), verbose=0, return_dict=True)
    assert modes == [False]
