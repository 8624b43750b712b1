"""dvctl tail: follow the stream."""

from typing import Annotated

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.options import Device, Since, Status
from devicevault_cli.cli.values import whole_number

COLUMNS = {"id": 20, "device_id": 9, "status": 8, "task_identifier": 39}


@command(
    "dvctl tail",
    "dvctl tail --since -10m --status failure -o jsonl",
    "dvctl tail -n 20 --no-follow",
    ids=True,
)
def tail(
    run: Runtime,
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

    wanted = None if device is None else str(device)
    if run.stream.info() is None:
        run.printer.note(f"there is no stream {run.stream.key} yet")
    entries = read(run.stream, since, last, Filter(wanted, status), follow=not no_follow, warn=run.printer.warn)
    run.printer.stream((entry.to_dict() for entry in entries), COLUMNS)
