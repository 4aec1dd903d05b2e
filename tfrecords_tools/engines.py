"""What calls a function on many items: worker processes of this machine, or what is given."""

import concurrent.futures
import multiprocessing
import os


def chosen(engine, workers):
    """The engine, or that of this machine's processes; ValueError where both are asked for."""
    if engine is None:
        return _processes(workers)
    if workers is not None:
        raise ValueError(
            f"workers={workers!r} is for this machine's processes: tell the engine its own number"
        )
    return engine


def _processes(workers):
    """The engine that runs in this process or in worker processes of this machine."""

    def run(function, jobs):
        count = min(workers or os.cpu_count() or 1, len(jobs))
        if count <= 1:
            yield from map(function, jobs)
            return
        # Fresh processes: TensorFlow's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(count, mp_context=context) as pool:
            try:
                yield from pool.map(function, jobs)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    return run
