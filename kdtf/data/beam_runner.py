"""Work items on Apache Beam: one function, on as many machines as the runner has.

Beam carries numbers only. The function, its items and its results lie in files under a folder that
this process and every worker see under the same path (a network file system, a mounted bucket), as
do the shards that they make; so neither the size of a job nor the runner matters.
"""

import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

from kdtf import files
from kdtf.arguments import Argument
from kdtf.data import resumable


class Engine:
    """Calls functions on items on a Beam runner: `Engine(options, folder)(function, items)`.

    Args:
      options: Beam's own command line, `["DirectRunner", "--direct_num_workers", "2"]`: the
        runner's name and its pipeline options.
      folder: directory that this process and all workers see; one job at a time uses it, and only
        a temporary folder is made in it.

    Raises:
      ModuleNotFoundError: Apache Beam is not installed.
      ValueError: the options do not begin with a runner's name.
    """

    def __init__(self, options, folder):
        self._beam = _apache_beam()
        if not options or options[0].startswith("-"):
            raise ValueError(
                f"the runner's name must come first, then its options, got {list(options)}: write "
                "--runner DirectRunner --direct_num_workers 2, for example"
            )
        self._runner, *self._flags = options
        self._folder = Path(folder).absolute()

    def check(self):
        """Refuses a runner's name that Beam does not know; ValueError."""
        from apache_beam.options.pipeline_options import StandardOptions

        known = StandardOptions.KNOWN_RUNNER_NAMES
        names = {name.lower().removesuffix("runner") for name in known}
        if "." not in self._runner and self._runner.lower().removesuffix("runner") not in names:
            raise ValueError(f"Beam knows no such runner, only {', '.join(known)}")

    def __call__(self, function, items):
        """The results of `function` on each item.

        Args:
          function: picklable function of an item, from a module that workers can import too (so
            not `__main__`). A runner may call it again for an item, even while it still runs
            elsewhere: twice must be as good as once.
          items: picklable objects, each worth a worker's time.

        Returns:
          list of the results, in the order of the items.

        Raises:
          ValueError: what the function raised, of the first such item, once all are done.
          FileNotFoundError: the folder is not the same here and on the workers.
          Exception: whatever the runner raises where it gives up.
        """
        beam = self._beam
        self._folder.mkdir(parents=True, exist_ok=True)
        for stale in self._folder.glob(f"{resumable.BEAM}*"):  # of a job that was killed
            shutil.rmtree(stale)
        with tempfile.TemporaryDirectory(prefix=resumable.BEAM, dir=self._folder) as work:
            count = 0
            for count, item in enumerate(items, 1):
                files.write_bytes(_item_path(work, count - 1), pickle.dumps((function, item)))
            argv = ["--runner", self._runner, *self._flags]
            with beam.Pipeline(runner=_replacement(self._runner), argv=argv) as pipeline:
                numbers = pipeline | beam.Create(range(count)) | beam.Reshuffle()
                numbers | beam.Map(_do, work)
            return [_result(work, number) for number in range(count)]


def check(options):
    """Refuses a runner's name that Beam does not know, and options without one.

    Raises:
      ModuleNotFoundError, ValueError: as `Engine`.
    """
    Engine(options, ".").check()


# The last argument of every tool that runs on Beam.
Runner = Annotated[tuple[str, ...] | None, Argument("RUNNER", check, remainder=True)]


def _apache_beam():
    try:
        import apache_beam
    except ModuleNotFoundError as error:
        if error.name != "apache_beam":
            raise
        raise ModuleNotFoundError(
            "--runner needs Apache Beam, which is not installed: pip install 'kdtf[beam]'",
            name=error.name,
        ) from None
    return apache_beam


def _replacement(runner):
    """What runs in place of a runner; None = itself."""
    if runner != "DirectRunner":
        return None
    # Beam's DirectRunner would first download Prism, which ignores --direct_num_workers.
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    return FnApiRunner()


def _do(number, work):
    """On a worker: calls the function on an item and leaves what it returns or refuses."""
    path = _item_path(work, number)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not to be seen on this worker: --out must be on a file system that all "
            "workers share, under the same path"
        )
    function, item = pickle.loads(path.read_bytes())
    try:
        outcome = function(item), None
    except ValueError as error:  # bad input: no use in trying again, as runners do
        outcome = None, str(error)
    files.write_bytes(_result_path(work, number), pickle.dumps(outcome))


def _result(work, number):
    path = _result_path(work, number)
    if not path.is_file():
        raise FileNotFoundError(
            f"the runner has finished, but {path} is not there: --out must be on a file system "
            "that all workers share, under the same path"
        )
    result, refusal = pickle.loads(path.read_bytes())
    if refusal is not None:
        raise ValueError(refusal)
    return result


def _item_path(work, number):
    return Path(work) / f"{number}.item"


def _result_path(work, number):
    return Path(work) / f"{number}.result"
