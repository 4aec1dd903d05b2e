"""Command lines out of configurations: what is read, what is refused, and how it is told."""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Interval

from kdtf import arguments, cli, limits
from kdtf.arguments import Argument, Preset


def check_even(text):
    if int(text) % 2:
        raise ValueError("must be\neven")


@dataclass(frozen=True)
class Config:
    """A configuration with a field of each kind."""

    out: Annotated[str, Argument("DIR")]
    """where it
    goes"""
    alpha: Annotated[float, Interval(ge=0, le=1)] = 0.7
    """weight"""
    image_size: Annotated[int, Ge(8)] = 224
    """side (pixels)"""
    student: Literal["none", "metadata"] = "none"
    weights: str | None = "imagenet"
    """start"""
    seeds: tuple[Annotated[int, Ge(0)], ...] = (0, 1)
    """seeds"""
    even: Annotated[tuple[str, ...], Argument("N", check_even)] = ()
    """even numbers"""
    strict: bool = False
    """refuse more"""
    phone: Annotated[str | None, Argument("SERIAL", bare="")] = None
    """a phone"""
    workers: Annotated[int | None, Ge(1)] = None
    """processes (default: one per core)"""
    runner: Annotated[tuple[str, ...] | None, Argument("RUNNER", remainder=True)] = None
    """takes the rest"""

    def __post_init__(self):
        limits.check(self)

    def conflicts(self):
        if self.strict and self.phone is not None:
            yield "strict", "not with --phone"


@dataclass(frozen=True)
class Folder:
    directory: Annotated[str, Argument("DIR", positional=True)]
    """a folder"""
    names: tuple[str, ...] = ()
    """names"""


def parse(*argv, preset=None):
    (config,) = cli.parse(["--out", "o", *argv], "prog", "Text.", Config, preset=preset)
    return config


def refused(capsys, *argv, configuration=Config):
    """Lines of a command line that is refused, without "error: "."""
    with pytest.raises(SystemExit) as end:
        cli.parse(list(argv), "prog", "Text.", configuration)
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert lines and all(line.startswith("error: ") for line in lines)
    return [line.removeprefix("error: ") for line in lines]


def test_values_of_every_kind():
    assert parse() == Config("o")
    argv = ["--alpha", "0.5", "--image-size=96", "--student", "metadata", "--strict"]
    want = Config("o", alpha=0.5, image_size=96, student="metadata", strict=True)
    assert parse(*argv) == want
    assert parse("--seeds", "3", "4", "5", "--even", "2").seeds == (3, 4, 5)
    assert parse("--image_size", "9").image_size == 9
    assert parse("--weights", "none").weights is None
    assert parse("--weights=--odd--").weights == "--odd--"
    assert parse("--phone").phone == "" and parse("--phone", "X").phone == "X"
    assert parse("--alpha", "0", "--alpha", "1").alpha == 1.0
    assert parse("--alpha", "1e-3").alpha == 1e-3
    rest = ["Name", "--alpha", "9", "--", "-x"]
    assert parse("--strict", "--runner", *rest).runner == tuple(rest)


def test_the_program_s_own_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prog", "--out", "here"])
    assert cli.parse(None, "prog", "Text.", Config) == [Config("here")]


def test_several_configurations_share_a_command_line():
    folder, config = cli.parse(["a", "--out", "o", "--names", "b", "c"], "prog", "", Folder, Config)
    assert (folder, config) == (Folder("a", ("b", "c")), Config("o"))
    assert cli.parse(["--names", "b", "--out", "o", "a"], "prog", "", Folder, Config)[0] == Folder(
        "a", ("b",)
    )


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("--alpha 2", "--alpha 2: must be from 0 to 1"),
        ("--alpha=2", "--alpha 2: must be from 0 to 1"),
        ("--alpha nan", "--alpha nan: must be a finite number, from 0 to 1"),
        ("--alpha -inf", "--alpha -inf: must be a finite number, from 0 to 1"),
        ("--alpha x", "--alpha x: must be a number, from 0 to 1"),
        ("--alpha", "--alpha: needs a value, from 0 to 1"),
        ("--alpha --strict", "--alpha: needs a value, from 0 to 1"),
        ("--image-size 7", "--image-size 7: must be at least 8"),
        ("--image-size 9.5", "--image-size 9.5: must be a whole number, at least 8"),
        ("--image-size 9 10", "10: unexpected argument"),
        ("--student both", "--student both: must be none or metadata"),
        ("--seeds 1 -1", "--seeds 1 -1: must be at least 0"),
        ("--seeds", "--seeds: needs a value, at least 0"),
        ("--even 2 3", "--even 3: must be even"),
        ("--phone a b", "--phone a b: takes one value"),
        ("--strict --phone", "--strict: not with --phone"),
        ("--strict=yes", "yes: unexpected argument"),
        ("--weights", "--weights: needs a value"),
        ("--alhpa 0.5", "--alhpa: unknown flag, did you mean --alpha?"),
        ("--alhpa=0.5", "--alhpa: unknown flag, did you mean --alpha?"),
        ("--zzz", "--zzz: unknown flag"),
        ("-x", "-x: unknown flag"),
        ("more", "more: unexpected argument"),
        ("-- a", "a: unexpected argument"),
    ],
)
def test_what_is_refused_is_one_line(argv, line, capsys):
    assert refused(capsys, "--out", "o", *argv.split()) == [line]


