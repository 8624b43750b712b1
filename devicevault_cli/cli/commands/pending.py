"""dvctl pending: what is delivered and not acknowledged."""

from __future__ import annotations

from typing import Annotated

from devicevault_cli.cli.arguments import Option
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.named import answered, conclude, typed_consumer
from devicevault_cli.cli.next_page import again
from devicevault_cli.cli.options import CLAIM_IDLE_MS, END, START, ClaimIdle, End, Start, command, require_order
from devicevault_cli.operations.entries import pending as operation
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import exact_duration, parse_duration

PAGE = 100
COLUMNS = ("id", "consumer", "idle_ms", "age_ms", "deliveries", "state", "device_id")


@command("dvctl pending --summary", "dvctl pending --min-idle 5m -o ids | dvctl claim --ids - --yes", ids=True)
def pending(
    run: Runtime,
    owner: Annotated[
        str | None, Option("--consumer", "Only what this consumer holds.", "NAME", complete="consumers")
    ] = None,
    min_idle: Annotated[
        int, Option("--min-idle", "Only entries idle for at least this long.", "DURATION", parse_duration)
    ] = 0,
    count: Annotated[
        int | None, Option("-n/--count", f"At most this many ({PAGE}; -o ids: all).", "N", least=1)
    ] = None,
    start: Start = START,
    end: End = END,
    claim_idle: ClaimIdle = CLAIM_IDLE_MS,
    summary: Annotated[bool, Option("--summary", "Only how many, and whose.")] = False,
) -> None:
    """List pending entries, oldest first, a page at a time.

    The totals are of what the options select. The command for the next page stands below a page that is not the last
    one. With -o ids all entries are listed, for another command.
    """
    require_order(start, end)
    if run.settings.output == "ids" and count is None and not summary:
        rows = operation.all_pending(run.group, consumer=owner, min_idle_ms=min_idle, start=start, end=end)
        run.printer.stream(rows, {"id": 24})
        conclude(run, typed_consumer(run, owner))
        return
    answer = operation.pending(
        run.group,
        consumer=owner,
        min_idle_ms=min_idle,
        count=count or PAGE,
        start=start,
        end=end,
        claim_idle_ms=claim_idle,
        summary_only=summary,
    )
    names = typed_consumer(run, owner)
    if not answer["total"] and not names.unknown and run.group.info() is None:
        run.printer.note(f"there is no group {run.group.name} on {run.stream.key} yet")
    if summary and run.settings.output != "json":
        del answer["entries"], answer["next_from"]
        answered(run, answer, names)
        return
    following = answer["next_from"]
    if run.printer.output == "table":
        del answer["next_from"]
    answered(run, answer, names, "entries", columns=COLUMNS)
    if following:
        filters = {
            "--consumer": owner,
            "--min-idle": exact_duration(min_idle) if min_idle else None,
            "--count": count,
            "--from": following,
            "--to": _last(end) if end != END else None,
            "--claim-idle": exact_duration(claim_idle) if claim_idle != CLAIM_IDLE_MS else None,
        }
        shown = f"{len(answer['entries']):,} of {answer['total']:,} shown"
        run.printer.hint(f"{shown}; for the next page: {again(run, filters)}")
    if any(each["state"] == "stuck" for each in answer["entries"]):
        run.printer.hint("any running `dvctl consume` takes stuck entries over; `dvctl claim` lets it do so at once")


def _last(end: EntryId) -> str:
    """The last id, as `--to` takes it: without a sequence number it means the whole millisecond."""
    return str(end.ms) if end.seq == END.seq else str(end)
