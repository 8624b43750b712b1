"""dvctl publish: messages as a worker would send them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from devicevault_cli.commands.arguments import Option
from devicevault_cli.commands.options import Rate, command
from devicevault_cli.runtime import Runtime


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
        Path | None, Option("--file", "JSONL: an object of wire fields a line, or an export.", complete="files")
    ] = None,
) -> None:
    """Put messages on the stream: made up, or from a file."""
    from devicevault_cli.operations import publish as operation

    if file is not None:
        messages = operation.read_messages(file)
    elif run.pipeline.name == "storage":
        messages = operation.sample_storage_messages(count, device, status, log)
    else:
        messages = operation.sample_messages(count, device, status, log)
    with run.printer.progress("publishing", None if file else count) as progress:
        answer = operation.publish_all(run.stream, messages, rate, progress)
    run.printer.answer(answer)
