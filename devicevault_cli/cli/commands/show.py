"""dvctl show: entries whole."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.named import looked_up
from devicevault_cli.cli.options import EntryIds, IdsFrom, read_ids
from devicevault_cli.errors import Usage

if TYPE_CHECKING:
    from devicevault_cli.operations.entries.show import ShowAnswer


@command(
    "dvctl show 1767225600000-0",
    "dvctl pending -o ids | dvctl show --ids -",
    "dvctl show 1767225600000-0 --reveal -o json",
    database=True,
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

    wanted = read_ids(ctx, ids, ids_from)
    if not wanted:
        raise Usage("missing argument ID...", hint="give ids, or --ids - to read them from a pipe")
    answer = read(wanted, ctx.group, ctx.dead_letters, ctx.pipeline, ctx.repository, reveal=reveal)
    names = named_entries(ctx.stream.key, ctx.stream, wanted, answer.unknown)
    looked_up(ctx, answer.to_dict(), names, "entries", lines=lambda _: _lines(answer))


def _lines(answer: "ShowAnswer") -> Iterator[str]:
    from devicevault_cli.operations.entries.fields import field_lines

    for entry in answer.entries:
        yield f"{entry.id}  {entry.time}  {entry.state}"
        for name, value in field_lines(entry.fields):
            yield f"  {name:22}  {value}"
        if held := entry.pending:
            yield f"  held by {held.consumer}, idle {held.idle_ms} ms, delivered {held.deliveries} times"
        if entry.row:
            yield f"  row {entry.row['id']}: device {entry.row['device_id']}, status {entry.row['status']}"
        yield f"  consuming would: {entry.would}" if entry.fields else f"  {entry.would}"
