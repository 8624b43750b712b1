"""dvctl top: the group, live."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.values import parsed
from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.times import parse_pause

if TYPE_CHECKING:
    from devicevault_cli.operations.monitoring.top import TopAnswer
    from devicevault_cli.output.live import Page
    from devicevault_cli.repository.repository import Repository

FAILURES = 10
SHORTEST_MS = 200


@command("dvctl top", "dvctl top --pipeline storage --interval 5s", screen=True)
def top(
    ctx: Context,
    interval: Annotated[
        int,
        typer.Option(
            "--interval",
            help="Time between two looks.",
            metavar="DURATION",
            parser=parsed(parse_pause, SHORTEST_MS, " ms"),
            show_default="2s",
        ),
    ] = 2000,
) -> None:
    """Watch lag, rates, consumers and new dead letters live.

    The key q ends it. An outage of Redis or of the database is shown and waited for.
    """
    from devicevault_cli.operations.monitoring.top import DatabaseProbe, Top

    terminal = ctx.terminal
    if not terminal.can_draw:
        raise Usage(
            "top needs a terminal to draw on",
            hint="`dvctl status` and `dvctl check` answer once, `consume` serves metrics",
        )
    state = Top(ctx.group)
    # An unreachable Redis is reported as by every command, before the screen is taken.
    found: TopAnswer | DvctlError = state.read(FAILURES)
    from devicevault_cli.output.screen import screen

    with screen(terminal) as page, DatabaseProbe(_opener(ctx)) as database:
        while True:
            width, height = page.size
            page.show(list(_lines(ctx, found, database.error, width))[: height - 1])
            pressed = page.key(interval / 1000)
            if pressed == "\x03":
                raise KeyboardInterrupt
            if pressed in ("q", "Q"):
                return
            try:
                found = state.read(FAILURES)
            except DvctlError as error:  # also a key that holds something else for now
                found = error


def _opener(ctx: Context) -> "Callable[[], Repository] | None":
    """What opens a repository of the thread's own; None where no database is configured."""
    if not ctx.settings.has_database:
        return None

    def opened() -> "Repository":
        from devicevault_cli.repository import open_repository
        from devicevault_cli.repository.tables import TABLES

        return open_repository(ctx.settings.database_url, TABLES[ctx.pipeline.table])

    return opened


def _lines(ctx: Context, found: "TopAnswer | DvctlError", database: DvctlError | None, width: int) -> Iterator[str]:
    """The page as lines."""
    from devicevault_cli.output.live import lines, trouble

    about = (ctx.settings.stream, ctx.settings.group)
    coloured = ctx.terminal.colour(ctx.terminal.stdout_is_tty)
    if isinstance(found, DvctlError):
        return trouble(*about, str(found), coloured)
    return lines(*about, _page(found, database), width, coloured)


def _page(found: "TopAnswer", database: DvctlError | None) -> "Page":
    from devicevault_cli.operations.monitoring.status import database_state
    from devicevault_cli.output.live import GroupFigures, Page

    group = found.group
    return Page(
        found.status.stream.length if found.status.stream else None,
        GroupFigures(group.lag, group.lag_s, group.pending, group.oldest_pending_age_ms, *found.rates)
        if group
        else None,
        found.status.dead.length,
        found.status.discarded,
        [consumer.to_dict() for consumer in found.consumers],
        [letter.to_dict() for letter in found.failures],
        found.incidents,
        f"{database_state(database)} ({database})" if database else None,
    )
