"""TensorBoard of two small trainings, opened in a browser."""

import contextlib
import io
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import urlsplit

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from browser import Browser
from small_models import training_photos

import kdtf
from kdtf import students
from kdtf.callbacks import tensorboard

NAMES = ["red", "green", "blue"]
RUNS = ("2026-w46/tensorboard/distilled", "2026-w47/tensorboard/distilled")
# TensorBoard's tabs draw within shadow roots.
READ = """(() => {
const read = node => [...node.childNodes].map(child =>
    child.nodeType === 3 ? child.data
    : ["STYLE", "SCRIPT", "TEMPLATE"].includes(child.tagName) ? ""
    : read(child) + (child.shadowRoot ? read(child.shadowRoot) : "")).join(" ");
return read(document.body); })()"""
# What stands on a tab once it is drawn.
TABS = {
    "scalars": [*RUNS, "accuracy/train", "accuracy/validation"],
    "custom_scalars": ["Train and validation"],
    "images": ["validation_photos/confusion_matrix", "validation_photos/hardest"],
    "text": ["most often taken for", *NAMES],
    "graphs": ["Main Graph", "separable_1_depthwise"],
    "hparams": ["w47 distilled", "test/top1"],
}


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = tf.data.Dataset.from_tensor_slices(training_photos()).batch(6)
    for run in RUNS:
        week, _, name = run.split("/")
        distiller = kdtf.Distiller(students.tiny_cnn(3, image_size=8, channels=3), alpha=0.0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile("adam", loss, metrics=["accuracy"])
        callback = tensorboard.TensorBoardFigures(folder / run, data, NAMES)
        distiller.fit(data, epochs=1, validation_data=data, callbacks=[callback], verbose=0)
        tensorboard.write_hparams(
            folder / run,
            f"{week.removeprefix('2026-')} {name}",
            {"model": name},
            {"test/top1": 0.5},
        )
    return folder


@contextlib.contextmanager
def served(logdir):
    """The address of a TensorBoard, from when it answers until the end of the block."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    address = f"http://localhost:{port}/"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", logdir, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or answers(address), "TensorBoard answers")
        assert process.poll() is None, "TensorBoard ended by itself"
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def answers(address):
    with contextlib.suppress(OSError):
        urllib.request.urlopen(address, timeout=5).close()
        return True
    return False


def until(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def page(tmp_path_factory, request):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.show(1400, 1000)
        with served(request.getfixturevalue("logdir")) as address:
            yield opened, address


@pytest.mark.parametrize("tab", TABS)
def test_the_tab_shows_the_runs_and_asks_nothing_of_the_network(page, tab):
    opened, address = page
    opened.events.clear()
    opened.open("about:blank")
    opened.open(f"{address}#{tab}")

    def drawn():
        text = opened.evaluate(READ)
        return all(wanted in text for wanted in TABS[tab])

    until(drawn, TABS[tab])
    pixels = np.asarray(PIL.Image.open(io.BytesIO(opened.screenshot())).convert("RGB"))
    assert len(np.unique(pixels[100:].reshape(-1, 3), axis=0)) > 10  # below the bar of tabs
    errors = [
        each
        for each in opened.complaints()
        if "exceptionDetails" in each
        or each.get("type") == "error"
        or each.get("entry", {}).get("level") == "error"
    ]
    assert errors == []
    asked = {urlsplit(url).hostname for url in opened.requests() if url.startswith(("http", "ws"))}
    assert asked == {"localhost"}
