"""What a child process tells of a file."""

import keras
import pytest
from measured_files import embedding_model

from kdtf import export
from kdtf.export import subprocess_check


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return export.to_tflite(
        embedding_model(), tmp_path_factory.mktemp("benchmark") / "model.tflite"
    )


def test_the_check_tells_what_stays_outside_the_delegate(file, tmp_path):
    got = subprocess_check.check_runs(file)
    assert got["finite"] and not got["constant"] and got["delegate_partitions"] >= 1
    assert "GATHER" in got["nodes_outside"]
    assert not {"CONV_2D", "FULLY_CONNECTED", "DELEGATE"} & set(got["nodes_outside"])
    assert sorted(got["inputs"], key=str) == [
        {"shape": [1, 8, 8, 3], "dtype": "float32"},
        {"shape": [1], "dtype": "int32"},
    ]

    image = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(5)(keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(image)))
    got = subprocess_check.check_runs(
        export.to_tflite(keras.Model(image, logits), tmp_path / "plain.tflite")
    )
    assert (got["delegate_partitions"], got["nodes_outside"]) == (1, [])
