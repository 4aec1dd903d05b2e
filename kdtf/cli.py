"""Command lines out of configurations: flags, types, limits, defaults and help are the dataclass's.

Each field is a flag, its docstring (the string below it) the help. tyro reads the flags and draws
the help; what is wrong with them, all of it, is told in one line each, with exit status 2.
"""

import contextlib
import dataclasses
import difflib
import re
import shutil
import sys
import textwrap
from typing import Annotated, Any

from kdtf import arguments, limits

HELP = ("-h", "--help")
REFUSALS = (ValueError, OSError, RuntimeError, ImportError)  # of a check
_WIDTH = 100  # of help, at most


def parse(argv, program, description, *configurations, preset=None):
    """Instances of configurations, as a command line says; ends the program where it cannot be.

    Args:
      argv: list of str, or None: the program's own.
      program: its name, "kdtf distill".
      description: text of the help.
      *configurations: dataclasses, whose fields have different names.
      preset: a `Preset` of one of them, or None.

    Returns:
      list of the instances.
    """
    instances, problems = read(argv, program, description, *configurations, preset=preset)
    refuse(problems)
    return instances


def read(argv, program, description, *configurations, preset=None):
    """As `parse`, but returns (instances, lines that say what is wrong): with lines, no instances.

    Help is shown, and the program ended, all the same.
    """
    flags = [flag for each in configurations for flag in arguments.flags(each)]
    argv = list(sys.argv[1:] if argv is None else argv)
    argv, given = _remainder(argv, flags)
    if set(argv) & set(HELP):
        _show_help(program, description, flags, preset)
    argv, bare = _without_bare(argv, flags)
    lines = [flag.problem([], f"needs a value{arguments.comma(flag.field.limit)}") for flag in bare]
    tokens, unknown = _tokens(program, flags, preset, argv)
    given |= tokens
    unknown_flags = [token for token in unknown if token.startswith("-")]
    lines += _unknown(unknown_flags or unknown, flags)
    if unknown_flags:  # their values may pass for other arguments
        flags = [flag for flag in flags if not flag.argument.positional]
    values, wrong = _values([flag for flag in flags if flag not in bare], given, preset)
    lines += wrong
    if lines:
        return None, lines
    instances = []
    for configuration in configurations:
        named = {field.name for field in dataclasses.fields(configuration)}
        own = {name: value for name, value in values.items() if name in named}
        try:
            instances.append(configuration(**own))
        except limits.ConfigError as error:
            by_name = {flag.field.name: flag for flag in flags}
            for problem in error.problems:
                shown = given.get(problem.field, [])
                lines.append(by_name[problem.field].problem(shown, problem.rule))
    return (None, lines) if lines else (instances, [])


def refuse(problems):
    """Ends the program with status 2 and a line for each problem; without any, returns."""
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        raise SystemExit(2)


def checked(argument, function, *values):
    """`function(*values)`; ends the program where it refuses what an argument says.

    Args:
      argument: as on the command line, "--split dev".
      function: raises one of `REFUSALS`.
      *values: for it.
    """
    try:
        return function(*values)
    except REFUSALS as error:
        refuse([f"{argument}: {_line(error)}"])


def split(argv, marker="--"):
    """(what is before the first marker, what is behind it or None) of a command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if marker not in argv:
        return argv, None
    place = argv.index(marker)
    return argv[:place], argv[place + 1 :]


def nearest(word, known):
    """Text: "did you mean X?"; empty where nothing known is near."""
    by_letters = {each.lstrip("-"): each for each in known}
    near = difflib.get_close_matches(word.lstrip("-"), by_letters, 1)
    return f"did you mean {by_letters[near[0]]}?" if near else ""


@contextlib.contextmanager
def report_errors():
    """Ends the program with a message, not a traceback, where the user can mend what is wrong."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if "URL fetch failure" not in str(error):
            raise
        sys.exit(
            f"error: {error}\nWhere nothing can be fetched, give a file of weights: --weights FILE"
        )


def _remainder(argv, flags):
    """(argv before the flag that takes the rest, {its field: the rest})."""
    for flag in flags:
        if flag.argument.remainder:
            before, rest = split(argv, flag.name)
            if rest is not None:
                return before, {flag.field.name: rest}
    return argv, {}


