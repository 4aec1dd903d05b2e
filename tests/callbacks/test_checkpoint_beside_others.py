"""A training that is killed and continued equals an uninterrupted one, whatever else remembers."""

import json
import warnings

import keras
import numpy as np
import pytest
import tf_keras

from kdtf.callbacks import EpochCheckpoint

X = np.random.default_rng(0).normal(size=(48, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 48)


class Killed(Exception):
    pass


class KillAt:
    """Callback of either Keras that ends the process after an epoch."""

    def __new__(cls, keras, epoch):
        class Kill(keras.callbacks.Callback):
            def on_epoch_begin(self, number, logs=None):
                if number == epoch:
                    raise Killed

        return Kill()


def model_of(keras, optimizer, units=8):
    keras.utils.set_random_seed(3)
    layers = [keras.Input((6,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], run_eagerly=True)
    return model


def trained(keras, path, others, *, optimizer=None, epochs=9, kill_at=None, behind=False):
    """(weights, curves, first epoch, callback) of a process that may be killed."""
    model = model_of(keras, optimizer() if optimizer else keras.optimizers.SGD(0.3, momentum=0.9))
    checkpoint, callbacks = EpochCheckpoint(path), others()
    first = checkpoint.restore(model)
    callbacks = [checkpoint, *callbacks] if behind else [*callbacks, checkpoint]
    if kill_at is not None:
        callbacks.append(KillAt(keras, kill_at))
    try:
        model.fit(
            X,
            Y,
            16,
            epochs=epochs,
            initial_epoch=first,
            shuffle=False,
            validation_data=(X[:20], Y[:20][::-1]),
            callbacks=callbacks,
            verbose=0,
        )
    except Killed:
        pass
    return model.get_weights(), checkpoint.history, first, model


def assert_equal(one, other):
    for before, after in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(before, after)
    assert one[1] == other[1]


OTHERS = {
    "early and best weights": lambda keras: [
        keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    ],
    "two of a kind": lambda keras: [
        keras.callbacks.EarlyStopping("val_loss", patience=4),
        keras.callbacks.EarlyStopping("loss", patience=2, min_delta=0.2),
    ],
    "plateau and early": lambda keras: [
        keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, factor=0.1),
        keras.callbacks.EarlyStopping("val_loss", patience=4),
    ],
}


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_others_go_on_where_they_were(tmp_path, library, behind, others):
    def made():
        return OTHERS[others](library)

    whole = trained(library, tmp_path / "whole.npz", made, behind=behind)
    epochs = len(whole[1]["loss"])
    assert epochs < 9
    kill_at = epochs - 1
    trained(library, tmp_path / "killed.npz", made, behind=behind, kill_at=kill_at)
    continued = trained(library, tmp_path / "killed.npz", made, behind=behind)
    assert continued[2] == kill_at
    assert_equal(whole, continued)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_a_training_that_stopped_early_trains_no_further(tmp_path, library, behind, best):
    def made():
        return [library.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=best)]

    path = tmp_path / "a.npz"
    once = trained(library, path, made, behind=behind)
    assert len(once[1]["loss"]) < 9
    content = path.read_bytes()
    with pytest.warns(UserWarning, match=f"had stopped after epoch {len(once[1]['loss'])}"):
        again = trained(library, path, made, behind=behind)
    assert_equal(once, again)
    assert path.read_bytes() == content
    # The model itself can be trained on all the same.
    again[3].fit(X, Y, 16, epochs=1, verbose=0)


@pytest.mark.parametrize("patience", [8, None])
def test_more_patience_trains_on(tmp_path, patience):
    """With more patience, or without what stopped it, it is as if it had been so from the start."""

    def made(patience):
        return [keras.callbacks.EarlyStopping("val_loss", patience=patience)] if patience else []

    stopped = trained(keras, tmp_path / "a.npz", lambda: made(2))
    on = trained(keras, tmp_path / "a.npz", lambda: made(patience))
    whole = trained(keras, tmp_path / "b.npz", lambda: made(patience))
    assert on[2] == len(stopped[1]["loss"]) < len(whole[1]["loss"])
    assert_equal(whole, on)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_the_best_model_so_far_is_not_replaced_by_a_worse_one(tmp_path, library, behind):
    def made(name):
        path = str(tmp_path / name)
        return [
            library.callbacks.ModelCheckpoint(
                path, "val_loss", save_best_only=True, save_weights_only=True
            )
        ]

    trained(library, tmp_path / "a.npz", lambda: made("a.weights.h5"), behind=behind)
    for kill_at in (4, None):
        last = trained(
            library,
            tmp_path / "b.npz",
            lambda: made("b.weights.h5"),
            behind=behind,
            kill_at=kill_at,
        )
    losses = last[1]["val_loss"]
    assert np.argmin(losses) < 4  # or this shows nothing
    models = [model_of(library, "sgd") for _ in range(2)]
    for model, name in zip(models, ("a.weights.h5", "b.weights.h5"), strict=True):
        model.load_weights(str(tmp_path / name))
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_checkpoint_has_nothing_of_is_said(tmp_path):
    trained(keras, tmp_path / "a.npz", list, kill_at=2)
    with pytest.warns(UserWarning, match="EarlyStopping of val_loss begins anew"):
        trained(keras, tmp_path / "a.npz", lambda: OTHERS["two of a kind"](keras))


def averaging():
    return keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.9)


