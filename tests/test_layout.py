"""Which module may import which: the arrows of the layout, read from the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "__init__": {"distiller"},
    "losses": set(),
    "predictions": set(),
    "intervals": set(),
    "calibration": {"intervals", "predictions"},
    "bootstrap": {"calibration", "intervals", "predictions"},
    "metrics": {"bootstrap", "calibration", "intervals", "predictions"},
    "comparison": {"bootstrap", "intervals", "metrics", "predictions"},
    "slices": {"comparison", "intervals"},
    "selective": {"intervals"},
    "student_weights": set(),
    "students": {"student_weights"},
    "augment": set(),
    "taps": set(),
    "checkpoint": {"files"},
    "cached_logits": {"augment", "data", "files", "top_k", "views"},
    "data": {"augment", "manifest", "shard_cache", "views"},
    "manifest": {"files"},
    "shard_cache": {"files"},
    "top_k": set(),
    "views": {"augment"},
    "teachers": {"taps"},
    "train_step": {"losses", "refusals", "taps"},
    "distiller": {"losses", "refusals", "train_step"},
    "ranges": set(),
    "fake_quant": {"ranges"},
    "folded": set(),
    "bias_correction": {"fake_quant", "folded", "taps"},
    "equalization": {"taps"},
    "quantize": {
        "bias_correction",
        "equalization",
        "fake_quant",
        "files",
        "folded",
        "layer_errors",
        "losses",
        "ranges",
        "refusals",
        "taps",
        "train_step",
    },
    "layer_errors": {"canvas", "files", "folded", "taps", "tflite"},
    "tflite": set(),
    "deploy": {"tflite", "wording"},
    "refusals": {"taps"},
    "export": {"files", "folded", "probe", "tflite"},
    "files": set(),
    "registry": {"files"},
    "promotion": {"comparison", "metrics", "slices"},
    "warm_start": {"student_weights"},
    "benchmark": {"benchmark_native", "probe"},
    "benchmark_native": set(),
    "probe": set(),
    "events": {"files", "folded"},
    "epoch_figures": {"calibration", "canvas", "diagrams", "metrics", "predictions"},
    "board": {"epoch_figures", "events", "metrics"},
    "report": {"canvas", "charts", "files", "sections", "wording"},
    "sections": {"charts", "diagrams", "photos", "wording"},
    "photos": {"wording"},
    "mistakes": {"predictions"},
    "diagrams": {"canvas", "charts", "metrics", "wording"},
    "charts": {"canvas", "wording"},
    "canvas": set(),
    "wording": set(),
}


def imported_modules(path):
    """Full names of everything a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_module_has_its_arrows():
    assert {path.stem for path in (ROOT / "kdtf").glob("*.py")} == set(ALLOWED)


@pytest.mark.parametrize("module", sorted(ALLOWED))
def test_kdtf_imports(module):
    names = imported_modules(ROOT / "kdtf" / f"{module}.py")
    own = {name.split(".")[1] for name in names if name.startswith("kdtf.")}
    assert own <= ALLOWED[module]
    assert not {name for name in names if name.startswith(("recipes", "tfrecords_tools"))}


def test_only_quantization_imports_the_other_keras():
    importing = {
        path.stem
        for path in (ROOT / "kdtf").glob("*.py")
        if imported_modules(path) & {"tf_keras", "tensorflow_model_optimization"}
    }
    assert importing == {"quantize", "fake_quant"}


def test_no_tool_is_named_like_a_standard_module():
    import sys

    tools = {path.stem for path in (ROOT / "tfrecords_tools").glob("*.py")}
    tools |= {path.stem for path in (ROOT / "recipes").glob("*.py")}
    assert not (tools - {"__init__"}) & sys.stdlib_module_names


def test_nothing_large_is_tracked():
    import subprocess

    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.splitlines()]
    assert not [path for path in files if path.exists() and path.stat().st_size > 1_000_000]
