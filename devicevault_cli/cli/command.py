"""The decorator that makes a function a command: it adds the shared options, and does what precedes every command."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, Signature, getdoc, signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args, get_origin

import typer

from devicevault_cli.cli.options import CHANGING, DEFAULTS, SHARED
from devicevault_cli.errors import Usage

if TYPE_CHECKING:
    from devicevault_cli.cli.context import Context
    from devicevault_cli.output.gathered import Columns
    from devicevault_cli.output.printer import Printer
    from devicevault_cli.output.terminal import Terminal
    from devicevault_cli.settings import Settings


Streams: TypeAlias = Literal["one", "each", "own"]

WORDS = "dvctl.words"
"""Where Typer's context keeps the command line."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be true before a command runs.

    redis, database: configured. changes: the command has --dry-run and --yes, and does not begin without consent.
    typed: --confirm NAME instead of --yes. force: it has --force. formats: possible values of `-o`.
    effect: what it does where neither "read-only" nor "changing" says it. pipelines: it may work on both at once.
    profiles: False for a command that itself works on the profiles, which may be damaged. streams: what it does where
    several streams are configured: `each` is done for each of them, `own` deals with them itself, `one` works on one.
    """

    redis: bool = True
    database: bool = False
    changes: bool = False
    force: bool = False
    typed: bool = False
    formats: tuple[str, ...] = ("table", "json", "jsonl", "csv")
    effect: str = ""
    pipelines: bool = False
    profiles: bool = True
    streams: Streams = "one"

    @property
    def label(self) -> str:
        """Whether the command changes anything, and what."""
        return self.effect or ("changing" if self.changes else "read-only")

    @property
    def flags(self) -> tuple[str, ...]:
        """Which options of CHANGING the command has."""
        if not self.changes:
            return ()
        confirmation = "confirm_name" if self.typed else "yes"
        all_streams = ("all_streams",) if self.streams == "each" else ()
        return ("dry_run", confirmation, *(("force",) if self.force else ()), *all_streams)


@dataclass(frozen=True)
class Command:
    """A function `(ctx, ...) -> exit code or None`, what it needs, and examples for its help.

    columns: what its table shows of several streams.
    """

    function: Callable[..., int | None]
    needs: Needs
    examples: tuple[str, ...]
    columns: "Columns | None" = None

    @cached_property
    def summary(self) -> str:
        """One line."""
        return (getdoc(self.function) or "").partition("\n")[0].removesuffix(".")

    @cached_property
    def help(self) -> str:
        """The whole docstring with one line a paragraph, and the label after the first."""
        head, *body = (" ".join(part.split()) for part in (getdoc(self.function) or "").split("\n\n"))
        return "\n\n".join([f"{head} ({self.needs.label})", *body])

    @cached_property
    def epilog(self) -> str:
        """The examples, one a line."""
        return "\n".join(["Examples:", *(f"  {example}" for example in self.examples)]) if self.examples else ""

    @cached_property
    def callback(self) -> Callable[..., int]:
        """What Typer calls: the function's own options, and the shared ones that do not collide with them."""
        own = list(signature(self.function).parameters.values())[1:]
        taken = {flag for parameter in own for flag in flags_of(parameter.annotation)}
        shared = [name for name, annotation in SHARED.items() if not taken.intersection(flags_of(annotation))]
        parameters = [
            Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own),
            *(_parameter(name, CHANGING[name], None if name == "confirm_name" else False) for name in self.needs.flags),
            *(_parameter(name, SHARED[name], DEFAULTS[name]) for name in shared),
        ]
        names = [parameter.name for parameter in own]

        def callback(*, ctx: typer.Context, **values: Any) -> int:
            return _run(self, ctx, values, names)

        callback.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        callback.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return callback


def command(
    *examples: str,
    redis: bool = True,
    database: bool = False,
    changes: bool = False,
    force: bool = False,
    typed: bool = False,
    ids: bool = False,
    screen: bool = False,
    effect: str = "",
    pipelines: bool = False,
    profiles: bool = True,
    streams: Streams = "one",
    columns: "Columns | None" = None,
) -> Callable[[Callable[..., int | None]], Command]:
    """Make a function a Command; see Needs. ids: `-o ids` is possible. screen: it draws on a terminal, nothing else."""
    formats = ("table",) if screen else ("table", "json", "jsonl", "csv", *(("ids",) if ids else ()))
    needs = Needs(redis, database, changes, force, typed, formats, effect, pipelines, profiles, streams)
    return lambda function: Command(function, needs, examples, columns)


def _parameter(name: str, annotation: object, default: object) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def flags_of(annotation: object) -> tuple[str, ...]:
    """`("--count", "-n")`; () of what is no option."""
    if get_origin(annotation) is not Annotated:
        return ()
    option = get_args(annotation)[1]  # within Annotated, Typer takes the first name for the default
    names = (option.default, *(option.param_decls or ()))
    return tuple(name for name in names if isinstance(name, str) and name.startswith("-"))


