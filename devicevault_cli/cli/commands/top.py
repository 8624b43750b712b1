"""dvctl top: the group, live."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from devicevault_cli.cli.arguments import Option
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.options import command
from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.times import parse_pause

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

FAILURES = 10
SHORTEST_MS = 200


@command("dvctl top", "dvctl top --pipeline storage --interval 5s", screen=True)
def top(
    run: Runtime,
    interval: Annotated[
        int, Option("--interval", "Time between two looks.", "DURATION", parse_pause, least=SHORTEST_MS)
    ] = 2000,
) -> None:
    """Watch the group live: lag, rates, consumers, newest dead letters.

    The key q ends it. An outage of Redis or of the database is shown and waited for.
    """
    from devicevault_cli.operations.monitoring.table_state import DatabaseWatch
    from devicevault_cli.operations.monitoring.top import Live

    terminal = run.terminal
    if not (terminal.stdin_is_tty and terminal.stdout_is_tty) or terminal.environ.get("TERM") == "dumb":
        raise Usage(
            "top needs a terminal to draw on",
            hint="`dvctl status` and `dvctl check` answer once, `consume` serves metrics",
        )
    live = Live(run.group)
    # Whether Redis answers at all is told as by every command, before the screen is taken.
    looked: dict[str, Any] | DvctlError = live.look(FAILURES)
    from devicevault_cli.output.screen import screen

    with screen(terminal) as page, DatabaseWatch(_opener(run)) as database:
        while True:
            width, height = page.size
            page.show(list(_lines(run, looked, database.error, width))[: height - 1])
            pressed = page.key(interval / 1000)
            if pressed == "\x03":
                raise KeyboardInterrupt
            if pressed in ("q", "Q"):
                return
            try:
                looked = live.look(FAILURES)
            except DvctlError as error:  # also a key that holds something else for now
                looked = error


def _opener(run: Runtime) -> Callable[[], Repository] | None:
    """What opens a repository of the thread's own; None where no database is configured."""
    if not run.settings.has_database:
        return None

    def opened() -> Repository:
        from devicevault_cli.repository.repository import open_repository
        from devicevault_cli.repository.tables import TABLES

        return open_repository(run.settings.database_url, TABLES[run.pipeline.table])

    return opened


def _lines(run: Runtime, looked: dict[str, Any] | DvctlError, database: DvctlError | None, width: int) -> Iterator[str]:
    """What a look gave, as lines."""
    from devicevault_cli.operations.monitoring.table_state import state_of
    from devicevault_cli.output.live import lines, trouble

    about = (run.settings.stream, run.settings.group)
    coloured = run.terminal.colour(run.terminal.stdout_is_tty)
    if isinstance(looked, DvctlError):
        return trouble(*about, str(looked), coloured)
    away = f"{state_of(database)} ({database})" if database else None
    return lines(*about, looked | {"database": away}, width, coloured)
