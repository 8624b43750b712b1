"""dvctl status: one look at everything."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context

if TYPE_CHECKING:
    from devicevault_cli.operations.monitoring.incidents import Incident


@command("dvctl status", "dvctl status --pipeline storage -o json")
def status(ctx: Context) -> int:
    """Show stream, groups, consumers, lag, table and dead letters.

    Also says whether storage dispatch is on, by the settings: `dvctl doctor` asks the broker.
    Where the database is away the rest is shown, and the exit code is that of the error: 69, 77 or 78.
    """
    from devicevault_cli.operations.monitoring.status import status as read_status
    from devicevault_cli.operations.monitoring.status import table_status
    from devicevault_cli.plural import number

    ctx.stream.ping()  # where Redis is away too, nothing is worth waiting for the database
    table = table_status(ctx.pipeline.table, lambda: ctx.repository) if ctx.settings.has_database else None
    known = ctx.repository if table and table.error is None else None
    answer = read_status(ctx.stream, ctx.dead_letters, table, repository=known, dispatch=ctx.dispatch)
    if answer.stream is None:
        ctx.printer.note(f"there is no stream {ctx.stream.key} yet")
    elif answer.stream.length and ctx.settings.group not in {group.name for group in answer.groups}:
        waiting = number(answer.stream.length, "entry waits", "entries wait")
        ctx.printer.warn(f"no group {ctx.settings.group}: {waiting}, start `dvctl consume`")
    if table is None:
        ctx.printer.hint("no database is configured, so rows are not counted; give --database-url")
    shown = answer.to_dict()
    if ctx.printer.output == "table":
        shown |= {"table": table and table.summary, "incidents": _sentences(answer.incidents)}
        shown |= {"dispatch": ctx.dispatch.line}
    ctx.printer.answer(shown, "groups", ("name", "consumers", "pending", "lag", "lag_source", "lag_s"))
    if answer.incidents:
        ctx.printer.hint("once the cause is known: `dvctl incidents acknowledge`")
    if answer.dead.length:
        ctx.printer.hint("`dvctl dlq list` shows the dead letters")
    if any(consumer.pending and not consumer.alive for consumer in answer.consumers):
        ctx.printer.hint("`dvctl pending` shows what consumers hold that are not alive")
    if table is None or table.error is None:
        return 0
    ctx.printer.error(str(table.error), table.error.hint)
    return table.error.exit_code


def _sentences(incidents: "Sequence[Incident] | None") -> str:
    """For people: what happened, in one cell."""
    if incidents is None:
        return "unknown"
    return "; ".join(f"{incident.at} {incident.detail}" for incident in incidents) or "none"
