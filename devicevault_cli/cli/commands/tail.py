"""dvctl tail: follow the stream."""

from __future__ import annotations

from typing import Annotated

from devicevault_cli.cli.arguments import Option
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.options import Device, Since, Status, command

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
    last: Annotated[int, Option("-n/--lines", "Begin with the newest N entries.", "N", least=0)] = 10,
    device: Device = None,
    status: Status = None,
    no_follow: Annotated[bool, Option("--no-follow", "End after what is there now.")] = False,
) -> None:
    """Follow the stream as messages come, read-only: no group is touched."""
    from devicevault_cli.operations.entries.show import follow

    wanted = None if device is None else str(device)
    if run.stream.info() is None:
        run.printer.note(f"there is no stream {run.stream.key} yet")
    rows = follow(run.stream, since, last, wanted, status, forever=not no_follow, tell=run.printer.warn)
    run.printer.stream(rows, COLUMNS)
