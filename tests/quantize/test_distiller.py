"""Training in emulated int8: the Distiller of tf_keras, frozen batch norms, resuming."""

import keras
import numpy as np
import pytest
import reference
import tf_keras
from int8_students import aware, student
from small_models import training_photos as examples

from kdtf import layer_graph, quantize
from kdtf.callbacks import checkpoint
from kdtf.quantize import fake_quant

CLASSES = 3

HARD = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def teacher(seed=7):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 50)(image))
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(image, keras.layers.Dense(CLASSES)(x))


def compiled(model, *args, optimizer=None, loss=HARD, metrics=None, run_eagerly=False, **kwargs):
    """Tests that a graph would tell nothing more say run_eagerly: tracing takes seconds."""
    distiller = quantize.QATDistiller(model, *args, **kwargs)
    distiller.compile(
        optimizer or tf_keras.optimizers.SGD(0.1), loss, metrics=metrics, run_eagerly=run_eagerly
    )
    return distiller


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_of_a_step_match_numpy(weighted):
    (x, y), model, guide = examples(), aware(), teacher()
    weight = np.linspace(0, 3, len(y)).astype("float32") if weighted else np.ones(len(y))
    logits, taught = model(x, training=True).numpy(), guide(x).numpy()
    with fake_quant.quantization_mode("off"):
        rounding = np.abs(model(x, training=True).numpy() - logits).max()
    assert rounding > 1e-3  # enough to tell below that the losses are of rounded logits
    soft = reference.weighted_mean(reference.soft_target_kl(taught, logits, 3.0), weight)
    hard = reference.weighted_mean(reference.cross_entropy(y, logits), weight)
    distiller = compiled(
        model,
        guide,
        alpha=0.6,
        temperature=3.0,
        log_agreement=True,
        metrics=["accuracy"],
        run_eagerly=weighted,
    )
    logs = distiller.train_on_batch(x, y, weight if weighted else None, return_dict=True)
    assert {name: float(value) for name, value in logs.items()} == pytest.approx(
        {
            "loss": 0.6 * soft + 0.4 * hard,
            "distillation_loss": soft,
            "label_loss": hard,
            "accuracy": np.mean(logits.argmax(1) == y),
            "teacher_agreement": np.mean(logits.argmax(1) == taught.argmax(1)),
        },
        rel=2e-5,
    )


def test_a_step_is_traced_once():
    traced = []

    class Counting(quantize.QATDistiller):
        def train_step(self, data):
            traced.append(data)
            return super().train_step(data)

    distiller = Counting(aware(), teacher())
    distiller.compile(tf_keras.optimizers.Adam(0.01), HARD)
    distiller.fit(*examples(), batch_size=4, epochs=1, verbose=0)
    assert len(traced) == 1


def test_one_sgd_step_moves_the_head_by_the_gradient():
    (x, y), model, guide = examples(), aware(), teacher()
    before = {v.name: v.numpy() for v in model.get_layer("logits").trainable_variables}
    pooled = tf_keras.Model(model.input, model.get_layer("pool").output)
    features, logits = pooled(x, training=True).numpy(), model(x, training=True).numpy()
    by_logits = (
        0.6 * reference.soft_target_kl_gradient(guide(x).numpy(), logits, 3.0)
        + 0.4 * reference.cross_entropy_gradient(y, logits)
    ) / len(y)
    low, high = layer_graph.output_range(model.get_layer("logits"))
    scale = (high - low) / 255
    zero_point = np.round(-low / scale)
    ends = -zero_point * scale + 1e-6, (255 - zero_point) * scale - 1e-6
    by_logits[(logits < ends[0]) | (logits > ends[1])] = 0  # straight through inside the range only
    distiller = compiled(model, guide, alpha=0.6, temperature=3.0, run_eagerly=True)
    distiller.train_on_batch(x, y)
    assert len(before) == 2
    for variable in model.get_layer("logits").trainable_variables:
        gradient = features.T @ by_logits if "kernel" in variable.name else by_logits.sum(0)
        np.testing.assert_allclose(variable, before[variable.name] - 0.1 * gradient, atol=1e-5)


def test_logs_are_means_over_the_examples_of_one_epoch():
    (x, y), model = examples(12), aware()
    losses = []
    for part in (slice(0, 8), slice(8, 12)):
        losses += reference.cross_entropy(y[part], model(x[part], training=True)).tolist()
    distiller = compiled(model, alpha=0, optimizer=tf_keras.optimizers.SGD(0.0), run_eagerly=True)
    history = distiller.fit(x, y, 8, epochs=2, shuffle=False, verbose=0).history
    for name in ("loss", "label_loss"):
        np.testing.assert_allclose(history[name], [np.mean(losses)] * 2, rtol=1e-5)


def test_alpha_zero_never_asks_the_teacher():
    def fails(x):
        raise AssertionError("asked")

    (x, y), model = examples(), aware()
    hard = reference.cross_entropy(y, model(x, training=True)).mean()
    distiller = compiled(model, fails, alpha=0, run_eagerly=True)
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert set(logs) == {"loss", "label_loss"} and float(logs["loss"]) == pytest.approx(hard, 1e-5)
    with pytest.raises(AssertionError, match="asked"):
        compiled(model, fails, alpha=0.1, run_eagerly=True).train_on_batch(x, y)


def test_alpha_one_needs_no_loss_and_cached_logits_no_teacher():
    (x, y), model = examples(), aware()
    taught = np.random.default_rng(0).normal(size=(len(y), CLASSES)).astype("float32")
    soft = reference.soft_target_kl(taught, model(x, training=True), 4.0).mean()
    logs = compiled(model, alpha=1, loss=None, run_eagerly=True).train_on_batch(
        {"image": x, "teacher_logits": taught}, y, return_dict=True
    )
    assert {name: float(value) for name, value in logs.items()} == pytest.approx(
        {"loss": soft, "distillation_loss": soft}, rel=1e-5
    )


