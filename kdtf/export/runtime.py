"""TFLite files, run with LiteRT."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_NORMALISED = 8  # no image of mean 0 and deviation 1 goes beyond


def predict(path, inputs, num_threads=1, progress=None):
    """Logits, or probabilities if the file gives those, photo by photo.

    Args:
      path: file written by `export.to_tflite`, float or int8; images are raw 0..255 for each. What
        an int8 file is fed itself, the bytes minus 128 as int8, may be given to it too.
      inputs: either N examples, as an array (one-input files) or a dict of arrays, or an iterable
        of such batches, of which only the logits are kept; from batches that are tuples (x, y, ...)
        only x is used. Keys that the file has no input for are ignored; "image" serves a file with
        one input whatever its name.
      num_threads: threads of the interpreter.
      progress: called with the number of examples just finished, as `tqdm.update` wants it.

    Returns:
      float32 [N, classes].

    Raises:
      FileNotFoundError: no such file.
      ValueError: no examples, inputs that do not fit the file's, or a first batch of images that
        are scaled to 0..1 or about 0 already.
    """
    runner = Runner(path, num_threads)
    logits = []
    for batch in batches_of(inputs):
        rows = runner.rows(batch)
        if not logits:
            check_pixels(path, rows)
        for row in rows:
            logits.append(runner(row))
            if progress is not None:
                progress(1)
    if not logits:
        raise ValueError(f"no examples to run through {path}: inputs is empty")
    return np.stack(logits)


class Runner:
    """One opened .tflite file: splits batches into single examples and runs them."""

    def __init__(self, path, num_threads):
        content = read(path)
        with quiet():
            interpreter = Interpreter(model_content=content, num_threads=num_threads)
            interpreter.allocate_tensors()
            self._run = interpreter.get_signature_runner()
        self._inputs = self._run.get_input_details()
        self._path = path
        outputs = list(self._run.get_output_details())
        if outputs not in (["logits"], ["probabilities"]):
            raise ValueError(
                f"{path} returns {outputs}, expected ['logits'] or ['probabilities']: export it "
                "again"
            )
        (self._output,) = outputs

    def __call__(self, row):
        fed = {name: self.encoded(name, value) for name, value in row.items()}
        return self._run(**fed)[self._output][0]

    def rows(self, batch):
        """List of {input name: array [1, ...]}, one for each example of the batch."""
        if not isinstance(batch, Mapping):
            if len(self._inputs) != 1:
                raise ValueError(
                    f"{self._path} has inputs {sorted(self._inputs)}: pass a dict, not an array"
                )
            batch = {next(iter(self._inputs)): batch}
        given = {key.replace("/", "_"): value for key, value in batch.items()}
        if len(self._inputs) == 1 and "image" in given:
            given.setdefault(next(iter(self._inputs)), given["image"])
        missing = sorted(set(self._inputs) - set(given))
        if missing:
            raise ValueError(
                f"{self._path} needs input {', '.join(missing)}; the batch holds {sorted(batch)}"
            )
        arrays = {name: self._fit(name, given[name]) for name in self._inputs}
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"inputs differ in their number of examples: {lengths}")
        return [
            {name: array[i : i + 1] for name, array in arrays.items()}
            for i in range(next(iter(lengths.values())))
        ]

    def _fit(self, name, values):
        array, wanted = np.asarray(values), self._inputs[name]
        shape = tuple(int(size) for size in wanted["shape"][1:])
        if array.shape[1:] != shape or not array.ndim:
            raise ValueError(
                f"input {name!r} of {self._path} is {('N', *shape)}, got {array.shape}"
            )
        if array.dtype == np.int8 and len(shape) == 3:  # a camera's bytes minus 128
            if wanted["dtype"] == np.int8:
                return array
            raise ValueError(
                f"input {name!r} of {self._path} is raw 0..255, got int8, which ends at 127: add "
                "128 to frames that were made for an int8 file"
            )
        dtype = np.float32 if _is_bytes(wanted) else wanted["dtype"]
        if not np.can_cast(array.dtype, dtype, casting="same_kind"):
            raise ValueError(
                f"input {name!r} of {self._path} is {np.dtype(dtype).name}, got {array.dtype}"
            )
        return array.astype(dtype)

    def encoded(self, name, image):
        """What an input is fed: raw images as the bytes that it takes, the rest as it is."""
        if not _is_bytes(self._inputs[name]) or image.dtype == np.int8:
            return image
        dtype = self._inputs[name]["dtype"]
        return (np.clip(np.round(image), 0, 255) + np.iinfo(dtype).min).astype(dtype)


def check_pixels(path, rows):
    """Refuses images that look scaled already: fractions all within 0..1, or around 0.

    Args:
      path: of the file, for the message.
      rows: list as of `Runner.rows`; all of them are looked at, as a single photo may be black.

    Raises:
      ValueError: names the file's input, and the range of the images.
    """
    for name in rows[0] if rows else ():
        images = [row[name] for row in rows]
        if images[0].ndim != 4 or not np.issubdtype(images[0].dtype, np.floating):
            continue
        low, high = min(each.min() for each in images), max(each.max() for each in images)
        scaled = 0 <= low and high <= 1 or low < 0 and max(-low, high) <= _NORMALISED
        if scaled and any((each % 1).any() for each in images):
            raise ValueError(
                f"input {name!r} of {path} takes images of 0..255, these are {low:.3g} to "
                f"{high:.3g}: pass them unscaled, the file does the scaling itself"
            )


def _is_bytes(wanted):
    """Whether an input takes images as a camera's bytes: uint8, or int8, which is 128 less."""
    return wanted["dtype"] in (np.int8, np.uint8)


