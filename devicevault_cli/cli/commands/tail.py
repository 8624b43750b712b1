"""dvctl tail: follow the stream."""

from typing import Annotated

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import Device, Since, Status
from devicevault_cli.cli.values import whole_number

COLUMNS = {"id": 20, "device_id": 9, "status": 8, "task_identifier": 39}
"""Of a csv."""


@command(
    "dvctl tail",
    "dvctl tail --since -10m --status failure -o jsonl",
    "dvctl tail -n 20 --no-follow",
    ids=True,
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
    if ctx.stream.info() is None:
        ctx.printer.note(f"there is no stream {ctx.stream.key} yet")
    entries = read(ctx.stream, since, last, Filter(wanted, status), follow=not no_follow, warn=ctx.printer.warn)
    ctx.printer.stream((entry.to_dict() for entry in entries), COLUMNS, view=tail_lines)
