"""dvctl journal: the changes that were made on this machine."""

from typing import Annotated

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import Count
from devicevault_cli.cli.values import parsed
from devicevault_cli.operations.entries.positions import parse_start
from devicevault_cli.streams.model import ZERO, EntryId


@command("dvctl journal", "dvctl journal --since -2d", "dvctl journal -n 1 -o json", redis=False)
def journal(
    ctx: Context,
    since: Annotated[
        EntryId,
        typer.Option(
            "--since",
            help="Only changes since this time.",
            metavar="TIME|-DURATION",
            parser=parsed(parse_start),
            show_default=False,
        ),
    ] = ZERO,
    count: Count = 20,
) -> None:
    """Show who changed what, and how to undo it.

    Every changing command adds a line when it ends, also when it fails or is interrupted: time, user, command line
    without secrets, stream and group, servers, result, and the command that undoes it. The newest change is the last.
    The journal is a file of this machine and user; it keeps at least the last 5 MB.
    """
    from devicevault_cli.operations.answer import keys_of
    from devicevault_cli.operations.changes.history import JournalEntry, read_journal
    from devicevault_cli.output.history_page import journal_lines

    answer = read_journal(since.ms, count)
    facts = answer.to_dict()
    keys = [name for name in keys_of(JournalEntry) if name not in ("plan", "result")]
    if ctx.printer.output == "csv":  # whose columns would differ from command to command
        facts["entries"] = [{name: entry[name] for name in keys} for entry in facts["entries"]]
    ctx.printer.answer(facts, "entries", view=journal_lines, keys=keys)
    if answer.unreadable:
        ctx.printer.warn(f"{answer.unreadable:,} lines of {answer.file} cannot be read: cut off or edited")
