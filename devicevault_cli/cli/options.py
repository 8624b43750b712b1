"""Options that several commands share, each written once.

No `from __future__ import annotations` here or in the commands: Typer reads the annotations, and evaluating them from
text would cost each start.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeAlias

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.help_style import head
from devicevault_cli.cli.values import finite, parse_entry, parsed, placed, whole
from devicevault_cli.errors import Usage, WrongType
from devicevault_cli.operations.entries.positions import parse_end, parse_start
from devicevault_cli.streams.model import LAST, ZERO, EntryId
from devicevault_cli.times import parse_duration

START: EntryId = ZERO
END: EntryId = LAST

# --- what to select ------------------------------------------------------------------------------------------------

EntryIds: TypeAlias = Annotated[
    list[EntryId] | None,
    typer.Argument(
        help="Only these entries.", metavar="ID...", parser=parsed(parse_entry), autocompletion=complete.ids
    ),
]
IdsFrom: TypeAlias = Annotated[
    str | None, typer.Option("--ids", help="Read ids from FILE, one a line; - is stdin.", metavar="FILE|-")
]
Count: TypeAlias = Annotated[
    int, typer.Option("--count", "-n", help="Maximum number of rows.", metavar="N", parser=parsed(whole, 1))
]
_FROM = typer.Option(
    "--from",
    help="Start at this id, time, duration back from now, or start.",
    metavar="ID|TIME|-DURATION",
    parser=parsed(parse_start),
    show_default=False,
)
_TO = typer.Option(
    "--to",
    help="End at this id, time, duration back from now, or end.",
    metavar="ID|TIME|-DURATION",
    parser=parsed(parse_end),
    show_default=False,
)
Start: TypeAlias = Annotated[EntryId, _FROM]
End: TypeAlias = Annotated[EntryId, _TO]
TypedStart: TypeAlias = Annotated[EntryId | None, _FROM]
TypedEnd: TypeAlias = Annotated[EntryId | None, _TO]
Since: TypeAlias = Annotated[
    EntryId | None,
    typer.Option("--since", help="Only entries since this time.", metavar="TIME|-DURATION", parser=parsed(parse_start)),
]
Device: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--device",
        help="Only messages of this device.",
        metavar="ID",
        parser=parsed(whole, 1),
        autocompletion=complete.devices,
    ),
]
Status: TypeAlias = Annotated[
    str | None, typer.Option("--status", help="Only messages with this status.", metavar="STATUS")
]
Rate: TypeAlias = Annotated[
    float | None,
    typer.Option("--rate", help="Maximum messages per second.", metavar="N", parser=parsed(finite, 0.001)),
]
ClaimIdle: TypeAlias = Annotated[
    int,
    typer.Option(
        "--claim-idle",
        help="Take over pending entries that have been idle longer than this.",
        metavar="DURATION",
        parser=parsed(parse_duration),
        show_default="1m",
    ),
]

ToStorage: TypeAlias = Annotated[
    bool, typer.Option("--dispatch", help="Hand the configurations of inserted rows to the storage workers.")
]

# --- options of every command: settings and output -----------------------------------------------------------------

_SETTINGS, _OUTPUT = head("Settings"), head("Output")


def _setting(flag: str, text: str, metavar: str | None = None, values: complete.Completer | None = None) -> Any:
    return typer.Option(flag, help=text, metavar=metavar, autocompletion=values, rich_help_panel=_SETTINGS)


SHARED: dict[str, object] = {
    "redis_url": Annotated[str | None, _setting("--redis-url", "Redis, e.g. redis://localhost:6379/1.", "URL")],
    "database_url": Annotated[
        str | None, _setting("--database-url", "Database, e.g. postgresql://USER@HOST/NAME.", "URL")
    ],
    "stream": Annotated[
        list[str] | None, _setting("--stream", "Stream key, or a range as in results:{0..15}; repeatable.", "KEY")
    ],
    "group": Annotated[str | None, _setting("--group", "Consumer group.", "NAME", complete.groups)],
    "consumer": Annotated[str | None, _setting("--consumer", "Consumer name.", "NAME", complete.consumers)],
    "pipeline": Annotated[
        str | None,
        _setting(
            "--pipeline",
            "Selects stream, group, table and decoding: results or storage; for consume also results,storage.",
            "NAME",
            complete.pipelines,
        ),
    ],
    "broker_url": Annotated[
        str | None, _setting("--broker-url", "Celery's broker, e.g. amqp://USER@HOST/VHOST.", "URL")
    ],
    "no_dispatch": Annotated[
        bool,
        typer.Option(
            "--no-dispatch", help="Do not hand configurations to the storage workers.", rich_help_panel=_SETTINGS
        ),
    ],
    "config": Annotated[str | None, _setting("--config", "DeviceVault's config.yaml.", "FILE")],
    "profile": Annotated[
        str | None,
        _setting("--profile", "Profile from ~/.config/dvctl/config.toml.", "NAME", complete.profiles),
    ],
    "output": Annotated[
        Literal["table", "json", "jsonl", "csv", "ids"] | None,
        typer.Option("--output", "-o", help="Output format.", rich_help_panel=_OUTPUT),
    ],
    "color": Annotated[
        Literal["auto", "always", "never"] | None,
        typer.Option("--color", help="Colours: auto is on a terminal without NO_COLOR.", rich_help_panel=_OUTPUT),
    ],
    "errors": Annotated[
        Literal["text", "json"] | None,
        typer.Option("--errors", help="Format of errors, warnings and hints on stderr.", rich_help_panel=_OUTPUT),
    ],
    "quiet": Annotated[
        bool,
        typer.Option("--quiet", "-q", help="No notes, hints or progress on stderr.", rich_help_panel=_OUTPUT),
    ],
    "verbose": Annotated[
        bool, typer.Option("--verbose", "-v", help="Log more; show tracebacks of errors.", rich_help_panel=_OUTPUT)
    ],
}
"""Name -> annotation of the options that every command has, and that may also stand before the command."""

DEFAULTS: dict[str, object] = dict.fromkeys(SHARED) | {"no_dispatch": False, "quiet": False, "verbose": False}

CHANGING: dict[str, object] = {
    "dry_run": Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")],
    "yes": Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")],
    "force": Annotated[bool, typer.Option("--force", help="Proceed even if a consumer is active.")],
    "confirm_name": Annotated[
        str | None,
        typer.Option(
            "--confirm",
            help="Confirm by typing the name of what is changed.",
            metavar="NAME",
            autocompletion=complete.groups,
        ),
    ],
    "all_streams": Annotated[
        bool, typer.Option("--all-streams", help="Change every stream, where several are configured.")
    ],
}
"""Name -> annotation of the options of commands that change something; each has those that apply."""

# --- what the options mean -----------------------------------------------------------------------------------------


def say_if_missing(ctx: Context) -> None:
    """An empty answer has two meanings; say which."""
    with suppress(WrongType):
        if ctx.stream.info() is None:
            ctx.printer.note(f"there is no stream {ctx.stream.key} yet")


def forbid(*rules: tuple[bool, str]) -> None:
    """Raises Usage with the words of the first rule that is broken."""
    for broken, words in rules:
        if broken:
            raise Usage(words)


def require_order(start: EntryId | None, end: EntryId | None, first: str = "--from", last: str = "--to") -> None:
    """Raises Usage for a range that ends before it begins."""
    if start is not None and end is not None and start > end:
        raise Usage(f"{first} {start} is after {last} {end}", hint=f"give {first} the earlier of the two")


def read_ids(ctx: Context, ids: Sequence[EntryId] | None, source: str | None) -> list[EntryId]:
    """Ids from arguments, and from `--ids FILE` or `--ids -`, each once, in their order. Raises Usage."""
    found = dict.fromkeys(ids or ())
    if source is not None:
        if ctx.ids is None:
            found |= dict.fromkeys(read_entries(ctx, source)[ctx.settings.stream])
        else:
            found |= dict.fromkeys(ctx.ids)
    return list(found)


def read_entries(ctx: Context, source: str) -> dict[str, dict[EntryId, None]]:
    """The ids in a file or, for `-`, on stdin, by stream. Raises Usage."""
    streams = ctx.settings.streams
    try:
        if source == "-":
            return _parsed(ctx.terminal.stdin, source, streams)
        with open(source, encoding="utf-8") as file:  # noqa: PTH123 - a path as typed, /dev/fd/63 too
            return _parsed(file, source, streams)
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"--ids: {source} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from None


def _parsed(lines: Iterable[str], source: str, streams: Sequence[str]) -> dict[str, dict[EntryId, None]]:
    """Line by line: a million ids as one text beside themselves would cost twice the memory."""
    found: dict[str, dict[EntryId, None]] = {stream: {} for stream in streams}
    for number, line in enumerate(lines, 1):
        if word := line.strip():
            try:
                stream, key = placed(parse_entry(word), streams)
            except Usage as error:
                raise Usage(f"--ids: line {number} of {source}: {error}", hint=error.hint) from None
            found[stream][key] = None
    return found
