"""dvctl publish: messages as a worker would send them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from devicevault_cli.cli.arguments import Option
from devicevault_cli.cli.context import Runtime
from devicevault_cli.cli.options import Rate, command
from devicevault_cli.errors import DvctlError, Usage


@command(
    "dvctl publish --device 7 --count 100",
    "dvctl publish --file messages.jsonl --rate 50",
    effect="adds messages",
)
def publish(
    run: Runtime,
    device: Annotated[int, Option("--device", "Device id of the messages.", "ID", least=1)] = 1,
    status: Annotated[str, Option("--status", "Status of the messages.")] = "success",
    log: Annotated[str, Option("--log", "Entry of their log.")] = "published by dvctl",
    count: Annotated[int, Option("-n/--count", "How many.", least=1)] = 1,
    rate: Rate = None,
    file: Annotated[
        Path | None,
        Option("--file", "JSONL: wire fields, an object a line, or an export; - is stdin.", "FILE|-", complete="files"),
    ] = None,
    from_line: Annotated[int, Option("--from-line", "With --file: begin at this line.", "N", least=1)] = 1,
) -> None:
    """Put messages on the stream: made up, or from a file.

    A file is read through before anything is published. From a pipe or stdin, messages are published as they come. What
    ends before its end says up to which line messages were published; --from-line continues there.
    """
    from devicevault_cli.operations.entries import publish as operation

    if file is not None:
        answer = _publish_file(run, file, from_line, rate)
    elif from_line != 1:
        raise Usage("--from-line is a line of a file: add --file FILE")
    else:
        make = operation.sample_storage_messages if run.pipeline.name == "storage" else operation.sample_messages
        messages = operation.numbered(make(count, device, status, log))
        with run.printer.progress("publishing", count) as progress:
            answer = operation.publish_all(run.stream, messages, rate, progress)
    run.printer.answer(answer)


def _publish_file(run: Runtime, file: Path, from_line: int, rate: float | None) -> dict[str, Any]:
    from devicevault_cli.operations.entries.message_files import opened
    from devicevault_cli.operations.entries.publish import publish_all

    with ExitStack() as open_files:
        try:
            with run.printer.progress("reading") as progress:
                messages = open_files.enter_context(opened(file, run.terminal.stdin, from_line, progress))
        except DvctlError as error:
            error.args = (f"{error}; nothing was published",)
            raise
        with run.printer.progress("publishing") as progress:
            return publish_all(run.stream, messages, rate, progress, of_file=True)