def batches_of(inputs):
    """Batches of one batch, or of an iterable of batches; of tuples the first element."""
    if isinstance(inputs, Mapping) or hasattr(inputs, "shape"):
        yield inputs
        return
    for batch in inputs:
        yield batch[0] if isinstance(batch, tuple) else batch


class _HeldStream:
    """Stands for sys.stdout or sys.stderr: a file at first, the real stream once released."""

    def __init__(self, file, stream):
        self._file, self._stream = file, stream

    def release(self):
        self._file = self._stream

    def __getattr__(self, name):
        return getattr(self._file, name)


def _remove_handlers(streams):
    """Removes the handlers that log to one of the streams."""
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in list(getattr(logger, "handlers", ())):  # placeholders have none
            if any(getattr(handler, "stream", None) is stream for stream in streams):
                logger.removeHandler(handler)


@contextlib.contextmanager
def quiet():
    """Holds back what the process prints, C++ included; yields the list that receives it.

    Handlers of logging that were made meanwhile for sys.stdout or sys.stderr are removed: the
    converter makes one of the root logger, by which every line would be printed twice from then on.
    Who else keeps a stream from meanwhile writes to the real one afterwards.
    """
    printed = []
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink, contextlib.ExitStack() as undo:
        for descriptor in (1, 2):
            saved = os.dup(descriptor)
            undo.callback(os.close, saved)
            undo.callback(os.dup2, saved, descriptor)
            os.dup2(sink.fileno(), descriptor)
        # In a notebook sys.stdout and sys.stderr are not the process's own.
        text = undo.enter_context(
            open(os.dup(sink.fileno()), "w", encoding="utf-8", errors="replace")
        )
        held = _HeldStream(text, sys.stdout), _HeldStream(text, sys.stderr)
        undo.enter_context(contextlib.redirect_stdout(held[0]))
        undo.enter_context(contextlib.redirect_stderr(held[1]))
        try:
            yield printed
        finally:
            text.flush()
            _remove_handlers(held)
            for stream in held:
                stream.release()
            sink.seek(0)
            printed.extend(sink.read().decode("utf-8", errors="replace").splitlines())


def read(path):
    """Bytes of a .tflite file.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no TFLite file at {path}: write it with to_tflite first")
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError(f"{path} is not a TFLite file ({len(content)} bytes)")
    return content
