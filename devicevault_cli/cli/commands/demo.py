"""dvctl demo: the main job in small, without any server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.directories import temporary_directory
from devicevault_cli.errors import DvctlError


@command("dvctl demo", "dvctl demo -o json", redis=False, effect="in servers of its own")
def demo(ctx: Context) -> int:
    """Show the whole pipeline on a private Redis and SQLite.

    Publishes good and bad messages, consumes them, and shows dead letters and the result of verify.
    """
    from devicevault_cli.consumer.demo import DEVICES, run_demo
    from devicevault_cli.repository import open_repository
    from devicevault_cli.repository.tables import RESULTS
    from devicevault_cli.streams.embedded import embedded_redis
    from devicevault_cli.streams.stream import Stream

    def tell(sentence: str, rows: list[dict[str, Any]] | None = None) -> None:
        ctx.printer.note(sentence)
        if rows:
            ctx.printer.table(rows)

    with temporary_directory() as folder, embedded_redis() as (client, what):
        repository = open_repository(f"sqlite:///{Path(folder) / 'demo.sqlite3'}", RESULTS, create=True)
        repository.create_tables()
        repository.add_devices(DEVICES)
        tell(f"Redis: {what}. Database: an SQLite file. Both are gone afterwards.")
        try:
            answer = run_demo(Stream(client, "device:results"), repository, tell)
        finally:
            repository.close()
    ctx.printer.answer(answer, lines=_lines)
    if not answer["verify"]["ok"]:
        raise DvctlError("the demo lost something, which must not happen", hint="please report it")
    ctx.printer.hint("`dvctl consume --help` shows how to do this for real")
    return 0


def _lines(answer: Any) -> Iterator[str]:
    verified = answer["verify"]
    yield f"{answer['persisted']} rows, {answer['dead_lettered']} dead letters, {verified['classes']['lost']} lost"
