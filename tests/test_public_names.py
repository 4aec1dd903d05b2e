"""What `import kdtf` hands on: every wing and its names, each only when it is asked for."""

import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

import kdtf

ROOT = Path(__file__).parent.parent
WINGS = sorted(path.parent.name for path in (ROOT / "kdtf").glob("*/__init__.py"))


def test_every_wing_is_handed_on():
    assert set(WINGS) | {"results", "Distiller", "__version__"} == set(kdtf.__all__)
    for wing in WINGS:
        assert isinstance(getattr(kdtf, wing), types.ModuleType)


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_lists_what_it_offers(wing):
    module = importlib.import_module(f"kdtf.{wing}")
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in module.__doc__


def test_nothing_heavy_is_imported_before_it_is_asked_for():
    code = """
import sys
import kdtf
assert kdtf.__version__
assert not {"numpy", "tensorflow", "keras"} & set(sys.modules)
kdtf.metrics.evaluate, kdtf.results.to_frame
assert not {"tensorflow", "keras", "matplotlib"} & set(sys.modules)
kdtf.losses.soft_target_kl, kdtf.students.mobilenet_v3_small, kdtf.Distiller
assert not {"tf_keras", "tensorflow_model_optimization"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such"):
        kdtf.no_such  # noqa: B018
