"""What the README shows runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import keras

ROOT = Path(__file__).parent.parent


def test_the_example_runs_and_leaves_a_plain_student(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    student = keras.models.load_model(tmp_path / "student.keras")
    assert student.output_shape == (None, 10)
    accuracies = re.findall(r"val_accuracy: ([0-9.]+)", done.stdout)
    assert float(accuracies[-1]) > 0.6


def test_ci_runs_the_readme_s_test_command():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert "pip install -e '.[test]' && pytest" in readme
    assert "-e '.[test]'\n" in ci and "\npytest" in ci
