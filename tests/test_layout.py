"""The layout: wings from the ground up; each imports from those above it, never from below."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WINGS = (
    ("kdtf/files.py", "kdtf/formatting.py", "kdtf/keras_private.py", "kdtf/templating.py"),
    ("kdtf/limits.py",),
    ("kdtf/arguments.py",),
    ("kdtf/plotting.py", "kdtf/model_inputs.py", "kdtf/layer_graph.py", "kdtf/cli.py"),
    ("kdtf/results.py",),
    ("kdtf/losses/",),
    ("kdtf/metrics/",),
    ("kdtf/data/",),
    ("kdtf/students/",),
    ("kdtf/distillation/",),
    ("kdtf/teachers/",),
    ("kdtf/quantize/",),
    ("kdtf/export/",),
    ("kdtf/benchmark/",),
    ("kdtf/callbacks/",),
    ("kdtf/report/",),
    ("kdtf/release/",),
    ("tfrecords_tools/drawing/",),
    ("tfrecords_tools/",),
    ("kdtf/pipeline/",),
    ("kdtf/study/",),
    ("kdtf/__main__.py", "recipes/"),
)
MODULES = [
    path.relative_to(ROOT)
    for folder in ("kdtf", "tfrecords_tools", "recipes")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != ROOT / "kdtf/__init__.py"  # what it hands on, it imports when asked
]


def wing(module):
    """(level, name) of the wing that a file lies in; the narrower of two that fit."""
    fitting = [
        (level, name)
        for level, names in enumerate(WINGS)
        for name in names
        if module.as_posix() == name or name.endswith("/") and module.as_posix().startswith(name)
    ]
    assert fitting, f"{module} is in no wing"
    return max(fitting, key=lambda each: len(each[1]))


def imported(path):
    """Files of this project that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    for name in names:
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            module = Path(*parts[:end])
            if (ROOT / module.with_suffix(".py")).exists():
                yield module.with_suffix(".py")
                break
            if (ROOT / module / "__init__.py").exists():
                yield module / "__init__.py"
                break


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_upwards_only(module):
    level, name = wing(module)
    for other in imported(module):
        if other in MODULES:
            other_level, other_name = wing(other)
            assert other_level < level or other_name == name, f"{module} imports {other}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_long_files_say_why(module):
    text = (ROOT / module).read_text()
    lines = len(text.splitlines())
    assert lines <= 300 or "One file:" in ast.get_docstring(ast.parse(text)), f"{lines} lines"


def test_only_quantization_and_its_training_import_the_other_keras():
    importing = {
        wing(path)[1]
        for path in MODULES
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in ("tf_keras", "tensorflow_model_optimization")
    }
    assert importing == {"kdtf/quantize/", "kdtf/pipeline/"}


def test_tests_mirror_the_wings():
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    wings = {Path(name).name for names in WINGS for name in names if name.endswith("/")}
    assert folders <= wings
    assert wings - folders <= {"drawing", "recipes"}


def test_no_tool_is_named_like_a_standard_module():
    scripts = {
        path.stem for path in MODULES if path.parent in (Path("tfrecords_tools"), Path("recipes"))
    }
    assert not (scripts - {"__init__"}) & sys.stdlib_module_names


def test_nothing_large_is_tracked():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.splitlines()]
    assert not [path for path in files if path.exists() and path.stat().st_size > 1_000_000]
