"""The wheel, installed apart from this checkout: the command, its help, and a data set drawn."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def call(command, folder):
    """A finished process that finds no package of this checkout."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)


def python(*arguments):
    return call([sys.executable, *arguments], "/")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """(folder of programs, empty folder) of an environment that holds the wheel.

    Its other packages are those of the environment that runs the tests.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # setuptools builds in place, from what an earlier build left too
    for package in ("kdtf", "tfrecords_tools"):
        shutil.copytree(ROOT / package, source / package)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = python("-m", "pip", "wheel", "--no-deps", "-q", "-w", folder, source)
    if built.returncode and "setuptools" in built.stderr:
        pytest.skip(f"setuptools cannot be fetched: {built.stderr[-300:]}")
    assert not built.returncode, built.stderr
    (wheel,) = folder.glob("kdtf-*.whl")
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    scheme = {"base": str(environment), "platbase": str(environment)}
    site = Path(sysconfig.get_path("purelib", "venv", scheme))
    pip = ["-m", "pip", "--python", environment / "bin" / "python"]
    done = python(*pip, "install", "--no-deps", "-q", wheel)
    assert not done.returncode, done.stderr
    # A plain path, not a site directory: the .pth file of an editable install stays unread.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    empty = folder / "empty"
    empty.mkdir()
    return environment / "bin", empty


def run(installed, *command):
    programs, empty = installed
    done = call([programs / command[0], *command[1:]], empty)
    assert not done.returncode, done.stderr
    return done.stdout


def test_what_runs_is_the_wheel(installed):
    code = """
import kdtf, tfrecords_tools
from kdtf import templating
print(kdtf.__file__, tfrecords_tools.__file__)
assert templating.__file__
"""
    printed = run(installed, "python", "-c", code).split()
    assert all(Path(path).is_relative_to(installed[0].parent) for path in printed)


def test_templates_are_in_it(installed):
    code = """
from importlib import resources
print(*(path.name for path in (resources.files("kdtf") / "templates").iterdir()))
"""
    templates = {path.name for path in (ROOT / "kdtf" / "templates").iterdir()}
    assert set(run(installed, "python", "-c", code).split()) >= templates


def test_help(installed):
    assert "distill" in run(installed, "kdtf", "--help")
    assert "usage: kdtf distill" in run(installed, "kdtf", "distill", "--help")


def test_a_data_set_is_drawn_checked_and_shown(installed):
    small = ["--classes", "3", "--photos", "40", "--size", "32", "--workers", "1"]
    assert "3 classes" in run(installed, "kdtf", "synthetic", "--out", "shards", *small)
    assert run(installed, "kdtf", "validate", "shards").startswith("OK: shards: 3 classes")
    assert "sheet.png" in run(installed, "kdtf", "show", "shards", "--count", "4")
    assert (installed[1] / "sheet.png").read_bytes()[:4] == b"\x89PNG"