@pytest.mark.parametrize("each_epoch", [False, True])
def test_averages_in_the_model_are_not_taken_for_its_weights(tmp_path, each_epoch):
    """Right where the checkpoint comes first, refused before work where it would be wrong."""

    def made():
        return [keras.callbacks.SwapEMAWeights(swap_on_epoch=each_epoch)]

    def run(name, **options):
        return trained(keras, tmp_path / name, made, optimizer=averaging, epochs=5, **options)

    for behind in (False, True):
        if each_epoch and not behind:
            with pytest.raises(ValueError, match="put EpochCheckpoint before it"):
                run("c.npz", behind=behind)
            assert not (tmp_path / "c.npz").exists()
            continue
        whole = run(f"{behind}a.npz", behind=behind)
        run(f"{behind}b.npz", behind=behind, kill_at=3)
        assert_equal(whole, run(f"{behind}b.npz", behind=behind))


def written(keras, path, optimizer, epochs=3):
    trained(keras, path, list, optimizer=lambda: optimizer, epochs=epochs)


@pytest.mark.parametrize(
    "before, after, message",
    [
        (lambda k: k.SGD(0.1, momentum=0.9), lambda k: k.RMSprop(0.1), "'SGD', is 'RMSprop'"),
        (lambda k: k.Adam(0.1), lambda k: k.AdamW(0.1), "'Adam', is 'AdamW'"),
        (lambda k: k.Adam(0.1), lambda k: k.Nadam(0.1), "'Adam', is 'Nadam'"),
        (lambda k: k.SGD(0.1), lambda k: k.SGD(0.1, momentum=0.9), "momentum was 0.0, is 0.9"),
        (lambda k: k.Adam(0.1), lambda k: k.Adam(0.1, amsgrad=True), "amsgrad was False"),
        (
            lambda k: k.RMSprop(0.1, momentum=0.9),
            lambda k: k.RMSprop(0.1, centered=True),
            "centered was False, is True",
        ),
        (
            lambda k: k.Adam(0.1),
            lambda k: k.Adam(k.schedules.CosineDecay(0.1, 9)),
            "learning rate of 0.1, this training has.*decay_steps 9",
        ),
    ],
)
@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_another_optimizer_is_refused(tmp_path, library, before, after, message):
    path = tmp_path / "a.npz"
    written(library, path, before(library.optimizers), epochs=1)
    with pytest.raises(ValueError, match=f"(?s)a.npz.*{message}"):
        EpochCheckpoint(path).restore(model_of(library, after(library.optimizers)))


def test_the_optimizer_inside_another_is_looked_at(tmp_path):
    def scaled(optimizer):
        return keras.optimizers.LossScaleOptimizer(optimizer)

    path = tmp_path / "a.npz"
    written(keras, path, scaled(keras.optimizers.Adam(0.1)), epochs=1)
    with pytest.raises(ValueError, match="inner_optimizer.class_name was 'Adam', is 'AdamW'"):
        EpochCheckpoint(path).restore(model_of(keras, scaled(keras.optimizers.AdamW(0.1))))
    model = model_of(keras, scaled(keras.optimizers.Adam(0.02)))
    with pytest.warns(UserWarning, match="0.02; .* was written with 0.1"):
        EpochCheckpoint(path).restore(model)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_a_new_learning_rate_counts_and_is_told(tmp_path, library):
    path = tmp_path / "a.npz"
    written(library, path, library.optimizers.Adam(0.1))
    model = model_of(library, library.optimizers.Adam(0.02))
    with pytest.warns(UserWarning, match="compiled with, 0.02; .* was written with 0.1"):
        assert EpochCheckpoint(path).restore(model) == 3
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)
    assert int(model.optimizer.iterations) == 9


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_a_reduced_learning_rate_stays_reduced(tmp_path, library):
    class Halved(library.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.05

    path = tmp_path / "a.npz"
    trained(library, path, lambda: [Halved()], optimizer=lambda: library.optimizers.Adam(0.1))
    model = model_of(library, library.optimizers.Adam(0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EpochCheckpoint(path).restore(model)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05)


def test_layers_of_equal_shapes_in_another_order_are_refused(tmp_path):
    def made(names):
        layers = [keras.layers.Dense(4, name=name) for name in names]
        model = keras.Sequential([keras.Input((4,)), *layers])
        model.compile("sgd", "mse")
        return model

    checkpoint = EpochCheckpoint(tmp_path / "a.npz")
    model = made(["first", "second"])
    checkpoint.restore(model)
    model.fit(np.ones((4, 4)), np.ones((4, 4)), callbacks=[checkpoint], verbose=0)
    assert EpochCheckpoint(tmp_path / "a.npz").restore(made(["first", "second"])) == 1
    with pytest.raises(ValueError, match="holds '.*first/kernel' where.*second/kernel"):
        EpochCheckpoint(tmp_path / "a.npz").restore(made(["second", "first"]))


def test_files_of_earlier_versions_still_open(tmp_path):
    """They hold variables, epochs and curves alone."""
    path = tmp_path / "a.npz"
    whole = trained(keras, path, list, epochs=4)
    trained(keras, tmp_path / "b.npz", list, epochs=4, kill_at=2)
    with np.load(tmp_path / "b.npz") as archive:
        arrays = dict(archive)
    facts = json.loads(arrays["facts"].item())
    old = {name: facts[name] for name in ("epochs", "variables", "history")}
    np.savez(tmp_path / "b.npz", **(arrays | {"facts": json.dumps(old)}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal(whole, trained(keras, tmp_path / "b.npz", list, epochs=4))
