"""dvctl trim: removing what nobody needs."""

from pathlib import Path
from typing import Annotated

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.changes import change, ready_database
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import forbid
from devicevault_cli.cli.values import duration, whole_number
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import now_ms


@command(
    "dvctl trim --dry-run",
    "dvctl trim --keep 7d --yes",
    "dvctl trim --keep 30d --export removed.jsonl",
    "dvctl trim --max-length 100000 --ignore-group retired-group",
    database=True,
    changes=True,
    streams="each",
)
def trim(
    ctx: Context,
    keep: Annotated[int | None, duration("--keep", text="Always keep entries newer than this.")] = None,
    max_length: Annotated[
        int | None, whole_number("--max-length", text="Always keep this many of the newest entries.", least=0)
    ] = None,
    ignore_group: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore-group",
            help="Trim although this group still needs entries; repeatable.",
            metavar="NAME",
            autocompletion=complete.groups,
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", help="First write the entries to this new file, whole.", metavar="FILE", readable=False
        ),
    ] = None,
) -> None:
    """Remove old entries that nobody needs.

    Removed are entries that every group has passed and that are persisted, dead, discarded or skipped. Never further
    than the floor: the oldest entry that some group or the table still needs or, if a broker is configured, whose
    configuration has no successful stored backup yet (--no-dispatch leaves configurations out of account). The plan
    names what blocks. Without --keep or --max-length every entry below the floor is removed.

    There is no undo except from an export: --export FILE writes the entries first, with device_config, checksummed and
    0600; if that fails, nothing is removed. `dvctl publish --file FILE` puts them at the end of the stream,
    `dvctl replay --file FILE` into the table.
    """
    from devicevault_cli.operations.entries.trim import Keep, plan_trim

    forbid((export is not None and ctx.whole is not None, "--export writes one stream: name it with --stream"))
    since = None if keep is None else EntryId(max(0, now_ms() - keep), 0)
    dispatches = ctx.dispatches
    repository = ready_database(ctx, trusting=True)
    with ctx.printer.progress("looking at entries") as progress:
        change(
            ctx,
            lambda: plan_trim(
                ctx.stream,
                ctx.dead_letters,
                ctx.pipeline,
                repository,
                Keep(since, max_length, export),
                ignore_group or (),
                progress,
                dispatches=dispatches,
            ),
            "Remove these entries?",
        )
