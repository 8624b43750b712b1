"""dvctl pending: what is delivered and not acknowledged."""

from typing import Annotated

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.named import answered, conclude, typed_consumer
from devicevault_cli.cli.next_page import again
from devicevault_cli.cli.options import END, START, ClaimIdle, End, Start, require_order
from devicevault_cli.cli.values import duration, whole_number
from devicevault_cli.operations.monitoring.limits import CLAIM_IDLE_MS
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import exact_duration

DEFAULT_COUNT = 100
COLUMNS = ("id", "consumer", "idle_ms", "deliveries", "state")
"""Of several streams."""


@command(
    "dvctl pending --summary",
    "dvctl pending --min-idle 5m -o ids | dvctl claim --ids - --yes",
    ids=True,
    streams="each",
    columns=COLUMNS,
)
def pending(
    ctx: Context,
    owner: Annotated[
        str | None,
        typer.Option(
            "--consumer", help="Only what this consumer holds.", metavar="NAME", autocompletion=complete.consumers
        ),
    ] = None,
    min_idle: Annotated[
        int, duration("--min-idle", text="Only entries idle for at least this long.", show_default=False)
    ] = 0,
    count: Annotated[
        int | None, whole_number("--count", "-n", text=f"At most this many ({DEFAULT_COUNT}; -o ids: all).", least=1)
    ] = None,
    start: Start = START,
    end: End = END,
    claim_idle: ClaimIdle = CLAIM_IDLE_MS,
    summary: Annotated[bool, typer.Option("--summary", help="Only how many, and whose.")] = False,
) -> None:
    """List pending entries, oldest first.

    The totals are of what the options select. The command for the next page stands below a page that is not the last
    one. With -o ids all entries are listed, for another command.
    """

    from devicevault_cli.operations.answer import keys_of
    from devicevault_cli.operations.entries import pending as operation
    from devicevault_cli.output.lists_page import pending_lines

    require_order(start, end)
    chosen = operation.PendingFilter(owner, min_idle, start, end)
    if ctx.settings.output == "ids" and count is None and not summary:
        ctx.printer.stream(({"id": str(key)} for key in operation.pending_ids(ctx.group, chosen)), {"id": 24})
        conclude(ctx, typed_consumer(ctx, owner))
        return
    page = operation.pending(
        ctx.group, chosen, count=count or DEFAULT_COUNT, claim_idle_ms=claim_idle, summary_only=summary
    )
    answer = page.to_dict()
    names = typed_consumer(ctx, owner)
    if not page.total and not names.unknown and ctx.group.info() is None:
        ctx.printer.note(f"there is no group {ctx.group.name} on {ctx.stream.key} yet")
    if summary and ctx.settings.output != "json":
        del answer["entries"], answer["next_from"]
        answered(ctx, answer, names, view=pending_lines)
        return
    answered(ctx, answer, names, "entries", view=pending_lines, keys=keys_of(operation.PendingRow))
    if page.next_from:
        filters = {
            "--consumer": owner,
            "--min-idle": exact_duration(min_idle) if min_idle else None,
            "--count": count,
            "--from": page.next_from,
            "--to": _last(end) if end != END else None,
            "--claim-idle": exact_duration(claim_idle) if claim_idle != CLAIM_IDLE_MS else None,
        }
        shown = f"{len(page.entries):,} of {page.total:,} shown"
        ctx.printer.hint(f"{shown}; for the next page: {again(ctx, filters)}")
    if any(entry.state == "stuck" for entry in page.entries):
        ctx.printer.hint("`dvctl consume` takes stuck entries over; `dvctl claim` releases them now")


def _last(end: EntryId) -> str:
    """The last id, as `--to` takes it: without a sequence number it means the whole millisecond."""
    return str(end.ms) if end.seq == END.seq else str(end)
