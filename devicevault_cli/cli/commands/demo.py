"""dvctl demo: the main job in small, with a crash and an outage, without any server."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.directories import temporary_directory
from devicevault_cli.errors import DvctlError

if TYPE_CHECKING:
    from devicevault_cli.consumer.demo_faults import Place
    from devicevault_cli.output.printer import Printer


@command("dvctl demo", "dvctl demo --keep", "dvctl demo -o json", redis=False, effect="in servers of its own")
def demo(
    ctx: Context,
    keep: Annotated[bool, typer.Option("--keep", help="Keep Redis and the database until Ctrl-C.")] = False,
) -> int:
    """Show the whole pipeline on a private Redis and SQLite.

    Publishes good and bad messages, consumes them, kills a consumer, takes the database away, and shows that nothing
    is lost. It takes about five seconds.

    With --keep both servers stay until Ctrl-C, with the commands to look at them from another terminal.
    """
    from devicevault_cli.consumer.demo import DEVICES, run_demo
    from devicevault_cli.consumer.demo_faults import Place
    from devicevault_cli.output.logs import muted
    from devicevault_cli.repository import open_repository
    from devicevault_cli.repository.tables import RESULTS
    from devicevault_cli.streams.embedded import embedded_redis
    from devicevault_cli.streams.stream import Stream

    with temporary_directory() as folder, embedded_redis() as redis:
        place = Place(Stream(redis.client, "device:results"), redis.url, Path(folder) / "demo.sqlite3")
        repository = open_repository(place.database_url, RESULTS, create=True)
        repository.create_tables()
        repository.add_devices(DEVICES)
        ctx.printer.note(f"Redis: {redis.what}; database: an SQLite file; both are temporary.")
        try:
            with nullcontext() if ctx.verbose else muted():
                answer = run_demo(place, repository, _Story(ctx.printer))
        finally:
            repository.close()
        ctx.printer.answer(answer, lines=_lines)
        if not answer["verify"]["ok"]:
            raise DvctlError("the demo lost something, which must not happen", hint="please report it")
        if keep:
            _keep(ctx, place)
    if not keep:
        ctx.printer.hint("`dvctl demo --keep` keeps Redis and the database to try other commands")
    return 0


class _Story:
    """Numbered steps, and what happened in each."""

    def __init__(self, printer: "Printer") -> None:
        self._printer = printer
        self._number = 0

    def step(self, title: str) -> None:
        self._number += 1
        self._printer.note("")
        self._printer.head(f"{self._number}. {title}")

    def say(self, *lines: str) -> None:
        self._printer.note(*(f"   {line}" for line in lines))

    def rows(self, rows: list[dict[str, Any]]) -> None:
        from devicevault_cli.output.table import columns_of, table

        terminal = self._printer.terminal
        colour = terminal.colour(terminal.stderr_is_tty)
        for line in () if self._printer.quiet else table(rows, columns_of(rows), terminal.width - 3, colour=colour):
            self._printer.line(f"   {line}")


def _keep(ctx: Context, place: "Place") -> None:
    """Wait for Ctrl-C or SIGTERM."""
    from devicevault_cli.cli.signals import interrupted

    ctx.printer.note(
        "",
        "Redis and the database stay until Ctrl-C. In another terminal:",
        f"  export DEVICEVAULT_REDIS_URL={place.redis_url}",
        f"  export DEVICEVAULT_DATABASE_URL={place.database_url}",
        "  dvctl status",
        "  dvctl dlq list",
        "  dvctl publish --device 3 --count 1000",
        "  dvctl consume --drain",
        "  dvctl verify",
    )
    ctx.terminal.stdout.flush()
    interrupted()
    ctx.printer.note("Both are gone.")


def _lines(answer: Any) -> Iterator[str]:
    verified = answer["verify"]
    yield f"{answer['persisted']} rows, {answer['dead_lettered']} dead letters, {verified['classes']['lost']} lost"
