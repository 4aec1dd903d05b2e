"""Processes that die: what they had saved is all that is left of them."""

import contextlib

import pytest

from kdtf.callbacks.checkpoint import EpochCheckpoint


class Killed(BaseException):
    """Stands for a process that is gone: nothing handles it."""


@contextlib.contextmanager
def killed_in(student):
    """Context in which the training of a run's `student` dies once an epoch of it is saved."""
    save = EpochCheckpoint.on_epoch_end

    def save_and_die(self, epoch, logs=None):
        save(self, epoch, logs)
        if self.path.stem == student:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochCheckpoint, "on_epoch_end", save_and_die)
        with pytest.raises(Killed):
            yield
