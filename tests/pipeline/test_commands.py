"""Command lines of the main job: defaults, what is refused; a refused one leaves nothing."""

import json
import os
import stat
import zipfile

import pytest

from kdtf import arguments, data, teachers
from kdtf.pipeline import config as config_module
from kdtf.pipeline import teacher_networks
from kdtf.pipeline.commands import distill, retrain, sweep, teacher
from kdtf.pipeline.config import EMBEDDED, DistillConfig, TeacherConfig
from kdtf.release import promotion


@pytest.fixture
def shards(tmp_path):
    """A data set without an example: enough for a command line."""
    folder = tmp_path / "shards"
    folder.mkdir()
    empty = {"format": 1, "classes": ["a", "b"], "metadata": {}, "splits": {}}
    (folder / data.MANIFEST).write_text(json.dumps(empty))
    return str(folder)


@pytest.fixture
def keras_files(tmp_path):
    paths = [str(tmp_path / name) for name in ("x.keras", "y.keras")]
    for path in paths:
        zipfile.ZipFile(path, "w").close()
    return paths


def refused(function, argv, capsys):
    """Lines on stderr of a command line that is refused."""
    with pytest.raises(SystemExit) as end:
        function(argv)
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_defaults(shards, keras_files):
    run_dir, config = distill.parse([])
    assert (run_dir, config) == ("runs/embedded-0", EMBEDDED)
    run_dir, config = distill.parse(
        ["--data", shards, "--weights", "none", "--teacher", *keras_files, "--seed", "2"]
    )
    assert run_dir == "runs/shards-2"
    assert config == DistillConfig(shards, tuple(keras_files), weights=None, seed=2)


def test_help_shows_limits_and_both_defaults(capsys):
    with pytest.raises(SystemExit) as end:
        distill.parse(["--help"])
    printed = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert end.value.code == 0
    for text in (
        "(at least 32; default: 96 drawn, 224 with --data)",
        "(from 0 to 1; default: 0.7)",
        "default: none drawn, imagenet with --data",
        "--online-teacher ask",
        "--adb [SERIAL]",
    ):
        assert text in printed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--epochs 0", "--epochs 0: must be at least 1"),
        ("--qat-epochs 0", "--qat-epochs 0: must be at least 1"),
        ("--batch-size 0", "--batch-size 0: must be at least 1"),
        ("--views 0", "--views 0: must be at least 1"),
        ("--top-k 0", "--top-k 0: must be at least 1"),
        ("--image-size 31", "--image-size 31: must be at least 32"),
        ("--temperature 0", "--temperature 0: must be above 0"),
        ("--alpha 1.5", "--alpha 1.5: must be from 0 to 1"),
        ("--alpha nan", "--alpha nan: must be a finite number, from 0 to 1"),
        ("--learning-rate -1e-3", "--learning-rate -1e-3: must be above 0"),
        ("--learning-rate inf", "--learning-rate inf: must be a finite number, above 0"),
        ("--seed -1", "--seed -1: must be from 0 to 4294967295"),
        ("--qat-freeze-epoch -1", "--qat-freeze-epoch -1: must be at least 0"),
        ("--epochs 1.5", "--epochs 1.5: must be a whole number, at least 1"),
        ("--student both", "--student both: must be none or metadata"),
        ("--data nowhere", "--data nowhere: nowhere/dataset.json does not exist: build"),
        ("--teacher t.h5", "--teacher t.h5: must be a file whose name ends in .keras"),
        ("--teacher t.keras", "--teacher t.keras: no such file"),
        ("--teacher train train", "--teacher train train: must be files, or `train` alone"),
        ("--weights w.h5", "--weights w.h5: must be a file whose name ends in .npz or .keras"),
        ("--warm-start s.keras", "--warm-start s.keras: no such file"),
        ("--benchmark-binary b", "--benchmark-binary b: no such file"),
        ("--taskset f0", "--taskset f0: needs --adb"),
        ("--taskset zz", "--taskset zz: must be a hexadecimal mask"),
        ("--logits setup.cfg", "is not a directory"),
        ("--run-dir setup.cfg/a", "is not a directory"),
        ("--live-teacher", "--live-teacher: unknown flag, did you mean --online-teacher?"),
        ("--epochs", "--epochs: needs a value, at least 1"),
    ],
)
def test_what_distill_refuses(wrong, message, capsys):
    (line,) = refused(distill.main, wrong.split(), capsys)
    assert line.startswith("error: --") and message in line


def test_everything_wrong_is_told_at_once_and_nothing_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ["--data", "shrads", "--run-dir", "run", "--alpha", "2", "--epochs", "x"]
    lines = refused(distill.main, argv, capsys)
    assert [line.split(":")[1] for line in lines] == [" --data shrads", " --epochs x", " --alpha 2"]
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_what_they_are_called(tmp_path, keras_files, capsys):
    fake = tmp_path / "fake.keras"
    fake.write_text("text")
    lines = refused(distill.parse, ["--teacher", keras_files[0], str(fake)], capsys)
    assert lines == [
        f"error: --teacher {fake}: is not a .keras file: save the model with `model.save`"
    ]
    (line,) = refused(distill.parse, ["--warm-start", keras_files[0]], capsys)
    assert "x.json, which names its classes" in line


