"""The stages of a run in the terminal: what begins, and about how long it takes."""

import contextlib
import time


class Progress:
    """Announces stages, and adds what each has taken to the run directory.

    Args:
      run: `RunDirectory`.
      total: number of stages.
    """

    def __init__(self, run, total):
        self._run, self._total, self._begun = run, total, 0

    @contextlib.contextmanager
    def stage(self, stage):
        """Context in which an `estimates.Stage` runs; one that raises is not added."""
        self._begun += 1
        seconds = stage.seconds
        about = f"about {max(seconds, 5) / 60:.1f} min on two cores" if seconds else "seconds"
        print(f"\n[{self._begun}/{self._total}] {stage.name}: {stage.what} ({about})", flush=True)
        started = time.monotonic()
        yield
        self._run.add_elapsed(stage.name, time.monotonic() - started)
