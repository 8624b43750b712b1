"""dvctl status: one look at everything."""

from __future__ import annotations

from devicevault_cli.commands.options import command
from devicevault_cli.runtime import Runtime


@command("dvctl status", "dvctl status --pipeline storage -o json")
def status(run: Runtime) -> None:
    """Show the stream, its groups and consumers, the lag, the table and the dead letters."""
    from devicevault_cli.operations.status import status as look

    repository = run.repository if run.settings.has_database else None
    answer = look(run.stream, run.dead_letters, run.pipeline.table, repository)
    if answer["stream"] is None:
        run.printer.note(f"there is no stream {run.stream.key} yet")
    if repository is None:
        run.printer.hint("no database is configured, so rows are not counted; give --database-url")
    run.printer.answer(answer, "groups", ("name", "consumers", "pending", "lag", "lag_source", "lag_s"))
    if answer["dead"]["length"]:
        run.printer.hint("`dvctl dlq list` shows the dead letters")
    if any(each["pending"] and not each["alive"] for each in answer["consumers"]):
        run.printer.hint("`dvctl pending` shows what consumers hold that are not alive")
