"""alpha and temperature set on a Distiller that is made, as keras.io's example does."""

import keras
import numpy as np
import pytest
from both_kerases import BOTH, compiled, distiller, examples, step, student


@BOTH
@pytest.mark.parametrize("how", [{"run_eagerly": True}, {}], ids=["eager", "graph"])
def test_what_is_set_counts_from_the_next_step_on(k, how):
    made = compiled(k, rate=0.0, alpha=0.0, compiled=how)
    assert "distillation_loss" not in step(made)
    made.alpha, made.temperature = 0.25, 2.0
    want = step(compiled(k, rate=0.0, alpha=0.25, temperature=2.0))
    assert step(made) == pytest.approx(want, rel=1e-6)
    assert (made.alpha, made.temperature) == (0.25, 2.0)
    assert made.mixture == {"alpha": 0.25, "temperature": 2.0}


@BOTH
def test_what_is_set_before_compile_counts(k):
    made = distiller(k)
    made.alpha = 1
    made.compile(k.optimizers.SGD(0.0))  # without a loss: the labels have no weight
    assert step(made).keys() == {"loss", "distillation_loss"}
    with pytest.raises(ValueError, match="loss is None, but with alpha=0.5"):
        made.alpha = 0.5
    assert made.alpha == 1


@BOTH
def test_schedules_may_be_set_and_are_logged(k):
    made = compiled(k, rate=0.0)
    made.temperature = lambda step: 3.0
    logs = step(made)
    assert logs["temperature"] == 3.0
    want = step(compiled(k, rate=0.0, temperature=3.0))["distillation_loss"]
    assert logs["distillation_loss"] == pytest.approx(want, rel=1e-6)


@BOTH
def test_a_callback_may_set_them_between_epochs(k):
    class Switch(k.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.alpha = [0.0, 1.0][epoch]

    made = compiled(k, rate=0.0, alpha=0.5, compiled={})
    x, y = examples()
    history = made.fit(x, y, epochs=2, verbose=0, callbacks=[Switch()], shuffle=False).history
    want = [step(compiled(k, rate=0.0, alpha=alpha))["loss"] for alpha in (0.0, 1.0)]
    np.testing.assert_allclose(history["loss"], want, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("name", ["alpha", "temperature"])
def test_nonsense_is_refused_and_changes_nothing(k, name):
    made = compiled(k)
    before = getattr(made, name)
    for value in (-1, float("nan"), "half", None):
        with pytest.raises(ValueError, match=f"{name} must be a number"):
            setattr(made, name, value)
    assert getattr(made, name) == before


@BOTH
@pytest.mark.parametrize(
    "name",
    ["student", "teacher", "distillation_loss", "feature_losses", "adapters", "log_agreement"],
)
def test_what_would_change_nothing_cannot_be_set(k, name):
    made = compiled(k)
    with pytest.raises(AttributeError, match=f"{name} is fixed once a .*Distiller is made"):
        setattr(made, name, student(k, seed=3))


def test_the_weights_of_a_distiller_keep_their_format(tmp_path):
    made, other = compiled(keras), compiled(keras, model=student(keras, seed=5))
    made.save_weights(tmp_path / "d.weights.h5")
    other.load_weights(tmp_path / "d.weights.h5")
    for one, two in zip(made.student.get_weights(), other.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
