"""dvctl snapshots: the files that undo changes."""

from pathlib import Path
from typing import Annotated

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.changes import change
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.next_page import again
from devicevault_cli.cli.options import Count
from devicevault_cli.cli.snapshot_file import found, given
from devicevault_cli.cli.values import duration, whole_number
from devicevault_cli.times import now_ms

DEFAULT_COUNT = 100


@command("dvctl snapshots", "dvctl snapshots list -o json", redis=False)
def list_(ctx: Context, count: Count = 20) -> None:
    """List the files that undo changes, newest first.

    claim, consumers retire, reset-group, destroy-group and restore-group write one before they change a group, db
    dedupe one with the rows that it removes. Each is shown with the command that restores it, or with what is wrong
    with it. The files stay until `dvctl snapshots prune` deletes them.
    """
    from devicevault_cli.operations.answer import keys_of
    from devicevault_cli.operations.snapshots.list import SavedState, list_snapshots
    from devicevault_cli.output.history_page import snapshots_lines

    answer = list_snapshots(count)
    ctx.printer.answer(answer.to_dict(), "snapshots", view=snapshots_lines, keys=keys_of(SavedState))


@command(
    "dvctl snapshots show devicevault-20260112T044700.jsonl",
    "dvctl snapshots show FILE -n 20",
    "dvctl snapshots show FILE -o ids",
    redis=False,
    ids=True,
)
def show(
    ctx: Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A snapshot; a name without a directory is also looked up where snapshots are.",
            metavar="FILE",
            readable=False,
            callback=given("snapshots show", rows=None),
            autocompletion=complete.saved_files,
        ),
    ] = None,
    count: Annotated[
        int | None, whole_number("--count", "-n", text=f"At most this many ({DEFAULT_COUNT}; -o ids: all).", least=1)
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Start at this entry id or time; for rows at this row id.",
            metavar="ID|TIME|-DURATION",
        ),
    ] = None,
) -> None:
    """Show what a snapshot holds.

    Of a group: position, entries-read, consumers and pending entries, whose idle time is the one when the snapshot was
    written. Of db dedupe: the rows, with passwords in URLs hidden. Also shown are the command and the user, as far as
    the journal knows, and the command that restores the file. A damaged file is an error (exit code 1).
    """
    from devicevault_cli.operations.snapshots.show import ids_in, show_snapshot
    from devicevault_cli.output.snapshot_page import snapshot_lines

    assert file is not None  # noqa: S101 - see given
    path = found(file)
    with ctx.printer.progress("reading") as progress:
        answer = show_snapshot(path, start, count or DEFAULT_COUNT, progress)
    if ctx.settings.output == "ids" and count is None:
        ctx.printer.stream(({"id": str(key)} for key in ids_in(path, start)), {"id": 24})
        return
    ctx.printer.answer(answer.to_dict(), answer.key, view=snapshot_lines, keys=answer.heads)
    if answer.next_from is not None:
        shown = f"{len(answer.entries) + len(answer.rows):,} of {answer.total:,} shown"
        filters = {"--count": count, "--from": answer.next_from}
        ctx.printer.hint(f"{shown}; for the next page: {again(ctx, filters, str(path))}")


@command(
    "dvctl snapshots prune --keep 30d --dry-run", "dvctl snapshots prune --keep 90d --yes", redis=False, changes=True
)
def prune(
    ctx: Context, keep: Annotated[int, duration("--keep", text="Keep snapshots that are newer than this.")]
) -> None:
    """Delete old snapshots.

    The changes that they were written before cannot be undone afterwards.
    """
    from devicevault_cli.operations.snapshots.prune import plan_prune

    before = max(0, now_ms() - keep)
    change(ctx, lambda: plan_prune(before), "Delete these snapshots?")
