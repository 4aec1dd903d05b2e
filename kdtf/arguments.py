"""Fields of a configuration as arguments of a command line: names, values, defaults and help."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

from kdtf import limits

REQUIRED = dataclasses.MISSING


@dataclasses.dataclass(frozen=True)
class Argument:
    """What a field's type is annotated with for the command line alone.

    Attributes:
      metavar: stands for the value in the help.
      check: function of the value, or of each of a tuple's; raises ValueError, OSError,
        RuntimeError or ImportError where this machine cannot use it.
      positional: no flag, just the value.
      remainder: the flag is the last, and takes everything behind it.
      bare: what the flag alone means; a flag needs a value where this is None.
    """

    metavar: str | None = None
    check: Callable | None = None
    positional: bool = False
    remainder: bool = False
    bare: str | int | None = None


class Preset(NamedTuple):
    """Defaults that hold unless a field is given.

    config: an instance with these defaults.
    unless: the field that, if given, brings the class's own defaults back.
    note: says in the help when they hold, "drawn"; otherwise: when the class's own do.
    """

    config: Any
    unless: str
    note: str
    otherwise: str


class Flag(NamedTuple):
    """A `limits.Field` as an argument of the command line."""

    field: limits.Field
    argument: Argument
    help: str

    @property
    def name(self):
        name = self.field.name.replace("_", "-")
        return name.upper() if self.argument.positional else f"--{name}"

    @property
    def takes_one(self):
        return not (self.field.many or self.field.kind is bool or self.argument.bare is not None)

    @property
    def metavar(self):
        if self.field.kind is bool:
            return None
        names = {int: "INT", float: "FLOAT", str: "TEXT"}
        one = self.argument.metavar or names.get(self.field.kind)
        one = one or f"{{{','.join(self.field.choices)}}}"
        if self.argument.bare is not None:
            return f"[{one}]"
        return f"{one} [{one} ...]" if self.field.many and not self.argument.remainder else one

    def problem(self, tokens, rule):
        """One line: flag, value and rule."""
        named = [] if self.argument.positional and tokens else [self.name]
        return f"{' '.join([*named, *tokens])}: {rule}"

    def value(self, tokens):
        """The value that tokens stand for; ValueError, with the rule, where they stand for none."""
        field = self.field
        if not tokens and self.argument.bare is not None:
            return self.argument.bare
        if len(tokens) > 1 and not field.many:
            raise ValueError("takes one value")
        if not tokens:
            raise ValueError(f"needs a value{comma(field.limit)}")
        if tokens == ["none"] and field.optional and field.default is not None:
            return None
        values = tuple(self._converted(token) for token in tokens)
        return values if field.many else values[0]

    def _converted(self, token):
        if self.field.kind not in (int, float):
            return token
        try:
            return self.field.kind(token)
        except ValueError:
            kind = {int: "a whole number", float: "a number"}[self.field.kind]
            limit = "" if self.field.limit == kind else f", {self.field.limit}"
            raise ValueError(f"must be {kind}{limit}") from None


def flags(configuration):
    """list of `Flag`: the fields of a configuration."""
    docs = {}
    for each in reversed(configuration.__mro__[:-1]):
        docs |= _docs(each)
    listed = []
    for field in limits.fields(configuration):
        metadata = field.metadata + field.element_metadata
        arguments = [each for each in metadata if isinstance(each, Argument)]
        listed.append(Flag(field, *arguments or [Argument()], docs.get(field.name, "")))
    return listed


def _docs(configuration):
    """{field: the string below it}."""
    body = ast.parse(textwrap.dedent(inspect.getsource(configuration))).body[0].body
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in zip(body, body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def help_text(flag, preset):
    """What the help says of a flag, "weight of the soft targets (from 0 to 1; default: 0.7)"."""
    field = flag.field
    if field.kind is bool:
        return flag.help
    notes = [] if field.choices or field.kind is str else [field.limit]
    if field.default is REQUIRED:
        notes.append("required")
    elif preset and getattr(preset.config, field.name, field.default) != field.default:
        held = text(getattr(preset.config, field.name))
        notes.append(f"default: {held} {preset.note}, {text(field.default)} {preset.otherwise}")
    elif field.default not in (None, ()):
        notes.append(f"default: {text(field.default)}")
    notes = [note for note in notes if note not in ("", "a whole number", "a number")]
    if not notes:
        return flag.help
    if flag.help.endswith(")"):  # "(default: one per core)"
        return f"{flag.help[:-1]}; {'; '.join(notes)})"
    return f"{flag.help} ({'; '.join(notes)})"


def text(value):
    """A default as it would be typed."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return " ".join(map(text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def comma(text):
    return f", {text}" if text else ""
