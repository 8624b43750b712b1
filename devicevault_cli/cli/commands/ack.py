"""dvctl ack: acknowledging by hand."""

from typing import Annotated

import typer

from devicevault_cli.cli.changes import change
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import EntryIds, IdsFrom, read_ids
from devicevault_cli.errors import Usage


@command(
    "dvctl ack 1767225600000-0 --dry-run",
    "dvctl ack 1767225600000-0 --why 'the device was retired'",
    "dvctl pending --consumer worker-3 -o ids | dvctl ack --ids - --yes",
    changes=True,
    ids=True,
    streams="each",
)
def ack(
    ctx: Context,
    ids: EntryIds = None,
    ids_from: IdsFrom = None,
    why: Annotated[str, typer.Option("--why", help="Reason to record.", metavar="TEXT")] = "ack by hand",
) -> None:
    """Acknowledge pending entries by hand, unprocessed.

    They are recorded as discarded. The plan says which of them have a row already and which results would be lost.
    While an entry is on the stream, `dvctl replay ID` brings it back.
    """
    from devicevault_cli.operations.entries.ack import plan_ack

    chosen = read_ids(ctx, ids, ids_from)
    if not chosen and ids_from is None:
        raise Usage("missing argument ID...", hint="give ids, or --ids - to read them from a pipe")
    repository = ctx.repository if ctx.settings.has_database else None
    if repository is not None:
        repository.check(writing=False)
    change(
        ctx,
        lambda: plan_ack(ctx.group, chosen, ctx.pipeline, repository, why),
        "Acknowledge these entries?",
        ids=lambda answer: answer["acked"],
    )
