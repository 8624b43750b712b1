"""dvctl snapshots: the files that undo changes."""

from typing import Annotated

from devicevault_cli.cli.changes import change
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import Count
from devicevault_cli.cli.values import duration
from devicevault_cli.times import now_ms


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
