"""A continued training equals an uninterrupted one."""

import json

import keras
import numpy as np
import pytest

from kdtf.callbacks import checkpoint


def trained(path, epochs, stop_after=None, rate=0.01):
    """Weights and curves after `epochs`, by a process that is gone after `stop_after` of them."""
    keras.utils.set_random_seed(5)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 6)).astype("float32"), rng.integers(0, 3, 48)
    layers = [keras.Input((6,)), keras.layers.Dense(8), keras.layers.BatchNormalization()]
    layers += [keras.layers.Dropout(0.4, seed=1), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    schedule = keras.optimizers.schedules.CosineDecay(rate, 3 * epochs)
    model.compile(
        keras.optimizers.AdamW(schedule, use_ema=True, ema_momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    callback = checkpoint.EpochCheckpoint(path)
    first = callback.restore(model)
    model.fit(
        x,
        y,
        16,
        epochs=stop_after or epochs,
        initial_epoch=first,
        shuffle=False,
        callbacks=[callback],
        verbose=0,
    )
    return model.get_weights(), callback.history, first


def test_continued_equals_uninterrupted(tmp_path):
    weights, history, first = trained(tmp_path / "a.npz", 5)
    assert first == 0
    trained(tmp_path / "b.npz", 5, stop_after=2)
    continued, continued_history, first = trained(tmp_path / "b.npz", 5)
    assert first == 2
    for one, other in zip(weights, continued, strict=True):
        np.testing.assert_array_equal(one, other)
    assert history == continued_history and len(history["loss"]) == 5


def test_without_the_state_it_would_not(tmp_path):
    weights, _, _ = trained(tmp_path / "a.npz", 5)
    fewer, _, _ = trained(tmp_path / "b.npz", 5, stop_after=3)
    assert any((one != other).any() for one, other in zip(weights, fewer, strict=True))


def test_state_of_another_model_is_refused(tmp_path):
    trained(tmp_path / "a.npz", 2)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="written with other settings"):
        checkpoint.EpochCheckpoint(tmp_path / "a.npz").restore(model)


def test_nothing_half_written_is_left(tmp_path):
    trained(tmp_path / "a.npz", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_curves_of_earlier_versions_go_on_under_todays_names(tmp_path):
    """Logs were once called hard_loss and soft_loss."""
    trained(tmp_path / "a.npz", 5, stop_after=2)
    with np.load(tmp_path / "a.npz") as archive:
        arrays = dict(archive)
    facts = json.loads(arrays["facts"].item())
    facts["history"] = {
        "hard_loss": [2.0, 1.0],
        "soft_loss": [4.0, 3.0],
        "val_hard_loss": [2.5, 1.5],
    }
    np.savez(tmp_path / "a.npz", **(arrays | {"facts": json.dumps(facts)}))
    _, history, first = trained(tmp_path / "a.npz", 3)
    assert first == 2 and len(history.pop("loss")) == 1
    assert history == {
        "label_loss": [2.0, 1.0],
        "distillation_loss": [4.0, 3.0],
        "val_label_loss": [2.5, 1.5],
    }
