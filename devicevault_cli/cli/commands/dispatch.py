"""dvctl dispatch: configurations to the storage workers, the group and the results table untouched."""

from typing import Annotated

import typer

from devicevault_cli.cli.changes import change, planned, ready_database
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.named import typed_device, unmatched
from devicevault_cli.cli.options import (
    END,
    START,
    Device,
    EntryIds,
    IdsFrom,
    Rate,
    Since,
    TypedEnd,
    TypedStart,
    forbid,
    read_ids,
    require_order,
)
from devicevault_cli.errors import Usage


@command(
    "dvctl dispatch --missing --dry-run",
    "dvctl dispatch --missing --since -2h --yes",
    "dvctl verify --storage --show not_stored -o ids | dvctl dispatch --ids - --yes",
    database=True,
    changes=True,
    streams="each",
)
def dispatch(
    ctx: Context,
    words: EntryIds = None,
    ids_from: IdsFrom = None,
    start: TypedStart = None,
    end: TypedEnd = None,
    since: Since = None,
    device: Device = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only successes without a stored backup whose location is git or fs.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Also successes that have a stored backup.")] = False,
    rate: Rate = None,
) -> None:
    """Hand configurations to the storage workers.

    For successes that have their row and no successful stored backup. The broker is that of --broker-url. A task for
    an entry always has the same Celery id, so that workers and dvctl recognize it.
    """
    from devicevault_cli.operations.dispatch.dispatch import DispatchOptions, plan_dispatch
    from devicevault_cli.operations.replay.selection import Selection, from_stream

    selection = Selection(
        ids=read_ids(ctx, words, ids_from) if words or ids_from is not None else None,
        start=max(start or START, since or START),
        end=end or END,
        device=device,
    )
    if selection == Selection() and not missing and all(value is None for value in (start, end, since)):
        raise Usage("no entries are chosen", hint="give --missing, ids, a range or --device")
    forbid(
        (missing and again, "--missing and --again exclude each other"),
        (not ctx.pipeline.dispatches, "only the results pipeline has configurations; use --pipeline results"),
    )
    require_order(selection.start, selection.end)
    publisher = None if ctx.dry_run else ctx.required_publisher()
    _ = ctx.broker  # the plan names it, that of a dry run too
    options = DispatchOptions(missing, again, rate, typed=selection.ids is not None)
    source = from_stream(ctx.stream, selection)
    repository = ready_database(ctx)
    if publisher is not None:
        publisher.check()
    with ctx.printer.progress("dispatching") as progress:
        change(
            ctx,
            lambda: unmatched(
                plan_dispatch(
                    ctx.stream.key,
                    source,
                    ctx.pipeline,
                    repository,
                    publisher,
                    options,
                    progress,
                    most=planned(ctx),
                ),
                lambda: typed_device(ctx, device),
            ),
            "Hand these configurations to the storage workers?",
        )
