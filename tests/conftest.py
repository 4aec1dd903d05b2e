"""Fixtures shared by all tests: where real data lies, if it does."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parent.parent


def _folder(variable, default, what):
    path = Path(os.environ.get(variable, ROOT / default))
    if not path.is_dir():
        pytest.skip(f"{what} needed: no folder {path}; set {variable}")
    return path


@pytest.fixture(scope="session")
def data_dir():
    """Folder that holds `grocery/` and `mnist/`."""
    return _folder("KDTF_DATA", "../shared/data", "real photos")


@pytest.fixture(scope="session")
def weights_dir():
    """Folder of pretrained weights."""
    return _folder("KDTF_WEIGHTS", "../shared/weights", "pretrained weights")


@pytest.fixture(autouse=True)
def fresh_keras():
    """No seed or policy left by an earlier test."""
    keras = sys.modules.get("keras")
    if keras is not None:  # tests of plain NumPy run without importing it
        keras.config.set_dtype_policy("float32")
        keras.utils.set_random_seed(0)
    yield
