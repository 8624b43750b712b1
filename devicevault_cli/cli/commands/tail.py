"""dvctl tail: follow the stream."""

from typing import TYPE_CHECKING, Annotated

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import Device, Since, Status
from devicevault_cli.cli.values import whole_number
from devicevault_cli.streams.model import EntryId

if TYPE_CHECKING:
    from devicevault_cli.operations.entries.tail import Filter

COLUMNS = {"id": 20, "device_id": 9, "status": 8, "task_identifier": 39}
"""Of a csv."""


@command(
    "dvctl tail",
    "dvctl tail --since -10m --status failure -o jsonl",
    "dvctl tail -n 20 --no-follow",
    ids=True,
    streams="own",
)
def tail(
    ctx: Context,
    since: Since = None,
    last: Annotated[int, whole_number("--lines", "-n", text="Begin with the newest N entries.", least=0)] = 10,
    device: Device = None,
    status: Status = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="End after what is there now.")] = False,
) -> None:
    """Follow the stream as messages arrive.

    No consumer group is touched.
    """
    from devicevault_cli.operations.entries.tail import Filter
    from devicevault_cli.operations.entries.tail import tail as read
    from devicevault_cli.output.entries_page import tail_lines

    wanted = None if device is None else str(device)
    if len(ctx.each_stream) > 1:
        _together(ctx, since, last, Filter(wanted, status), follow=not no_follow)
        return
    if ctx.stream.info() is None:
        ctx.printer.note(f"there is no stream {ctx.stream.key} yet")
    entries = read(ctx.stream, since, last, Filter(wanted, status), follow=not no_follow, warn=ctx.printer.warn)
    ctx.printer.stream((entry.to_dict() for entry in entries), COLUMNS, view=tail_lines)


def _together(ctx: Context, since: EntryId | None, last: int, chosen: "Filter", *, follow: bool) -> None:
    """Several streams, with a column that names the stream."""
    from devicevault_cli.operations.entries.tail import tail_together

    streams = [one.stream for one in ctx.each_stream]
    found = tail_together(streams, since, last, chosen, follow=follow, warn=ctx.printer.warn)
    ids = ctx.printer.output == "ids"
    rows = (
        {"stream": stream, **entry.to_dict(), **({"id": f"{stream} {entry.id}"} if ids else {})}
        for stream, entry in found
    )
    ctx.printer.stream(rows, {"stream": max(6, *(len(stream.key) for stream in streams)), **COLUMNS})
