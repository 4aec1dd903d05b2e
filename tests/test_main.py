"""The console command: what it lists, runs and refuses."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import kdtf
from kdtf import __main__ as command_line

RECIPES = Path(__file__).parent.parent / "recipes"
HEAVY = ("tensorflow", "keras", "tf_keras", "scipy", "matplotlib", "pandas", "apache_beam")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_every_command_and_loads_nothing_heavy():
    printed = run(f"""
import sys
from kdtf.__main__ import main
assert main(["--help"]) == 0
heavy = {{*{HEAVY}, "numpy", "tyro"}} & set(sys.modules)
assert not heavy, heavy
""")
    for command in command_line.COMMANDS:
        assert f"\n  {command} " in printed
    assert max(map(len, printed.splitlines())) < 80


@pytest.mark.parametrize("command", command_line.COMMANDS)
def test_every_command_has_help_and_needs_no_tensorflow_for_it(command):
    printed = run(f"""
import sys
from kdtf.__main__ import main
try:
    main(["{command}", "--help"])
except SystemExit as end:
    assert end.code == 0
heavy = set({HEAVY}) & set(sys.modules)
assert not heavy, heavy
""")
    assert f"usage: kdtf {command} " in printed


@pytest.mark.parametrize("command", command_line.COMMANDS)
def test_a_flag_that_no_command_has_is_one_line(command, capsys):
    module = importlib.import_module(command_line.COMMANDS[command].module)
    with pytest.raises(SystemExit) as stop:
        module.main(["--no-such-flag"])
    assert stop.value.code == 2
    assert "error: --no-such-flag: unknown flag\n" in capsys.readouterr().err


def test_the_version(capsys):
    assert command_line.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == kdtf.__version__


@pytest.mark.parametrize("wrong, advice", [("distil", "did you mean distill?"), ("x", "choose of")])
def test_an_unknown_command_is_one_line(wrong, advice, capsys):
    assert command_line.main([wrong]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert repr(wrong) in printed.err and advice in printed.err


def test_arguments_and_exit_status_are_the_command_s(monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        command_line.main(["validate", str(tmp_path / "none")])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: no such directory\n"
    monkeypatch.setattr(sys, "argv", ["kdtf", "retrain", "--registry", str(tmp_path), "--list"])
    assert command_line.main() == 0
    assert capsys.readouterr().out == "No version yet.\n"


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.py")), ids=lambda path: path.stem)
def test_recipes_are_the_same_entry_points(recipe):
    done = subprocess.run(
        [sys.executable, recipe, "--no-such-flag"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: --no-such-flag: unknown flag\n")
