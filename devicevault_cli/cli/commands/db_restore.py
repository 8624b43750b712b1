"""dvctl db restore: rows that db dedupe removed."""

from pathlib import Path
from typing import Annotated

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.changes import change, ready_database
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context


@command(
    "dvctl db restore FILE --dry-run",
    "dvctl db restore devices_devicebackupresult-20260112T044700.rows.jsonl --yes",
    redis=False,
    database=True,
    changes=True,
)
def restore(
    ctx: Context,
    file: Annotated[
        Path,
        typer.Argument(
            help="A file of db dedupe.", metavar="FILE", readable=False, autocompletion=complete.removed_rows
        ),
    ],
) -> None:
    """Put rows back that db dedupe removed.

    Rows keep their ids where these are free. Rows that are there already are left out, so that the command can be run
    again. Refused while the unique index exists, which allows no duplicate rows. `dvctl snapshots` lists the files.
    """
    from devicevault_cli.operations.database.restore import plan_restore_rows

    repository = ready_database(ctx)
    with ctx.printer.progress("restoring rows") as progress:
        change(ctx, lambda: plan_restore_rows(repository, file, progress), "Put these rows back?")
