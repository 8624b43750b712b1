"""dvctl reset-group, destroy-group, restore-group: a group's position and existence."""

from pathlib import Path
from typing import Annotated

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.changes import change, ready_database
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.snapshot_file import given, require_file
from devicevault_cli.errors import Usage
from devicevault_cli.times import now_ms


@command(
    "dvctl reset-group --to -2h --dry-run",
    "dvctl reset-group --to 2026-01-12T04:00:00Z",
    "dvctl reset-group --to start --yes",
    database=True,
    changes=True,
    force=True,
    streams="each",
)
def reset_group(
    ctx: Context,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Deliver from the first entry at or after this id or time, start, or end.",
            metavar="ID|TIME|-DURATION",
        ),
    ],
) -> None:
    """Move the group's position back or forth.

    Pending entries stay. The plan says how many entries come again, how many of these have rows already, how many
    configurations would be dispatched, and which entries would be skipped. Refused while a consumer of the group is
    alive. A snapshot is written first; the undo line names it.
    """
    from devicevault_cli.operations.groups.reset import plan_reset, target

    first = target(to, now_ms())
    dispatches = ctx.dispatches
    repository = ready_database(ctx)
    with ctx.printer.progress("looking at entries") as progress:
        change(
            ctx,
            lambda: plan_reset(
                ctx.group,
                first,
                ctx.pipeline,
                repository,
                force=ctx.force,
                dispatches=dispatches,
                progress=progress,
            ),
            f"Move group {ctx.group.name}?",
        )


@command(
    "dvctl destroy-group --dry-run",
    "dvctl destroy-group --group devicevault --confirm devicevault",
    changes=True,
    force=True,
    typed=True,
    streams="each",
)
def destroy_group(ctx: Context) -> None:
    """Delete the group after writing a snapshot of it.

    restore-group puts the snapshot back. Refused while a consumer of the group is alive. A consumer that runs, or
    starts, creates the group again at 0.
    """
    from devicevault_cli.operations.groups.destroy import plan_destroy

    if ctx.confirm_name is not None and ctx.confirm_name != ctx.group.name:
        raise Usage(
            f"--confirm {ctx.confirm_name} does not match the group {ctx.group.name}; no changes made",
            hint=f"type --confirm {ctx.group.name}",
        )
    with ctx.printer.progress("writing the snapshot") as progress:
        change(
            ctx,
            lambda: plan_destroy(ctx.group, force=ctx.force, progress=progress),
            f"Delete group {ctx.group.name}?",
        )


@command(
    "dvctl restore-group devicevault-20260112T044700.jsonl --dry-run",
    "dvctl restore-group FILE --yes",
    changes=True,
    force=True,
    streams="own",
)
def restore_group(
    ctx: Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A snapshot; `dvctl snapshots` lists them.",
            metavar="FILE",
            readable=False,
            callback=given("restore-group"),
            autocompletion=complete.snapshots,
        ),
    ] = None,
) -> None:
    """Put a snapshot of a group back.

    The group may exist. Restored are position, consumers, pending entries with owner, delivery count and idle time;
    entries-read from Redis 7.0 on. Other pending entries stay. A snapshot of claim or consumers retire has no position:
    its entries go back to their owners, except those that were acknowledged since. What was deleted since cannot come
    back, nor can the idle times of consumers. Refused while a client that is not dvctl waits for messages of the group.
    The present state is written to a snapshot first.
    """
    from devicevault_cli.operations.groups.restore import plan_restore
    from devicevault_cli.streams.group import Group

    assert file is not None  # noqa: S101 - see given
    path = file
    require_file(path)
    with ctx.printer.progress("restoring") as progress:
        change(
            ctx,
            lambda: plan_restore(
                lambda key, name: Group(ctx.stream_named(key), name), path, force=ctx.force, progress=progress
            ),
            "Restore this snapshot?",
            ids=lambda answer: answer["unrestorable"],
        )
