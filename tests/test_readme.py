"""What the README shows runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from solid_photos import COLOURS, encode_solid, photos

from kdtf import __main__ as command_line
from kdtf.export import flatbuffer
from tfrecords_tools.shards import write_dataset

ROOT = Path(__file__).parent.parent


def examples():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def run(code, folder):
    script = folder / "example.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def test_the_example_runs_and_leaves_a_plain_student(tmp_path):
    done = run(examples()[0], tmp_path)
    student = keras.models.load_model(tmp_path / "student.keras")
    assert student.output_shape == (None, 10)
    accuracies = re.findall(r"val_accuracy: ([0-9.]+)", done.stdout)
    assert float(accuracies[-1]) > 0.6


def test_the_8_bit_example_runs_and_leaves_an_8_bit_file(tmp_path):
    before = """
import numpy as np
import tensorflow as tf
import kdtf
from kdtf import students

images = np.random.default_rng(0).uniform(0, 255, (32, 28, 28, 1)).astype("float32")
batches = tf.data.Dataset.from_tensor_slices((images, np.arange(32) % 10)).batch(16)
teacher = students.tiny_cnn(10)
distiller = kdtf.Distiller(students.tiny_cnn(10), teacher)
"""
    run(before + examples()[1], tmp_path)
    assert flatbuffer.linear_scales((tmp_path / "student_int8.tflite").read_bytes())


def test_the_example_for_several_hosts_runs_on_one(tmp_path):
    write_dataset(
        tmp_path / "shards", photos() + photos(3, "val"), encode_solid, classes=tuple(COLOURS)
    )
    before = """
import keras
import pytest
from kdtf import students

def small(classes, side):  # the real one would take minutes
    image = keras.Input((side, side, 3), name="image")
    return keras.Model(image, keras.layers.Dense(classes)(keras.layers.Flatten()(image)))

students.mobilenet_v3_small = small
small(3, 224).save("teacher.keras")
"""
    run(before + examples()[3], tmp_path)
    assert keras.models.load_model(tmp_path / "student.keras").output_shape == (None, 3)


def test_the_cached_logits_example_runs(tmp_path):
    before = """
import keras
import pytest
import kdtf
from kdtf import data, students, teachers
from tfrecords_tools import synthetic

synthetic.synthesize("shards", classes=4, photos=60, size=48, seed=0, workers=1)
info = data.DatasetInfo.load("shards")
teachers.cache_logits(info, [students.tiny_cnn(4, 32, 3)], views=2, out="logits")
student = students.tiny_cnn(4, 32, 3)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
"""
    done = run(before + examples()[2], tmp_path)
    assert "distillation_loss" in done.stdout and "Epoch 10/10" in done.stdout


def test_ci_runs_the_readme_s_test_command():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert "pip install -e '.[test]' && pytest" in readme
    assert "-e '.[test]'\n" in ci and "\npytest" in ci


def commands():
    """(command, its flags) of every call of kdtf in a block of shell code."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"```(?:sh)?\n(.*?)```", path.read_text(), re.DOTALL):
            for call in re.findall(r"^kdtf (.*)", block.replace("\\\n", " "), re.MULTILINE):
                parts = call.split(" #")[0].split(" -- ")
                command = parts[0].split()[0]
                # What stands behind `--` is for the main job.
                for name, part in zip((command, "distill"), parts, strict=False):
                    before_runner = part.split("--runner ")[0]
                    yield name, re.findall(r"(?:^|\s)(--[a-z0-9-]+)", before_runner)


def test_the_commands_in_the_docs_have_these_flags(capsys):
    calls = list(commands())
    assert len(calls) > 15
    for command in sorted({command for command, _ in calls}):
        with pytest.raises(SystemExit):
            command_line.main([command, "--help"])
        known = set(re.findall(r"--[a-z0-9-]+", capsys.readouterr().out))
        used = {flag for name, flags in calls if name == command for flag in flags}
        assert used <= known, f"kdtf {command}: {sorted(used - known)}"