def test_everything_wrong_is_told(capsys):
    argv = "--alpha 2 --image-size x --bogus 1 --even 1 3 --student".split()
    assert refused(capsys, *argv) == [
        "--student: needs a value, none or metadata",
        "--bogus: unknown flag",
        "--out: is required",
        "--alpha 2: must be from 0 to 1",
        "--image-size x: must be a whole number, at least 8",
        "--even 1: must be even",
        "--even 3: must be even",
    ]


def test_a_required_flag_without_its_value_is_told_once(capsys):
    assert refused(capsys, "--out") == ["--out: needs a value"]


def test_positional_arguments(capsys):
    assert refused(capsys, configuration=Folder) == ["DIRECTORY: is required"]
    assert refused(capsys, "a", "b", configuration=Folder) == ["b: unexpected argument"]
    # What follows a flag that is unknown is not taken for the directory.
    assert refused(capsys, "--nmes", "b", "a", configuration=Folder) == [
        "--nmes: unknown flag, did you mean --names?"
    ]


def test_defaults_that_depend_on_a_flag(capsys):
    small = Config("", image_size=96, weights=None)
    preset = Preset(small, unless="seeds", note="drawn", otherwise="with seeds")
    assert parse(preset=preset) == Config("o", image_size=96, weights=None)
    assert parse("--alpha", "0", preset=preset).image_size == 96
    assert parse("--seeds", "1", preset=preset) == Config("o", seeds=(1,))
    flags = {flag.name: flag for flag in arguments.flags(Config)}
    text = {name: arguments.help_text(flag, preset) for name, flag in flags.items()}
    assert text["--image-size"].endswith("at least 8; default: 96 drawn, 224 with seeds)")
    assert text["--weights"] == "start (default: none drawn, imagenet with seeds)"


def test_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for flag in ("-h", "--help"):
        with pytest.raises(SystemExit) as end:
            cli.parse(["--alpha", flag], "prog", f"Words {'word ' * 40}\n\n    as it is", Config)
        assert end.value.code == 0
        printed = capsys.readouterr().out
        assert all(len(line) <= 80 for line in printed.splitlines())
        assert "\n\n    as it is\n" in printed and "usage: prog " in printed
        for text in (
            "--out DIR",
            "where it goes (required)",
            "weight (from 0 to 1; default: 0.7)",
            "side (pixels; at least 8; default: 224)",
            "--student {none,metadata}",
            "--seeds INT [INT ...]",
            "seeds (at least 0; default: 0 1)",
            "--phone [SERIAL]",
            "processes (default: one per core; at least 1)",
            "--strict",
        ):
            assert text in printed
        assert "--no-strict" not in printed


def test_splitting_at_a_marker():
    assert cli.split(["a", "--", "b", "--", "c"]) == (["a"], ["b", "--", "c"])
    assert cli.split(["a"]) == (["a"], None)
    assert cli.split(["--"]) == ([], [])


def test_what_only_a_file_can_tell(capsys):
    assert cli.checked("--split a", str.upper, "a") == "A"
    with pytest.raises(SystemExit) as end:
        cli.checked("--even 3", check_even, "3")
    assert end.value.code == 2 and capsys.readouterr().err == "error: --even 3: must be even\n"


def test_errors_are_reported_without_a_traceback():
    for error in (ValueError("wrong"), FileNotFoundError("wrong")):
        with pytest.raises(SystemExit, match="^error: wrong$"), cli.report_errors():
            raise error
    with pytest.raises(SystemExit, match="(?s)URL fetch failure.*--weights FILE"):
        with cli.report_errors():
            raise Exception("URL fetch failure on x")
    with pytest.raises(ZeroDivisionError), cli.report_errors():
        raise ZeroDivisionError
