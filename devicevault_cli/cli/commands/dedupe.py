"""dvctl db dedupe: removing surplus rows."""

from devicevault_cli.cli.changes import change, ready_database
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context


@command("dvctl db dedupe --dry-run", "dvctl db dedupe --yes", redis=False, database=True, changes=True)
def dedupe(ctx: Context) -> None:
    """Remove duplicate rows.

    A row is removed if an older row is equal in all but id, timestamp and overall duration. Rows that contradict each
    other are only listed. The rows are written to a file first, which `dvctl db restore` puts back.
    """
    from devicevault_cli.operations.database.dedupe import plan_dedupe

    repository = ready_database(ctx)
    with ctx.printer.progress("comparing rows") as progress:
        change(ctx, lambda: plan_dedupe(repository, progress), "Delete them?")
