"""A file to measure, and a stand-in for the native tool."""

import shlex

import pytest
from measured_files import embedding_model
from recorded_benchmarks import XNNPACK, script

from kdtf import export
from kdtf.export import subprocess_check


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return export.to_tflite(
        embedding_model(), tmp_path_factory.mktemp("benchmark") / "model.tflite"
    )


@pytest.fixture
def tool(tmp_path):
    """A benchmark_model that keeps its arguments, prints tool.txt and ends with tool.rc."""
    (tmp_path / "tool.txt").write_text(XNNPACK)
    (tmp_path / "tool.rc").write_text("0")
    here = shlex.quote(str(tmp_path))
    return script(
        tmp_path / "built" / "native",
        f"""
echo "$@" >> {here}/tool.log
cat {here}/tool.txt >&2
exit $(cat {here}/tool.rc)""",
    )


@pytest.fixture
def unchecked(monkeypatch):
    """The check has its own tests; here it would only take time."""
    facts = {"delegate_partitions": 9, "inputs": [{"shape": [1, 8, 8, 3], "dtype": "float32"}]}
    monkeypatch.setattr(subprocess_check, "check_runs", lambda *_: facts)
