"""MultiWorkerMirroredStrategy in two real processes against one process: losses and weights."""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import two_hosts
from solid_photos import COLOURS, encode_solid, photos

from tfrecords_tools.shards import write_dataset


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two workers leave after all trainings of `two_hosts`."""
    folder = tmp_path_factory.mktemp("hosts")
    members, classes = photos() + photos(4, "val"), tuple(COLOURS)
    out = folder / "shards"
    write_dataset(out, members, encode_solid, classes=classes, examples_per_shard=7, workers=1)
    hosts = [f"localhost:{port}" for port in free_ports(2)]
    here = os.path.dirname(__file__)
    workers = []
    for index in range(2):
        task = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {
            "TF_CONFIG": json.dumps(task),
            "PYTHONPATH": os.pathsep.join([here, os.path.dirname(here), *sys.path]),
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        with open(folder / f"{index}.log", "w") as log:
            command = [sys.executable, two_hosts.__file__, str(folder)]
            workers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    try:
        statuses = [worker.wait(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    logs = "".join((folder / f"{index}.log").read_text()[-3000:] for index in range(2))
    assert statuses == [0, 0], logs
    return folder


def read(folder, training, worker):
    name = f"{training.__name__}-{worker}"
    with np.load(folder / f"{name}.npz") as archive:
        weights = [archive[key] for key in archive.files]
    return weights, json.loads((folder / f"{name}.json").read_text())


TRAININGS = [two_hosts.keras_3, two_hosts.shards, two_hosts.eight_bits]


@pytest.mark.parametrize("training", TRAININGS)
def test_two_hosts_equal_one_process(folder, tmp_path, training):
    (tmp_path / "shards").symlink_to(folder / "shards")
    weights, logs, steps = training(tmp_path, 0)
    found = [read(folder, training, worker) for worker in range(2)]
    for other, _ in found:
        for a, b in zip(other, weights, strict=True):
            # Totals of metrics are among them, of which one float32 step is more than atol.
            np.testing.assert_allclose(a, b, rtol=2e-7, atol=1e-5)
    reported = found[0][1]
    assert reported == found[1][1]
    assert set(reported["logs"]) == set(logs)
    for name, values in logs.items():
        np.testing.assert_allclose(reported["logs"][name], values, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(reported["steps"], steps, rtol=1e-5)


def test_what_workers_save_is_whole(folder):
    weights, _ = read(folder, two_hosts.keras_3, 0)
    student = keras.models.load_model(folder / "student.keras")
    for a, b in zip(student.get_weights(), weights, strict=False):
        np.testing.assert_array_equal(a, b)
    for worker in range(2):
        restored = two_hosts.untrained()
        restored.load_weights(folder / f"{worker}.weights.h5")
        for a, b in zip(restored.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(a, b)
