"""dvctl show: entries whole."""

from typing import Annotated

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.named import looked_up
from devicevault_cli.cli.options import EntryIds, IdsFrom, read_ids
from devicevault_cli.errors import Usage


@command(
    "dvctl show 1767225600000-0",
    "dvctl pending -o ids | dvctl show --ids -",
    "dvctl show 1767225600000-0 --reveal -o json",
    database=True,
    streams="each",
)
def show(
    ctx: Context,
    ids: EntryIds = None,
    ids_from: IdsFrom = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show device_config instead of its size and hash.")] = False,
) -> None:
    """Show entries with every field.

    Also shows where each entry stands, and what consuming it would do.
    """

    from devicevault_cli.operations.entries.show import show as read
    from devicevault_cli.operations.named import named_entries
    from devicevault_cli.output.entries_page import show_lines

    wanted = read_ids(ctx, ids, ids_from)
    if not wanted:
        raise Usage("missing argument ID...", hint="give ids, or --ids - to read them from a pipe")
    answer = read(wanted, ctx.group, ctx.dead_letters, ctx.pipeline, ctx.repository, reveal=reveal)
    names = named_entries(ctx.stream.key, ctx.stream, wanted, answer.unknown)
    looked_up(ctx, answer.to_dict(), names, "entries", view=show_lines)
