"""Continuing a killed `fit` exactly: every variable, the optimizer's too, after each epoch."""

import json
from pathlib import Path

import numpy as np

from kdtf import files, keras_private

# What earlier versions called the logs, so that their checkpoints go on as one curve.
_RENAMED = {"hard_loss": "label_loss", "soft_loss": "distillation_loss"}
_NOW = _RENAMED | {f"val_{before}": f"val_{now}" for before, now in _RENAMED.items()}


class EpochCheckpoint(keras_private.Callback):
    """Saves all state after every epoch, beside its place and renamed; `restore` loads it.

    `keras.callbacks.BackupAndRestore` tells the epoch only to `fit`; data whose views depend on
    the epoch must know it before. Seed generators, moving averages of weights and the curves so
    far are saved as well, so that a continued run equals an uninterrupted one.

    Usage:
      checkpoint = EpochCheckpoint(path)
      first_epoch = checkpoint.restore(model)
      model.fit(data_from(first_epoch), initial_epoch=first_epoch, callbacks=[checkpoint])
      checkpoint.history  # {name: one value per epoch}, earlier runs' epochs included

    It serves models of Keras 3 and of tf_keras (`kdtf.quantize`).

    Args:
      path: file to keep the state in (`.npz`).
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)
        self.history = {}

    def restore(self, model):
        """Loads the state into a compiled model and returns the number of finished epochs.

        Returns 0 where there is no file.

        Raises:
          ValueError: the file belongs to another model or optimizer.
        """
        model.optimizer.build(model.trainable_variables)
        if not self.path.exists():
            return 0
        with np.load(self.path) as archive:
            facts = json.loads(archive["facts"].item())
            arrays = [archive[f"v{number}"] for number in range(facts["variables"])]
        variables = _state(model)
        saved, present = [a.shape for a in arrays], [tuple(v.shape) for v in variables]
        if saved != present:
            raise ValueError(
                f"{self.path} holds {len(saved)} variables, this training has {len(present)}, or "
                "their shapes differ: it was written with other settings; remove it or restore them"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self.history = {_NOW.get(name, name): values for name, values in facts["history"].items()}
        return facts["epochs"]

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        variables = _state(self.model)
        facts = {"epochs": epoch + 1, "variables": len(variables), "history": self.history}
        arrays = {f"v{number}": variable.numpy() for number, variable in enumerate(variables)}
        with files.atomic_write(self.path) as partial:
            np.savez(partial, facts=json.dumps(facts), **arrays)


def _state(model):
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    mine = [variable for variable in model.variables if id(variable) not in metrics]
    return mine + list(model.optimizer.variables)
