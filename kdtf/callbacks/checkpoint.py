"""Continuing a killed `fit` exactly: every variable, the optimizer's too, after each epoch."""

import json
import re
import warnings
from pathlib import Path

import numpy as np

from kdtf import files, keras_private
from kdtf.callbacks import callback_state, optimizer_settings

# What earlier versions called the logs, so that their checkpoints go on as one curve.
_RENAMED = {"hard_loss": "label_loss", "soft_loss": "distillation_loss"}
_NOW = _RENAMED | {f"val_{before}": f"val_{now}" for before, now in _RENAMED.items()}


class EpochCheckpoint(keras_private.Callback):
    """Saves all state after every epoch, beside its place and renamed; `restore` loads it.

    `keras.callbacks.BackupAndRestore` tells the epoch only to `fit`; data whose views depend on
    the epoch must know it before. Seed generators, moving averages of weights and the curves so
    far are saved as well, so that a continued run equals an uninterrupted one.

    So is what `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint` remember, wherever they
    stand among the callbacks of `fit`: a training that was stopped early stays stopped, unless the
    callback that stopped it is gone or more patient. What other callbacks remember is not kept.

    The learning rate is the saved one where it is compiled as it was; compiled as another one, the
    new one counts, with a warning.

    Usage:
      checkpoint = EpochCheckpoint(path)
      first_epoch = checkpoint.restore(model)
      model.fit(data_from(first_epoch), initial_epoch=first_epoch, callbacks=[checkpoint])
      checkpoint.history  # {name: one value per epoch}, earlier runs' epochs included

    It serves models of Keras 3 and of tf_keras (`kdtf.quantize`).

    Args:
      path: file to keep the state in (`.npz`).

    Raises:
      ValueError: with `fit`, behind a callback that leaves averaged weights in the model.
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)
        self.history = {}
        self._settings = None  # of the optimizer as compiled
        self._beside = [self]  # callbacks of this fit, in their order
        self._restored = None  # facts, until fit takes them over
        self._states = {}  # of the callbacks beside, until the first epoch begins

    def restore(self, model):
        """Loads the state into a compiled model and returns the number of finished epochs.

        Returns 0 where there is no file.

        Raises:
          ValueError: the file belongs to another model or optimizer.
        """
        model.optimizer.build(model.trainable_variables)
        self._settings = optimizer_settings.read(model.optimizer)
        if not self.path.exists():
            return 0
        with np.load(self.path) as archive:
            facts = json.loads(archive["facts"].item())
            arrays = [archive[f"v{number}"] for number in range(facts["variables"])]
            states = callback_state.unpacked(facts.get("callbacks", {}), archive)
        variables, rate = _state(model), _plain_rate(model.optimizer)
        self._check(facts, arrays, variables)
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        if "optimizer" in facts:  # earlier versions kept no settings
            changed = optimizer_settings.rate_changed(facts["optimizer"], self._settings, self.path)
            if rate is not None:
                model.optimizer.learning_rate = rate if changed else facts["learning_rate"]
        self.history = {_NOW.get(name, name): values for name, values in facts["history"].items()}
        self._restored = facts | {"callbacks": states}
        return facts["epochs"]

    def on_train_begin(self, logs=None):
        self._beside = keras_private.callbacks_of_fit(self)
        for callback in self._beside[: self._beside.index(self)]:
            if keras_private.leaves_averages(callback):
                raise ValueError(
                    f"{type(callback).__name__} stands before EpochCheckpoint and would leave its "
                    "averages for the weights to go on from: put EpochCheckpoint before it"
                )
        if self._settings is None:
            self._settings = optimizer_settings.read(self.model.optimizer)
        if self._restored is not None:
            facts, self._restored = self._restored, None
            self._take_over(facts)

    def on_epoch_begin(self, epoch, logs=None):
        self._hand_back()
        self._states = {}

    def on_epoch_end(self, epoch, logs=None):
        logs = {name: float(value) for name, value in (logs or {}).items()}
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)
        variables = _state(self.model)
        states, more = callback_state.packed(callback_state.read(self._remembering()))
        facts = {
            "epochs": epoch + 1,
            "variables": len(variables),
            "names": [_name(variable) for variable in variables],
            "optimizer": self._settings,
            "learning_rate": _plain_rate(self.model.optimizer),
            "history": self.history,
            "logs": logs,
            "stopped": bool(getattr(self.model, "stop_training", False)),
            "callbacks": states,
            "late": list(self._remembering(behind=True)),
        }
        arrays = {f"v{number}": variable.numpy() for number, variable in enumerate(variables)}
        with files.atomic_write(self.path) as partial:
            np.savez(partial, facts=json.dumps(facts), **arrays, **more)

    def on_train_end(self, logs=None):
        self._hand_back()
        self._states = {}
        keras_private.start_at(self.model, None)

    def _check(self, facts, arrays, variables):
        if "optimizer" in facts:
            optimizer_settings.check(facts["optimizer"], self._settings, self.path)
        saved, present = [a.shape for a in arrays], [tuple(v.shape) for v in variables]
        if saved != present:
            raise ValueError(
                f"{self.path} holds {len(saved)} variables, this training has {len(present)}, or "
                "their shapes differ: it was written with other settings; remove it or restore them"
            )
        names = [_name(variable) for variable in variables]
        for was, name in zip(facts.get("names", names), names, strict=True):
            if was != name:
                raise ValueError(
                    f"{self.path} holds {was!r} where this training has {name!r}: it was written "
                    "with other settings, of another model; remove it or restore them"
                )

    def _take_over(self, facts):
        """Goes on where the callbacks beside had been, and nowhere if they had stopped."""
        beside, self._states = self._remembering(), facts["callbacks"]
        callback_state.warn_of_others(beside, self._states, self.path)
        # Those that stood behind this one had not seen the last epoch yet.
        late = {name: beside[name] for name in facts.get("late", ()) if name in beside}
        callback_state.write(late, self._states)
        for callback in late.values():
            callback.on_epoch_end(facts["epochs"] - 1, dict(facts["logs"]))
        self._states |= callback_state.read(late)
        stopped = facts.get("stopped") or getattr(self.model, "stop_training", False)
        self.model.stop_training = False
        if stopped and not callback_state.may_go_on(beside, self._states):
            warnings.warn(
                f"the training had stopped after epoch {facts['epochs']} and stays so: give what "
                f"stopped it more patience to go on, or remove {self.path} to train anew",
                stacklevel=2,
            )
            keras_private.start_at(self.model, self.params["epochs"])
        self._hand_back()

    def _hand_back(self):
        # More than once: each callback forgets when the training begins, those behind this one
        # later than it.
        callback_state.write(self._remembering(), self._states)

    def _remembering(self, behind=False):
        """{name: callback} of those beside that remember something, or of those behind this one."""
        place = self._beside.index(self)
        named = callback_state.named(self._beside)
        late = [id(callback) for callback in self._beside[place:]]
        return {name: each for name, each in named.items() if not behind or id(each) in late}


def _state(model):
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    mine = [variable for variable in model.variables if id(variable) not in metrics]
    return mine + list(model.optimizer.variables)


def _name(variable):
    """A variable's name without the numbers that Keras gives to layers without a name."""
    return re.sub(r"_\d+(?=[_/:]|$)", "", getattr(variable, "path", variable.name))


def _plain_rate(optimizer):
    return optimizer_settings.rate(optimizer_settings.read(optimizer))