def typed_options(ctx: typer.Context) -> dict[str, Any]:
    """The shared options that were typed, before or after the command; the latter win."""
    found: dict[str, Any] = {}
    for context in (ctx.find_root(), ctx):
        for name in SHARED:
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                found[name] = context.params[name]
    return found


def _run(command: Command, ctx: typer.Context, values: dict[str, Any], own: list[str]) -> int:
    """Usage, configuration, confirmation, and then the function. -> exit code"""
    from devicevault_cli.cli.context import Context
    from devicevault_cli.output.logs import warn_to
    from devicevault_cli.output.printer import Printer
    from devicevault_cli.settings import NAMES, load, load_each

    needs, typed = command.needs, typed_options(ctx)
    terminal = ctx.obj._replace(color=typed.get("color") or "auto")
    given = {name: _text(typed.get(name)) for name in NAMES}
    if needs.pipelines:
        each = load_each(given, terminal.environ)
    else:
        each = (load(given, terminal.environ, profiles=needs.profiles),)
    settings = each[0]
    _check_output(needs, settings)
    _check_configuration(needs, settings)
    _check_consent(needs, values, terminal)
    errors = typed.get("errors") or ("log" if values.get("log_format") == "json" else "text")
    printer = Printer(terminal, settings.output, errors=errors, quiet=bool(typed.get("quiet")))
    verbose = bool(typed.get("verbose"))
    warn_to(printer, verbose=verbose)
    _warn_of_secrets(settings, printer)
    _warn_of_the_future(command, values, printer)
    flags = {name: values[name] for name in CHANGING if name in values}
    path, words = ctx.command_path.partition(" ")[2], ctx.meta.get(WORDS, ())
    context = Context(settings, terminal, printer, path, verbose, each[1:], words, **flags)
    try:
        return _call(command, context, {name: values[name] for name in own})
    finally:
        context.close()


def _call(command: Command, ctx: "Context", values: dict[str, Any]) -> int:
    """Call the function, for each stream where several are configured."""
    from devicevault_cli.cli import several

    needs = command.needs
    if not needs.redis or needs.streams == "own":
        return command.function(ctx, **values) or 0
    if len(ctx.settings.streams) == 1:
        return command.function(ctx, **several.for_one(ctx, values)) or 0
    if needs.streams == "one":
        _ = ctx.settings.stream  # raises the refusal
    if needs.changes or values.get("repair"):
        several.require_choice(ctx)
        return several.change(ctx, command.function, values)
    return several.look(ctx, command.function, values, command.columns)


def _text(value: Any) -> Any:
    """The value of a setting that was typed, or several; a flag means yes."""
    return "true" if value is True else value


def _check_output(needs: Needs, settings: "Settings") -> None:
    if settings.output not in needs.formats:
        raise Usage(
            f"this command has no output as {settings.output}", hint=f"use one of: -o {', -o '.join(needs.formats)}"
        )


def _check_configuration(needs: Needs, settings: "Settings") -> None:
    if needs.redis:
        _ = settings.redis_url
    if needs.database:
        _ = settings.database_url


def _check_consent(needs: Needs, values: dict[str, Any], terminal: "Terminal") -> None:
    from devicevault_cli.output.printer import not_confirmed

    if not needs.changes or values["dry_run"] or terminal.can_ask:
        return
    if not values["confirm_name" if needs.typed else "yes"]:
        raise not_confirmed(terminal, "--confirm NAME" if needs.typed else "--yes")


def _warn_of_secrets(settings: "Settings", printer: "Printer") -> None:
    from devicevault_cli.settings import environment_variable

    for setting in settings.all:
        if setting.source == "flag" and setting.shown != setting.value:
            flag, variable = f"--{setting.name.replace('_', '-')}", environment_variable(setting.name)
            printer.warn(f"{flag}: every user of this machine can read a password there; {variable} hides it")


def _warn_of_the_future(command: Command, values: dict[str, Any], printer: "Printer") -> None:
    from devicevault_cli.operations.entries.positions import in_future
    from devicevault_cli.streams.model import EntryId
    from devicevault_cli.times import iso

    for name, parameter in signature(command.function).parameters.items():
        position = values.get(name)
        if isinstance(position, EntryId) and "TIME" in _metavar(parameter.annotation) and in_future(position):
            printer.warn(f"{flags_of(parameter.annotation)[0]}: {iso(position.ms)} is in the future")


def _metavar(annotation: object) -> str:
    return getattr(get_args(annotation)[1], "metavar", None) or "" if get_origin(annotation) is Annotated else ""