def test_the_tool_and_the_phone(tmp_path, monkeypatch, capsys):
    tool, bin_dir = tmp_path / "benchmark_model", tmp_path / "bin"
    tool.write_text("#!/bin/sh\n")
    bin_dir.mkdir()
    monkeypatch.setenv("PATH", str(bin_dir))
    (line,) = refused(distill.parse, ["--benchmark-binary", str(tool)], capsys)
    assert line.endswith(f"is not executable: chmod +x {tool}")
    (line,) = refused(distill.parse, ["--adb", "--benchmark-binary", str(tool)], capsys)
    assert line == "error: --adb: adb is not on PATH: install Android's platform-tools"
    adb = bin_dir / "adb"
    adb.write_text("#!/bin/sh\nprintf 'List of devices attached\\nPIXEL8\\tdevice\\n'\n")
    adb.chmod(adb.stat().st_mode | stat.S_IXUSR)
    (line,) = refused(distill.parse, ["--adb", "X", "--benchmark-binary", str(tool)], capsys)
    assert line == "error: --adb X: no Android device 'X'; adb devices lists PIXEL8 (device)"
    (line,) = refused(distill.parse, ["--adb"], capsys)
    assert line.startswith("error: --adb: needs --benchmark-binary")
    argv = ["--adb", "--benchmark-binary", str(tool), "--taskset", "f0"]
    _, config = distill.parse(argv)
    assert (config.adb, config.taskset) == ("", "f0")
    tool.chmod(0o755)
    assert distill.parse(["--benchmark-binary", str(tool)])[1].benchmark_binary == str(tool)
    assert os.access(tool, os.X_OK)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--run-dir: one of --run-dir, --rollback and --list is required"),
        (["--list", "--rollback"], "--list: not allowed with --rollback"),
        (["--rollback", "2", "--", "--data", "x"], "--data x: only --run-dir takes arguments"),
        (["--run-dir", "a", "--", "--run-dir=b"], "--run-dir: goes before `--`"),
        (["--run-dir", "a", "--", "--alpha", "2"], "--alpha 2: must be from 0 to 1"),
        (["--run-dir", "a", "--tolerance", "1"], "--tolerance 1: must be at least 0 and below 1"),
        (["--run-dir", "a", "--part-tolerance", "0"], "--part-tolerance: unknown flag, did you"),
        (["--rollback", "x"], "--rollback x: must be a whole number, at least 0"),
    ],
)
def test_command_lines_of_retrain_that_are_refused(argv, message, capsys):
    (line,) = refused(retrain.parse, ["--registry", "r", *argv], capsys)
    assert line.startswith(f"error: {message}")


def test_a_warm_start_and_a_cold_one(keras_files, tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    argv = ["--registry", "r", "--run-dir", "a", "--cold-start", "--", "--warm-start"]
    (line,) = refused(retrain.parse, [*argv, keras_files[0]], capsys)
    assert line.endswith("give one")


def test_command_line_of_retrain(shards):
    given = ["--registry", "r", "--run-dir", "a", "--", "--data", shards, "--epochs", "3"]
    _, config = retrain.parse(given)
    assert config == DistillConfig(shards, epochs=3)
    parsed, config = retrain.parse(["--registry", "r", "--rollback"])
    assert parsed.rollback == 0 and config is None
    assert retrain.parse(["--registry", "r", "--rollback", "2"])[0].rollback == 2


def test_retrain_s_tolerance_is_promotion_s():
    default, parsed = promotion.Tolerance(), retrain.RetrainArguments("r", run_dir="a")
    assert parsed.tolerance == default.overall
    assert parsed.slice_tolerance == default.part
    assert parsed.min_slice_size == default.examples


def test_command_line_of_sweep(shards, tmp_path, capsys):
    folder = tmp_path / "runs"
    own = ["--run-dir", str(folder), "--seeds", "3", "1"]
    parsed, config = sweep.parse([*own, "--", "--data", shards])
    assert parsed.seeds == (3, 1) and config == DistillConfig(shards)
    for wrong, message in (
        (["--seeds", "1"], "--seeds 1: must hold at least 2 values"),
        (["--seeds", "1", "1"], "--seeds 1 1: must be different ones"),
        (["--seeds", "1", "-2"], "--seeds 1 -2: must be from 0 to "),
        (["--", "--views", "0"], "--views 0: must be at least 1"),
        (["--", "--seed", "1"], "--seed: is given by --seeds"),
        (["--", "--run-dir", "x"], "--run-dir: goes before `--`"),
        (["--", "--logits", "x"], "--logits: is for one seed"),
    ):
        (line,) = refused(sweep.main, [*own, *wrong], capsys)
        assert line.startswith(f"error: {message}") and not folder.exists()
    lines = refused(sweep.main, ["--", "--alpha", "2"], capsys)
    assert lines == [
        "error: --run-dir: is required",
        "error: --alpha 2: must be from 0 to 1",
    ]


def test_what_teacher_refuses(shards, tmp_path, capsys):
    argv = ["--data", shards, "--out", str(tmp_path / "t.keras")]
    for wrong, message in (
        (["--out", "t.h5"], "--out t.h5: must be a file whose name ends in .keras"),
        (["--backbone", "resnet"], "--backbone resnet: must be one of mobilenet_v2, "),
        (["--backbone", "b.keras"], "--backbone b.keras: no such file"),
        (["--dropout", "1"], "--dropout 1: must be at least 0 and below 1"),
        (["--label-smoothing", "-0.1"], "--label-smoothing -0.1: must be at least 0"),
        (["--mixup", "-1"], "--mixup -1: must be at least 0"),
        (["--ema", "1"], "--ema 1: must be at least 0 and below 1"),
    ):
        (line,) = refused(teacher.main, [*argv, *wrong], capsys)
        assert line.startswith(f"error: {message}")
    assert len(refused(teacher.main, [], capsys)) == 2


def test_the_backbones_that_help_names_are_those_there_are():
    assert set(config_module.BACKBONES) == set(teachers.BACKBONES)
    assert set(config_module.RESNETS) == set(teacher_networks.RESNETS)
    (flag,) = (each for each in arguments.flags(TeacherConfig) if each.name == "--backbone")
    assert all(name in flag.help for name in config_module.BACKBONES + config_module.RESNETS)
