"""Parameters of commands: read off a function's signature, and by Typer off a command line.

One declaration serves Typer, the help texts, the completions and the reference page.
"""

from __future__ import annotations

import inspect
import io
import math
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from devicevault_cli.errors import Usage


class Option(NamedTuple):
    """An option, e.g. `Option("-n/--count", "At most this many.", metavar="N", least=1)`.

    parse: text -> value; raises Usage or ValueError. least: for numbers. complete: what the shells offer as a value, a
    kind of live value (`groups`, `consumers`, `ids`, `profiles`) or `files`.
    """

    names: str
    help: str
    metavar: str = ""
    parse: Callable[[str], Any] | None = None
    least: float | None = None
    complete: str = ""


class Argument(NamedTuple):
    """A positional argument; of a list there may be any number, and `| None` makes it optional.

    there: says what there is to choose from, for whoever leaves the argument out.
    """

    metavar: str
    help: str
    parse: Callable[[str], Any] | None = None
    complete: str = ""
    there: Callable[[], str] | None = None


class Parameter(NamedTuple):
    """One parameter of a function, as the command line knows it."""

    name: str
    spec: Option | Argument
    kind: type
    default: Any
    many: bool
    choices: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """`("-n", "--count")`; () for an argument."""
        return tuple(self.spec.names.split("/")) if isinstance(self.spec, Option) else ()

    @property
    def is_flag(self) -> bool:
        return self.kind is bool

    @property
    def metavar(self) -> str:
        """What stands for the value in the help."""
        if self.is_flag:
            return ""
        kinds = {int: "N", float: "N", Path: "FILE"}
        return self.spec.metavar or "|".join(self.choices) or kinds.get(self.kind, "TEXT")

    @property
    def label(self) -> str:
        """How messages call it."""
        return self.names[-1] if self.names else self.spec.metavar

    def read(self, text: str) -> Any:
        """The value of one text. Raises Usage."""
        try:
            if self.choices and text not in self.choices:
                raise Usage(f"{text[:60]!r} is not one of: {', '.join(self.choices)}")
            value = self.spec.parse(text) if self.spec.parse else _READ.get(self.kind, self.kind)(text)
        except Usage as error:
            raise Usage(f"{self.label}: {error}", hint=error.hint) from None
        except ValueError:
            article = {int: "a whole number", float: "a number"}.get(self.kind, "usable")
            raise Usage(f"{self.label}: {text[:60]!r} is not {article}") from None
        least = self.spec.least if isinstance(self.spec, Option) else None
        if least is not None and value < least:
            unit = " ms" if self.metavar == "DURATION" else ""
            raise Usage(f"{self.label}: {text[:60]} is less than {least:g}{unit}")
        return value


def _whole(text: str) -> int:
    """A whole number that fits everywhere: Redis and the databases have 64 bits."""
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):  # int() also takes 1_000, spaces and other scripts' digits
        raise ValueError
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise Usage(f"{text[:60]} is out of range")
    return int(text)


def _finite(text: str) -> float:
    """A number; infinity and what is no number are none, and neither is what only overflows to infinity."""
    if not re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", text, re.ASCII):
        raise ValueError
    if not math.isfinite(float(text)):
        raise Usage(f"{text[:60]} is out of range")
    return float(text)


_READ: dict[type, Callable[[str], Any]] = {int: _whole, float: _finite}


def parameters_of(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a command function behind the first, which is its Runtime."""
    hints = get_type_hints(function, include_extras=True)
    return [_parameter(each.name, hints[each.name], each.default) for each in _own(function)]


def _own(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())[1:]


def _parameter(name: str, hint: Any, default: Any) -> Parameter:
    kind, spec = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, None)
    if not isinstance(spec, (Option, Argument)):
        raise TypeError(f"parameter {name} needs Annotated[..., Option(...)] or Argument(...)")
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    many = get_origin(kind) is list
    if many:
        (kind,) = get_args(kind)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return Parameter(name, spec, str if choices else kind, default, many, choices)


def parse(parameters: Sequence[Parameter], words: Sequence[str], name: str = "dvctl") -> dict[str, Any]:
    """Read a command line with Typer: an application of this one command, made when it is typed. Raises Usage.

    Typer prints what is wrong and exits, so what it says is caught here, to be told like every other error.
    """
    import typer

    found: dict[str, Any] = {}

    def collect(**values: Any) -> None:
        found.update(values)

    hints = {each.name: _annotation(each) for each in parameters}
    collect.__annotations__ = hints
    collect.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                each.name, inspect.Parameter.KEYWORD_ONLY, default=_default(each), annotation=hints[each.name]
            )
            for each in parameters
        ]
    )
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(context_settings={"help_option_names": []})(collect)
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(said):
            app(args=list(words), prog_name=name)
    except SystemExit as end:
        if end.code:
            raise Usage(_told(said.getvalue()), hint=f"run `{name} --help` to see every option") from None
    return {each.name: _value(each, found[each.name], name) for each in parameters}


def _annotation(parameter: Parameter) -> Any:
    import typer

    if isinstance(parameter.spec, Argument):
        kind: Any = list[str] if parameter.many else str
        return Annotated[kind | None, typer.Argument(metavar=parameter.metavar)]
    names = parameter.names
    if parameter.is_flag:
        return Annotated[bool, typer.Option(*names, help=parameter.spec.help)]
    kind = list[str] if parameter.many else str
    return Annotated[kind | None, typer.Option(*names, help=parameter.spec.help, metavar=parameter.metavar)]


def _default(parameter: Parameter) -> Any:
    """Typer gets text only, so its defaults say no more than "not given"; `_value` has the real ones."""
    return False if parameter.is_flag else None


def _value(parameter: Parameter, given: Any, name: str) -> Any:
    if parameter.is_flag:
        return given
    if given is None or given == []:
        if parameter.default is inspect.Parameter.empty:
            raise Usage(_missing(parameter), hint=f"run `{name} --help` to see every option")
        return list(parameter.default) if parameter.many and parameter.default else parameter.default
    return [parameter.read(each) for each in given] if parameter.many else parameter.read(given)


def _missing(parameter: Parameter) -> str:
    if isinstance(parameter.spec, Option):
        return f"missing option {parameter.label}"
    return f"missing argument {parameter.label}" + (f"; {parameter.spec.there()}" if parameter.spec.there else "")


def _told(text: str) -> str:
    """The error in what Typer printed: its last line, without the word that dvctl puts before it itself."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else "the command line cannot be understood"
