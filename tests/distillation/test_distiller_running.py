"""The Distiller against plain Keras, in every way of running, and its saving and resuming."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    CLASSES,
    FEATURES,
    HARD,
    assert_same_weights,
    batches,
    busy_mlp,
    distil,
    dtype_policy,
    in_new_process,
    mlp,
)

from kdtf import losses
from kdtf.distillation.distiller import Distiller
from kdtf.distillation.features import FeatureLoss

# Plain Keras where there is nothing to distil


def test_alpha_0_is_plain_keras_bit_for_bit():
    # Threads may add up in any order, so this runs in a process of its own, deterministically.
    in_new_process("""
        import tensorflow as tf
        tf.config.experimental.enable_op_determinism()
        from tests.distillation import test_distiller_running
        for case in ("sample_weight", "class_weight", "mixed_float16"):
            test_distiller_running.check_bit_for_bit(case)
    """)


def test_a_step_is_traced_once():
    traced = []

    class Counting(Distiller):
        def train_step(self, data):
            traced.append(data)
            return super().train_step(data)

    distiller = Counting(mlp(3), mlp(4))
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    distiller.compile(keras.optimizers.Adam(0.01), HARD, metrics=[accuracy])
    distiller.fit(batches(5), epochs=2, verbose=0)
    assert len(traced) == 1


def check_bit_for_bit(case):
    policy = "mixed_float16" if case == "mixed_float16" else "float32"
    with dtype_policy(policy):
        # Keras itself cannot add float16 activity losses to float32 ones.
        plain, student = (busy_mlp(3, activity_losses=policy == "float32") for _ in range(2))
    data = batches(5, weights=case == "sample_weight", batch=7)
    options = {"epochs": 2, "verbose": 0}
    if case == "sample_weight":
        options["validation_data"] = data
    if case == "class_weight":
        options["class_weight"] = {c: 0.5 + c for c in range(CLASSES)}

    def teacher(x):
        raise RuntimeError("called")

    histories = []
    for model in (plain, Distiller(student, teacher, alpha=0)):
        model.compile(keras.optimizers.Adam(0.01), HARD, metrics=["accuracy"])
        histories.append(model.fit(data, **options).history)
    assert_same_weights(plain, student)
    want, got = histories
    assert {name: got[name] for name in want} == want
    assert {name.removeprefix("val_") for name in set(got) - set(want)} == {"label_loss"}


# Ways of running


@pytest.mark.parametrize(
    "how", [{"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 3}]
)
def test_ways_of_running_agree(how):
    data = batches(7)
    teacher, student, expected = mlp(1), mlp(2), mlp(2)
    hint = FeatureLoss("hidden", "hidden", losses.hint_mse)
    options = {"feature_losses": [hint], "alpha": lambda step: tf.cast(step, tf.float32) / 100}
    _, want = distil(expected, teacher, data, **options)
    _, got = distil(student, teacher, data, compiled=how, **options)
    assert_same_weights(student, expected, atol=1e-5)
    assert set(got) == set(want)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    with dtype_policy(policy):
        student = mlp(2)
    teacher, expected = mlp(1), mlp(2)
    _, want = distil(expected, teacher)
    distiller, got = distil(student, teacher)
    scaled = isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert distiller(np.zeros((1, FEATURES))).dtype == student(np.zeros((1, FEATURES))).dtype
    assert student.get_layer("hidden").kernel.dtype == "float32"
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=0.02)


def test_two_replicas_equal_one_device():
    # Logical devices must be set up before TensorFlow starts, so this runs in its own process.
    script = """
        import tensorflow as tf
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
        import keras, numpy as np
        import small_models as t
        from kdtf import losses
        from kdtf.distillation.distiller import Distiller
        from kdtf.distillation.features import FeatureLoss

        def run():
            teacher, student = t.mlp(1), t.mlp(2)
            keras.utils.set_random_seed(3)
            adapter = keras.layers.Dense(7, kernel_regularizer="l2")
            hint = FeatureLoss("hidden", "hidden", losses.hint_mse, adapter=adapter)
            distiller = Distiller(student, teacher, feature_losses=[hint], log_agreement=True,
                                  alpha=lambda step: 0.5 + tf.cast(step, tf.float32) / 100)
            distiller.compile(keras.optimizers.SGD(0.1), t.HARD, metrics=["accuracy"])
            data = t.batches(4, weights=True)
            history = distiller.fit(data, epochs=2, verbose=0, validation_data=data).history
            return distiller.get_weights(), history

        weights, logs = run()
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        assert strategy.num_replicas_in_sync == 2
        with strategy.scope():
            mirrored_weights, mirrored_logs = run()
        for a, b in zip(weights, mirrored_weights, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        assert set(logs) == set(mirrored_logs)
        for name in logs:
            np.testing.assert_allclose(logs[name], mirrored_logs[name], rtol=1e-4, err_msg=name)

        with strategy.scope():  # shares of 4 and 3 examples, which Keras cannot build metrics on
            distiller = Distiller(t.mlp(2), t.mlp(1))
            distiller.compile("sgd", t.HARD, metrics=["accuracy"])
            logs = distiller.fit(t.batches(2, batch=7), verbose=0).history
        assert np.isfinite(logs["loss"]).all()
    """
    in_new_process(script)


# Saving and resuming


def test_save_holds_the_plain_student(tmp_path):
    distiller, _ = distil(busy_mlp(1), mlp(2))
    distiller.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    x = next(iter(batches(1)))[0]
    np.testing.assert_array_equal(loaded(x), distiller(x))
    assert type(loaded) is type(distiller.student)
    assert [w.shape for w in loaded.weights] == [w.shape for w in distiller.student.weights]


def test_export_holds_the_plain_student(tmp_path):
    distiller, _ = distil(mlp(1), mlp(2), epochs=1)
    distiller.export(tmp_path / "student", verbose=False)
    x = next(iter(batches(1)))[0]
    restored = tf.saved_model.load(tmp_path / "student")
    np.testing.assert_allclose(restored.serve(x), distiller(x), atol=1e-6)


def _resumable(seed=1):
    keras.utils.set_random_seed(9)
    adapter = keras.layers.Dense(12)
    hint = FeatureLoss("hidden", "first", losses.hint_mse, adapter=adapter)
    distiller = Distiller(
        busy_mlp(seed, dropout=0),  # Keras saves no dropout state
        mlp(2, hidden=12),
        feature_losses=[hint],
        alpha=lambda step: tf.cast(step, tf.float32) / 50,
    )
    distiller.compile(keras.optimizers.Adam(0.01), HARD, metrics=["accuracy"])
    return distiller


@functools.cache
def trained_without_a_break():
    distiller = _resumable()
    return distiller, distiller.fit(batches(4), epochs=2, verbose=0).history


class KilledError(Exception):
    pass


def test_a_killed_training_continues_where_it_was(tmp_path):
    data = batches(4)
    whole, want = trained_without_a_break()

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KilledError

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KilledError):
        _resumable().fit(data, epochs=2, verbose=0, callbacks=[backup, Kill()])
    resumed = _resumable(seed=77)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    got = resumed.fit(data, epochs=2, verbose=0, callbacks=[backup]).history
    assert_same_weights(resumed, whole, atol=1e-6)
    assert set(got) == set(want)
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values[1:], rtol=1e-5)


def test_weights_hold_student_adapters_and_optimizer(tmp_path):
    whole, _ = trained_without_a_break()
    first, second = _resumable(), _resumable(seed=77)
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / "d.weights.h5", save_weights_only=True, monitor="loss"
    )
    first.fit(batches(4), epochs=1, verbose=0, callbacks=[checkpoint])
    second.load_weights(tmp_path / "d.weights.h5")
    assert int(second.optimizer.iterations) == 4
    second.fit(batches(4), epochs=1, verbose=0)
    assert_same_weights(second, whole, atol=1e-6)


def test_model_checkpoint_saves_the_student(tmp_path):
    distiller = Distiller(mlp(1), mlp(2))
    distiller.compile("sgd", HARD)
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_loss", save_best_only=True
    )
    distiller.fit(batches(), validation_data=batches(), callbacks=[checkpoint], verbose=0)
    loaded = keras.saving.load_model(tmp_path / "best.keras")
    assert_same_weights(loaded, distiller.student)


def test_a_distiller_has_no_config(tmp_path):
    distiller = Distiller(mlp(1), mlp(2))
    with pytest.raises(NotImplementedError, match=r"distiller.save\(path\)"):
        keras.saving.save_model(distiller, tmp_path / "d.keras")
