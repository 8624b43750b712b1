"""dvctl status: one look at everything."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import forbid
from devicevault_cli.cli.values import parsed
from devicevault_cli.errors import DvctlError
from devicevault_cli.times import parse_pause

if TYPE_CHECKING:
    from devicevault_cli.operations.monitoring.status import StatusAnswer
    from devicevault_cli.output.view import View

EVERY_MS = 2000


def _line(answer: "Mapping[str, Any]") -> "Mapping[str, Any]":
    """What the table of several streams shows of one: the sums of its groups."""
    stream, groups, consumers = answer["stream"] or {}, answer["groups"], answer["consumers"]
    lags = [group["lag"] for group in groups]
    return {
        "length": stream.get("length", 0),
        "lag": None if None in lags else sum(lags),
        "pending": sum(group["pending"] for group in groups),
        "consumers": sum(consumer["alive"] is not False for consumer in consumers),
        "dead": answer["dead"]["length"],
        "incidents": None if answer["incidents"] is None else len(answer["incidents"]),
    }


@command(
    "dvctl status",
    "dvctl status --watch",
    "dvctl status --pipeline storage -o json",
    streams="each",
    columns=_line,
)
def status(
    ctx: Context,
    watch: Annotated[bool, typer.Option("--watch", help="Show it repeatedly, until q or Ctrl-C.")] = False,
    every: Annotated[
        int | None,
        typer.Option(
            "--every",
            help="With --watch: pause between two looks (2s).",
            metavar="DURATION",
            parser=parsed(parse_pause, 200, " ms"),
        ),
    ] = None,
) -> int:
    """Show stream, groups, consumers, lag, table and dead letters.

    Also says whether storage dispatch is on, by the settings: `dvctl doctor` asks the broker.
    Where the database is away the rest is shown, and the exit code is that of the error: 69, 77 or 78.
    """
    from devicevault_cli.operations.answer import keys_of
    from devicevault_cli.operations.monitoring.status import GroupStatus

    terminal = ctx.terminal
    forbid(
        (every is not None and not watch, "--every needs --watch"),
        (watch and ctx.printer.output != "table", "--watch draws on a terminal: no -o"),
        (watch and not terminal.can_draw, "--watch needs a terminal to draw on"),
        (watch and ctx.whole is not None, "--watch draws one stream: name it with --stream"),
    )
    answer = _read(ctx)
    if watch:
        return _watch(ctx, answer, (every or EVERY_MS) / 1000)
    picture = partial(_picture, ctx, answer)
    ctx.printer.answer(answer.to_dict(), "groups", view=picture, keys=keys_of(GroupStatus))
    _advise(ctx, answer)
    if answer.table is None or answer.table.error is None:
        return 0
    if ctx.is_first:
        ctx.printer.error(str(answer.table.error), answer.table.error.hint, int(answer.table.error.exit_code))
    return answer.table.error.exit_code


def _read(ctx: Context) -> "StatusAnswer":
    from devicevault_cli.operations.monitoring.status import status as read_status

    ctx.stream.ping()  # where Redis is away too, nothing is worth waiting for the database
    table = ctx.whole_table if ctx.settings.has_database else None
    known = ctx.repository if table and table.error is None else None
    return read_status(ctx.stream, ctx.dead_letters, table, repository=known, dispatch=ctx.dispatch)


def _picture(ctx: Context, answer: "StatusAnswer", _: object, view: "View") -> Iterator[str]:
    from devicevault_cli.operations.monitoring.verdict import verdict
    from devicevault_cli.output.status_page import status_lines

    facts = answer.to_dict() | {"table": answer.table and answer.table.summary}
    return status_lines(facts, view, *verdict(answer, ctx.stream.key, ctx.settings.group), ctx.dispatch.line)


def _advise(ctx: Context, answer: "StatusAnswer") -> None:
    """What to type next."""
    if answer.stream is None and ctx.printer.output != "table":
        ctx.printer.note(f"there is no stream {ctx.stream.key} yet")
    elif answer.stream and answer.stream.length and ctx.settings.group not in {group.name for group in answer.groups}:
        ctx.printer.hint(f"no group {ctx.settings.group}: start `dvctl consume`, which creates it")
    if answer.table is None:
        ctx.printer.hint("no database is configured, so rows are not counted; give --database-url")
    if answer.incidents:
        ctx.printer.hint("once the cause is known: `dvctl incidents acknowledge`")
    if answer.dead.length:
        ctx.printer.hint("`dvctl dlq list` shows the dead letters")
    if any(consumer.pending and not consumer.alive for consumer in answer.consumers):
        ctx.printer.hint("`dvctl consumers retire` moves what dead consumers hold to another one")


def _watch(ctx: Context, answer: "StatusAnswer", pause_s: float) -> int:
    """Draw anew until q is pressed; an outage of Redis is shown and waited for."""
    from devicevault_cli.output.escapes import visible
    from devicevault_cli.output.screen import screen
    from devicevault_cli.output.view import View

    with screen(ctx.terminal) as page:
        found: StatusAnswer | DvctlError = answer
        while True:
            width, height = page.size
            view = View(width, ctx.printer.view.coloured)
            if isinstance(found, DvctlError):
                lines = [view.state("problem", visible(str(found))), "retrying"]
            else:
                lines = list(_picture(ctx, found, None, view))
            page.show(lines[: height - 1])
            pressed = page.key(pause_s)
            if pressed == "\x03":
                raise KeyboardInterrupt
            if pressed in ("q", "Q"):
                return 0
            try:
                found = _read(ctx)
            except DvctlError as error:
                found = error
