"""What the commands share: the options that each one has, and the decorator that adds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from devicevault_cli.cli.arguments import Option, Parameter, parameters_of, parse
from devicevault_cli.cli.context import Runtime
from devicevault_cli.errors import Usage, WrongType
from devicevault_cli.operations.entries.positions import in_future, parse_end, parse_start
from devicevault_cli.output.logs import warn_to
from devicevault_cli.output.printer import Printer, not_confirmed
from devicevault_cli.output.terminal import Terminal
from devicevault_cli.settings import NAMES, Settings, environment_variable, load, name_problem
from devicevault_cli.streams.model import LAST, ZERO, EntryId
from devicevault_cli.times import iso, parse_duration


def parse_name(text: str) -> str:
    """A name that Redis makes a consumer of. Raises Usage."""
    if problem := name_problem(text):
        raise Usage(f"the name {problem}")
    return text


# --- options that several commands have, each written once ---------------------------------------------------------

IdsFrom: TypeAlias = Annotated[str | None, Option("--ids", "Read ids from FILE, one a line; - is stdin.", "FILE|-")]
Count: TypeAlias = Annotated[int, Option("-n/--count", "At most this many.", least=1)]
_FROM = Option("--from", "From this id, time, duration back from now, or start.", "ID|TIME|-DURATION", parse_start)
_TO = Option("--to", "Up to this id, time, duration back from now, or end.", "ID|TIME|-DURATION", parse_end)
Start: TypeAlias = Annotated[EntryId, _FROM]
End: TypeAlias = Annotated[EntryId, _TO]
TypedStart: TypeAlias = Annotated[EntryId | None, _FROM]
TypedEnd: TypeAlias = Annotated[EntryId | None, _TO]
Since: TypeAlias = Annotated[
    EntryId | None, Option("--since", "Only entries from this time on.", "TIME|-DURATION", parse_start)
]
Device: TypeAlias = Annotated[int | None, Option("--device", "Only messages of this device.", "ID", least=1)]
Status: TypeAlias = Annotated[str | None, Option("--status", "Only messages with this status.", "STATUS")]
Rate: TypeAlias = Annotated[float | None, Option("--rate", "Maximum messages per second.", least=0.001)]
ClaimIdle: TypeAlias = Annotated[
    int,
    Option(
        "--claim-idle", "Take over pending entries that have been idle longer than this.", "DURATION", parse_duration
    ),
]
BrokerUrl: TypeAlias = Annotated[str | None, Option("--broker-url", "Celery broker for the storage dispatch.", "URL")]

START: EntryId = ZERO
END: EntryId = LAST
CLAIM_IDLE_MS = 60_000


def say_if_missing(run: Runtime) -> None:
    """An empty answer has two meanings; say which."""
    with suppress(WrongType):
        if run.stream.info() is None:
            run.printer.note(f"there is no stream {run.stream.key} yet")


def forbid(*rules: tuple[bool, str]) -> None:
    """Raises Usage with the words of the first rule that is broken."""
    for broken, words in rules:
        if broken:
            raise Usage(words)


def require_order(start: EntryId | None, end: EntryId | None, first: str = "--from", last: str = "--to") -> None:
    """Raises Usage for a range that ends before it begins."""
    if start is not None and end is not None and start > end:
        raise Usage(f"{first} {start} is after {last} {end}", hint=f"give {first} the earlier of the two")


def read_ids(run: Runtime, ids: Sequence[EntryId] | None, source: str | None) -> list[EntryId]:
    """Ids from arguments, and from `--ids FILE` or `--ids -`, each once, in their order. Raises Usage."""
    found = dict.fromkeys(ids or ())
    if source is not None:
        try:
            if source == "-":
                found |= _parsed(run.terminal.stdin, source)
            else:
                with open(source, encoding="utf-8") as file:  # noqa: PTH123 - a path as typed, /dev/fd/63 too
                    found |= _parsed(file, source)
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(f"--ids: {source} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from None
    return list(found)


def _parsed(lines: Iterable[str], source: str) -> dict[EntryId, None]:
    """Line by line: a million ids as one text beside themselves would cost twice the memory."""
    found: dict[EntryId, None] = {}
    for number, line in enumerate(lines, 1):
        if word := line.strip():
            try:
                found[EntryId.parse(word)] = None
            except Usage as error:
                raise Usage(f"--ids: line {number} of {source}: {error}", hint=error.hint) from None
    return found


# --- the options of every command ------------------------------------------------------------------------------------


def _shared(
    run: Runtime,
    redis_url: Annotated[str | None, Option("--redis-url", "Redis, e.g. redis://localhost:6379/1.", "URL")] = None,
    database_url: Annotated[
        str | None, Option("--database-url", "Database, e.g. postgresql://USER@HOST/NAME.", "URL")
    ] = None,
    stream: Annotated[str | None, Option("--stream", "Stream key.", "KEY")] = None,
    group: Annotated[str | None, Option("--group", "Consumer group.", "NAME", complete="groups")] = None,
    consumer: Annotated[str | None, Option("--consumer", "Consumer name.", "NAME", complete="consumers")] = None,
    pipeline: Annotated[
        Literal["results", "storage"] | None,
        Option("--pipeline", "Chooses stream, group, table and decoding together."),
    ] = None,
    config: Annotated[str | None, Option("--config", "DeviceVault's config.yaml.", "FILE", complete="files")] = None,
    profile: Annotated[
        str | None, Option("--profile", "Profile to use from ~/.config/dvctl/config.toml.", "NAME", complete="profiles")
    ] = None,
) -> None:
    """Settings: which Redis, which database, which pipeline."""


def _output(
    run: Runtime,
    output: Annotated[
        Literal["table", "json", "jsonl", "csv", "ids"] | None, Option("-o/--output", "How the answer is printed.")
    ] = None,
    verbose: Annotated[bool, Option("-v/--verbose", "Log more; show tracebacks of errors.")] = False,
    help: Annotated[bool, Option("-h/--help", "Show this text.")] = False,  # noqa: A002 - the name of the option
) -> None:
    """Options of every command that are no settings."""


def _changing(
    run: Runtime,
    dry_run: Annotated[bool, Option("--dry-run", "Show the plan and change nothing.")] = False,
    yes: Annotated[bool, Option("-y/--yes", "Do not ask.")] = False,
    force: Annotated[bool, Option("--force", "Proceed even if a consumer is active.")] = False,
    confirm_name: Annotated[
        str | None, Option("--confirm", "Confirm by the name of what is changed.", "NAME", complete="groups")
    ] = None,
) -> None:
    """Options of commands that change something; each takes those that apply."""


@dataclass(frozen=True)
class Command:
    """A function and what is to be known about it before it runs; call it with the words of a command line."""

    function: Callable[..., int | None]
    redis: bool
    database: bool
    changes: bool
    force: bool
    typed: bool
    formats: tuple[str, ...]
    examples: tuple[str, ...] = field(default=())
    effect: str = ""

    @cached_property
    def own(self) -> list[Parameter]:
        """The parameters of the function, and the flags of a changing command."""
        flags = ["dry_run", "confirm_name" if self.typed else "yes", *(["force"] if self.force else [])]
        return parameters_of(self.function) + [
            each for each in parameters_of(_changing) if self.changes and each.name in flags
        ]

    @cached_property
    def settings(self) -> list[Parameter]:
        """The settings; where the function has an option of the same name, that one stands."""
        taken = {name for each in self.own for name in each.names}
        return [each for each in parameters_of(_shared) if not taken.intersection(each.names)]

    @cached_property
    def common(self) -> list[Parameter]:
        """Output, verbosity, help."""
        taken = {name for each in self.own for name in each.names}
        return [each for each in parameters_of(_output) if not taken.intersection(each.names)]

    @property
    def parameters(self) -> list[Parameter]:
        """All of them, in the order of the help."""
        return [*self.own, *self.settings, *self.common]

    def __call__(self, words: Sequence[str], terminal: Terminal, name: str) -> int:
        """Run: usage, configuration, confirmation, and then the function. -> exit code"""
        values = parse(self.parameters, words, f"dvctl {name}")
        settings = load({each: values.get(each) for each in NAMES}, terminal.environ)
        self._check_output(settings)
        self._check_configuration(settings)
        self._check_consent(values, terminal)
        own = {each.name for each in parameters_of(self.function)}
        flags = {each: values[each] for each in ("dry_run", "yes", "force", "confirm_name") if each in values}
        printer = Printer(terminal, settings.output)
        warn_to(printer, verbose=values["verbose"])
        self._warn_of_secrets(settings, printer)
        self._warn_of_the_future(values, printer)
        run = Runtime(settings, terminal, printer, name, values["verbose"], **flags)
        try:
            return self.function(run, **{each: values[each] for each in own}) or 0
        finally:
            run.close()

    def _check_output(self, settings: Settings) -> None:
        if settings.output not in self.formats:
            raise Usage(
                f"this command has no output as {settings.output}", hint=f"-o {', '.join(self.formats)} are possible"
            )

    def _warn_of_secrets(self, settings: Settings, printer: Printer) -> None:
        for each in settings.all:
            if each.source == "flag" and each.shown != each.value:
                flag, variable = f"--{each.name.replace('_', '-')}", environment_variable(each.name)
                printer.warn(f"{flag}: every user of this machine can read a password there; {variable} hides it")

    def _warn_of_the_future(self, values: dict[str, Any], printer: Printer) -> None:
        for parameter in self.own:
            position = values[parameter.name]
            if isinstance(position, EntryId) and "TIME" in parameter.metavar and in_future(position):
                printer.warn(f"{parameter.label}: {iso(position.ms)} is in the future")

    def _check_configuration(self, settings: Settings) -> None:
        if self.redis:
            _ = settings.redis_url
        if self.database:
            _ = settings.database_url

    def _check_consent(self, values: dict[str, Any], terminal: Terminal) -> None:
        if not self.changes or values["dry_run"] or terminal.can_ask:
            return
        flag = "--confirm NAME" if self.typed else "--yes"
        if not values["confirm_name" if self.typed else "yes"]:
            raise not_confirmed(terminal, flag)


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
) -> Callable[[Callable[..., int | None]], Command]:
    """Make a function `(run: Runtime, ...) -> None` or `-> exit code` a command.

    redis, database: what must be configured before it starts. changes: it has --dry-run and --yes and is not begun
    without consent. typed: --confirm NAME instead of --yes. force: it has --force. ids: its answer can be `-o ids`.
    screen: it draws on a terminal, and has no answer in other formats.
    effect: what it does to the world where neither "read-only" nor "changing" says it.
    """
    formats = ("table",) if screen else ("table", "json", "jsonl", "csv", *(["ids"] if ids else []))

    def decorate(function: Callable[..., int | None]) -> Command:
        return Command(function, redis, database, changes, force, typed, formats, examples, effect)

    return decorate
