"""Live values for the shells' completion. Nothing is offered where nothing is found, and no error is shown."""

import os
import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import typer

if TYPE_CHECKING:
    from devicevault_cli.settings import Settings
    from devicevault_cli.streams.stream import Stream

TIMEOUT_S = 1.0
MOST = 100
"""How many values are offered at most."""
LETTERS = 1000
"""How many dead letters are read for their reasons."""

_HARMLESS = re.compile(r"[\w/][\w.:@%+,/={}-]*")
"""Names a shell neither breaks up nor runs: bash expands the words that it is offered."""

Completer: TypeAlias = Callable[[typer.Context, str], list[str]]


def _completer(values: Callable[["Settings"], Iterable[str]]) -> Completer:
    """A completer of the values that begin with what is typed, with the settings of the command line so far."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from devicevault_cli.cli.command import typed_options
        from devicevault_cli.settings import NAMES, load

        try:
            typed = typed_options(ctx)
            settings = load({name: typed.get(name) or None for name in NAMES}, os.environ)
            fitting = (value for value in values(settings) if value.startswith(incomplete))
            return list(islice((value for value in dict.fromkeys(fitting) if _HARMLESS.fullmatch(value)), MOST))
        except Exception:  # noqa: BLE001 - at a prompt half typed, no message is of use: there is nothing to offer
            return []

    return complete


def pipelines(ctx: typer.Context, incomplete: str) -> list[str]:
    """The pipelines, and for `consume` both together."""
    values = ["results", "storage", *(["results,storage"] if ctx.info_name == "consume" else [])]
    return [value for value in values if value.startswith(incomplete)]


def help_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Topics and commands; after the first word of two, the second."""
    from devicevault_cli.cli.app import COMMANDS, SUB_APPS
    from devicevault_cli.operations.topics import names

    typed = ctx.params.get("words") or []
    if typed:
        words = [second for first, _, second in map(_parted, COMMANDS) if second and first == typed[0]]
    else:
        words = [*names(), *(command for command in COMMANDS if " " not in command), *SUB_APPS]
    return [word for word in words if word.startswith(incomplete)]


def _parted(command: str) -> tuple[str, str, str]:
    return command.partition(" ")


@_completer
def groups(settings: "Settings") -> Iterable[str]:
    """Names of the stream's consumer groups."""
    return [group.name for group in _stream(settings).groups()]


@_completer
def consumers(settings: "Settings") -> Iterable[str]:
    """Names of the group's consumers."""
    from devicevault_cli.streams.group import Group

    return [consumer.name for consumer in Group(_stream(settings), settings.group).consumers()]


@_completer
def ids(settings: "Settings") -> Iterable[str]:
    """Pending entries, oldest first; where there are none, the newest entries."""
    from devicevault_cli.errors import MissingGroup
    from devicevault_cli.streams.group import Group

    stream = _stream(settings)
    try:
        pending = Group(stream, settings.group).pending(count=MOST)
    except MissingGroup:
        pending = []
    return [str(entry.id) for entry in pending or stream.last(MOST)]


@_completer
def dead_ids(settings: "Settings") -> Iterable[str]:
    """First ids of dead letters, oldest first."""
    from devicevault_cli.streams.dead_letters import DeadLetters

    letters = (letter for page in DeadLetters(_stream(settings), settings.group).pages() for letter in page)
    return (str(letter.id) for letter in letters)


@_completer
def reasons(settings: "Settings") -> Iterable[str]:
    """Reasons of the oldest dead letters."""
    from devicevault_cli.streams.dead_letters import DeadLetters

    letters = (letter for page in DeadLetters(_stream(settings), settings.group).pages() for letter in page)
    return {letter.reason: None for letter in islice(letters, LETTERS)}


@_completer
def devices(settings: "Settings") -> Iterable[str]:
    """Devices of the newest entries."""
    newest = reversed(_stream(settings).last(MOST))
    return (entry.fields.get(b"device_id", b"").decode("ascii", "replace") for entry in newest)


def profiles(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the profiles in dvctl's config.toml, also where the one in force is missing or damaged."""
    from devicevault_cli.config_files import profiles_path, read_profiles
    from devicevault_cli.errors import DvctlError

    try:
        names = read_profiles(profiles_path(os.environ)).names
    except DvctlError:
        return []
    return [name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name)][:MOST]


@_completer
def snapshots(settings: "Settings") -> Iterable[str]:
    """Paths of the snapshots, newest first."""
    from devicevault_cli.operations.groups.snapshots import newest

    return map(str, newest(MOST))


@_completer
def removed_rows(settings: "Settings") -> Iterable[str]:
    """Paths of the files with rows that were removed, newest first."""
    from devicevault_cli.operations.groups.snapshots import newest

    return map(str, newest(MOST, rows=True))


@_completer
def saved_files(settings: "Settings") -> Iterable[str]:
    """Paths of the snapshots and of the files with rows, newest first."""
    from devicevault_cli.operations.groups.snapshots import newest

    return map(str, newest(MOST, rows=None))


def _stream(settings: "Settings") -> "Stream":
    from devicevault_cli.streams.connect import connect
    from devicevault_cli.streams.stream import Stream

    first = settings.streams[0]
    return Stream(connect(settings.redis_url, first, socket_timeout=TIMEOUT_S), first)
