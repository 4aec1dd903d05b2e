"""The console command: what it lists, runs and refuses."""

import importlib
import subprocess
import sys

import pytest

import kdtf
from kdtf import __main__ as command_line


def test_help_lists_every_command_and_loads_nothing_heavy():
    code = """
import sys
from kdtf.__main__ import main
assert main(["--help"]) == 0
heavy = {"tensorflow", "keras", "numpy", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in command_line.COMMANDS:
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", command_line.COMMANDS)
def test_every_command_has_help(command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kdtf"])
    module, _ = command_line.COMMANDS[command]
    assert callable(importlib.import_module(module).main)
    with pytest.raises(SystemExit) as stop:
        command_line.main([command, "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


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
    monkeypatch.setattr(sys, "argv", ["kdtf"])
    with pytest.raises(SystemExit) as stop:
        command_line.main(["validate", str(tmp_path / "none"), "--no-such-flag"])
    assert stop.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err