def test_training_lowers_the_loss_and_moves_every_weight_but_the_ranges():
    (x, y), model = examples(24), aware()
    before = [(v.name, v.numpy()) for v in model.trainable_variables]
    ranges = {layer.name: layer_graph.output_range(layer) for layer in model.layers}
    distiller = compiled(model, alpha=0, optimizer=tf_keras.optimizers.Adam(0.1))
    history = distiller.fit(x, y, 12, epochs=15, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert len(before) == 5  # conv, gamma, beta, head's kernel and bias
    for (name, old), new in zip(before, model.trainable_variables, strict=True):
        assert np.abs(new.numpy() - old).max() > 1e-3, name
    assert {layer.name: layer_graph.output_range(layer) for layer in model.layers} == ranges
    evaluated = distiller.evaluate(x, y, verbose=0, return_dict=True)
    want = reference.cross_entropy(y, model(x, training=False)).mean()
    assert evaluated == pytest.approx({"loss": want, "label_loss": want}, rel=1e-5)


def test_the_teacher_is_never_changed():
    guide, (x, y) = teacher(), examples()
    before = guide.get_weights()
    distiller = compiled(aware(), guide, run_eagerly=True)
    distiller.fit(x, y, 6, epochs=1, verbose=0)
    for one, other in zip(guide.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(distiller.trainable_variables) == len(distiller.student.trainable_variables)


class Recorder(tf_keras.callbacks.Callback):
    """What the batch norm holds after each epoch."""

    def on_train_begin(self, logs=None):
        self.seen = [self._now()]

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self._now())

    def _now(self):
        norm = layer_graph.unwrapped(self.model.student.get_layer("bn"))
        return {
            name: getattr(norm, name).numpy()
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        }


def test_frozen_batch_norms_keep_their_statistics_and_train_on():
    (x, y), recorder, model = examples(), Recorder(), aware()
    distiller = compiled(model, teacher())
    distiller.fit(x, y, 6, epochs=3, verbose=0, callbacks=[quantize.BatchNormFreeze(1), recorder])
    start, first, second, third = recorder.seen
    for name in ("moving_mean", "moving_variance"):
        assert np.abs(first[name] - start[name]).min() > 1e-6
        np.testing.assert_array_equal(second[name], first[name])
        np.testing.assert_array_equal(third[name], first[name])
    for name in ("gamma", "beta"):
        assert np.abs(second[name] - first[name]).max() > 1e-6
        assert np.abs(third[name] - second[name]).max() > 1e-6


def test_frozen_batch_norms_train_on_what_the_phone_computes():
    (x, y), model = examples(), aware()
    distiller = compiled(model, alpha=0, optimizer=tf_keras.optimizers.SGD(0.0))
    freeze = quantize.BatchNormFreeze(1)
    history = distiller.fit(x, y, 12, epochs=2, verbose=0, callbacks=[freeze]).history
    inference = reference.cross_entropy(y, model(x, training=False)).mean()
    assert history["loss"][1] == pytest.approx(inference, rel=1e-5)
    assert history["loss"][0] != pytest.approx(inference, rel=1e-3)


def fitted(path, epochs, stop_after=None):
    """Weights and curves of a process that is gone after `stop_after` epochs."""
    (x, y), model = examples(), aware()
    schedule = tf_keras.optimizers.schedules.CosineDecay(0.02, 2 * epochs)
    distiller = compiled(model, teacher(), optimizer=tf_keras.optimizers.Adam(schedule))
    callback = checkpoint.EpochCheckpoint(path)
    first = callback.restore(distiller)
    distiller.fit(
        x,
        y,
        6,
        epochs=stop_after or epochs,
        initial_epoch=first,
        shuffle=False,
        verbose=0,
        callbacks=[callback, quantize.BatchNormFreeze(2)],
    )
    weights = [w for layer in model.layers for w in layer.get_weights()]
    return weights, callback.history, first


def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path):
    whole, history, _ = fitted(tmp_path / "a.npz", 3)
    fitted(tmp_path / "b.npz", 3, stop_after=1)
    resumed, resumed_history, first = fitted(tmp_path / "b.npz", 3)
    assert first == 1 and resumed_history == history and len(history["loss"]) == 3
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


# Refusals


def test_refuses_a_keras_3_student():
    with pytest.raises(TypeError, match="quantize_aware gave.*Keras 3 model use kdtf.Distiller"):
        quantize.QATDistiller(student())


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        tf_keras.losses.SparseCategoricalCrossentropy(),
        tf_keras.losses.KLDivergence(),
        tf_keras.losses.sparse_categorical_crossentropy,
    ],
)
def test_refuses_losses_on_probabilities(loss):
    with pytest.raises(ValueError, match="expects probabilities"):
        compiled(aware(), alpha=0, loss=loss)


def test_refuses_unfit_settings():
    model = aware()
    with pytest.raises(ValueError, match="loss is None, but with alpha=0.7"):
        compiled(model, teacher(), loss=None)
    with pytest.raises(ValueError, match="has reduction='none'"):
        compiled(
            model,
            alpha=0,
            loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none"),
        )
    with pytest.raises(ValueError, match="alpha must be a number from 0 to 1.*got 2"):
        quantize.QATDistiller(model, teacher(), alpha=2)
    wide = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(CLASSES + 1)]
    )
    with pytest.raises(ValueError, match="teacher has 4 classes, student has 3"):
        quantize.QATDistiller(model, wide)
    with pytest.raises(ValueError, match="no column 'teacher_logits'"):
        compiled(model).train_on_batch(*examples())