def _without_bare(argv, flags):
    """(argv without flags that lack their value, these flags)."""
    by_name = {flag.name: flag for flag in flags if flag.takes_one}
    kept, bare = [], []
    for place, token in enumerate(argv):
        flag = by_name.get(token.replace("_", "-"))
        following = argv[place + 1] if place + 1 < len(argv) else "--"
        number = following.lower() in ("-inf", "-infinity", "-nan")
        if flag and re.match(r"--?[A-Za-z]|--$", following) and not number:
            bare.append(flag)
        else:
            kept.append(token)
    return kept, bare


def _tokens(program, flags, preset, argv):
    """({field: its tokens}, unknown tokens) of a command line."""
    import tyro  # here, because configurations are for those too who never see a command line

    form, unknown = tyro.cli(
        _form(flags, preset),
        prog=program,
        description="",
        args=argv,
        return_unknown_args=True,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    given = {}
    for name, tokens in vars(form).items():
        if tokens is True:
            given[name] = []
        elif tokens not in (None, False, [[]]):  # the last: no positional argument
            given[name] = tokens
    return given, unknown


def _form(flags, preset):
    """The flags as a dataclass for tyro, every value a list of tokens: it has nothing to refuse."""
    import tyro

    declared = []
    for flag in flags:
        name = flag.field.name
        text = arguments.help_text(flag, preset)
        texts = tyro.conf.arg(metavar=flag.metavar, help=text, help_behavior_hint="")
        if flag.field.kind is bool:
            declared.append((name, Annotated[bool, texts], dataclasses.field(default=False)))
            continue
        tokens = tyro.constructors.PrimitiveConstructorSpec(
            nargs=1 if flag.takes_one else "*",
            metavar=flag.metavar,
            instance_from_str=list,
            is_instance=lambda value: True,
            str_from_instance=lambda value: [str(value)],
        )
        kind = Annotated[Any, tokens, texts]
        if flag.argument.positional:
            kind = tyro.conf.Positional[kind]
        declared.append((name, kind, dataclasses.field(default=None)))
    return dataclasses.make_dataclass("Form", declared)


def _unknown(tokens, flags):
    known = [flag.name for flag in flags if not flag.argument.positional]
    for token in tokens:
        name = token.split("=")[0]
        if token.startswith("-"):
            yield f"{name}: unknown flag{arguments.comma(nearest(name, known))}"
        else:
            yield f"{token}: unexpected argument"


def _values(flags, given, preset):
    """({field: value}, lines) of all flags, given or not."""
    values, lines = {}, []
    defaults = vars(preset.config) if preset and preset.unless not in given else {}
    for flag in flags:
        name, tokens = flag.field.name, given.get(flag.field.name)
        if tokens is None:
            values[name] = defaults.get(name, flag.field.default)
            tokens = [] if values[name] is None else [arguments.text(values[name])]
            rule = "is required" if values[name] is arguments.REQUIRED else None
            tokens = [] if rule else tokens
        else:
            try:
                values[name] = flag.field.kind is bool or flag.value(tokens)
                rule = flag.field.rule(values[name])
            except ValueError as error:
                rule = str(error)
        if rule:
            lines.append(flag.problem(tokens, rule))
        elif flag.argument.check and values[name] is not None:
            lines += _unusable(flag, values[name], tokens)
    return values, lines


def _unusable(flag, value, tokens):
    each = flag.field.many and not flag.argument.remainder
    for part in value if each else [value]:
        try:
            flag.argument.check(part)
        except REFUSALS as error:
            yield flag.problem([part] if each else tokens, _line(error))


def _show_help(program, description, flags, preset):
    width = min(shutil.get_terminal_size().columns, _WIDTH)
    for paragraph in textwrap.dedent(description).strip().split("\n\n"):
        indented = paragraph.startswith(" ")
        print(
            paragraph if indented else textwrap.fill(paragraph, width, break_on_hyphens=False),
            end="\n\n",
        )
    _tokens(program, flags, preset, ["--help"])


def _line(error):
    return " ".join(str(error).split())
