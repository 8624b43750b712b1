"""dvctl claim: taking pending entries over, or releasing them."""

from typing import Annotated

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.changes import change
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import ClaimIdle, EntryIds, IdsFrom, read_ids
from devicevault_cli.cli.values import duration, parse_name, parsed
from devicevault_cli.errors import Usage
from devicevault_cli.operations.monitoring.limits import CLAIM_IDLE_MS


@command(
    "dvctl claim --from worker-3 --to worker-1",
    "dvctl claim --idle 10m --dry-run",
    "dvctl pending --min-idle 5m -o ids | dvctl claim --ids - --yes",
    changes=True,
    ids=True,
    streams="each",
)
def claim(
    ctx: Context,
    ids: EntryIds = None,
    ids_from: IdsFrom = None,
    idle: Annotated[int | None, duration("--idle", text="Only entries idle for at least this long.")] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            "--from", help="Only entries held by this consumer.", metavar="NAME", autocompletion=complete.consumers
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Consumer that takes the entries over; created if new.",
            metavar="NAME",
            parser=parsed(parse_name),
            autocompletion=complete.consumers,
        ),
    ] = None,
    release: Annotated[
        bool, typer.Option("--release", help="Leave the entries to the next active consumer (default).")
    ] = False,
    claim_idle: ClaimIdle = CLAIM_IDLE_MS,
) -> None:
    """Move pending entries to a consumer, or release them.

    Delivery counts stay. Without --to the entries are released: owner and count stay, and the idle time is set beyond
    --claim-idle, so that the next active consumer takes them. Entries that are no longer on the stream are cleared.
    Redis counts a claim as activity of the consumer it names, also of the owner of released entries.
    """
    from devicevault_cli.operations.entries.claim import ClaimFilter, plan_claim

    if to is not None and release:
        raise Usage("--to and --release exclude each other")
    chosen_ids = read_ids(ctx, ids, ids_from) if ids or ids_from is not None else None
    if chosen_ids is None and idle is None and owner is None:
        raise Usage("no entries are chosen", hint="give ids, --from or --idle; --idle 0 chooses all")
    chosen = ClaimFilter(chosen_ids, owner, idle or 0)
    with ctx.printer.progress("claiming") as progress:
        change(
            ctx,
            lambda: plan_claim(ctx.group, chosen, to, claim_idle_ms=claim_idle, progress=progress),
            f"Move these entries to {to}?" if to else "Release these entries?",
            ids=lambda answer: answer["claimed"] + answer["released"],
        )
