"""dvctl reset-group, destroy-group, restore-group: a group's position and existence."""

from pathlib import Path
from typing import Annotated

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.changes import change, ready_database
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.errors import Usage
from devicevault_cli.times import now_ms


@command(
    "dvctl reset-group --to -2h --dry-run",
    "dvctl reset-group --to 2026-01-12T04:00:00Z",
    "dvctl reset-group --to start --yes",
    database=True,
    changes=True,
    force=True,
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


def _given(file: Path | None) -> Path:
    """Raises Usage, with the snapshots there are, where none is given."""
    if file is None:
        from devicevault_cli.operations.groups.snapshots import there

        raise Usage(f"missing argument FILE; {there()}", hint="run `dvctl restore-group --help` to see every option")
    return file


def _require_file(file: Path) -> None:
    """Raises Usage, with the nearest of the snapshots there are, for a file that does not exist."""
    from devicevault_cli.nearest import nearest
    from devicevault_cli.operations.groups.snapshots import newest, there

    if file.exists():
        return
    paths = {path.name: path for path in newest(1000)}
    close = [str(paths[name]) for name in nearest(file.name, paths)]
    meant = f"did you mean {' or '.join(close)}?" if close else there()
    raise Usage(f"there is no file {file}; {meant}")


@command(
    "dvctl restore-group devicevault-20260112T044700.jsonl --dry-run",
    "dvctl restore-group FILE --yes",
    changes=True,
    force=True,
)
def restore_group(
    ctx: Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A snapshot; `dvctl snapshots` lists them.",
            metavar="FILE",
            readable=False,
            callback=_given,
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
    from devicevault_cli.streams.stream import Stream

    assert file is not None  # noqa: S101 - see _given
    path = file
    _require_file(path)
    with ctx.printer.progress("restoring") as progress:
        change(
            ctx,
            lambda: plan_restore(
                lambda key, name: Group(Stream(ctx.client, key), name), path, force=ctx.force, progress=progress
            ),
            "Restore this snapshot?",
            ids=lambda answer: answer["unrestorable"],
        )
