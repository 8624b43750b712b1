"""dvctl publish: messages as a worker would send them."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import Rate
from devicevault_cli.cli.values import parsed, whole, whole_number
from devicevault_cli.errors import DvctlError, Usage

if TYPE_CHECKING:
    from devicevault_cli.operations.entries.publish import PublishAnswer


@command(
    "dvctl publish --device 7 --count 100",
    "dvctl publish --file messages.jsonl --rate 50",
    effect="adds messages",
)
def publish(
    ctx: Context,
    device: Annotated[
        int,
        typer.Option(
            "--device",
            help="Device id of the messages.",
            metavar="ID",
            parser=parsed(whole, 1),
            autocompletion=complete.devices,
        ),
    ] = 1,
    status: Annotated[str, typer.Option("--status", help="Status of the messages.", metavar="TEXT")] = "success",
    log: Annotated[str, typer.Option("--log", help="Entry of their log.", metavar="TEXT")] = "published by dvctl",
    count: Annotated[int, whole_number("--count", "-n", text="How many.", least=1)] = 1,
    rate: Rate = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="JSONL: wire fields, an object a line, or an export; - is stdin.",
            metavar="FILE|-",
            readable=False,
        ),
    ] = None,
    from_line: Annotated[int, whole_number("--from-line", text="With --file: begin at this line.", least=1)] = 1,
) -> None:
    """Put messages on the stream, sample ones or from a file.

    A file is read through before anything is published. From a pipe or stdin, messages are published as they come. If
    it ends early, the error says up to which line messages were published; --from-line continues there.
    """
    from devicevault_cli.operations.entries import publish as operation
    from devicevault_cli.output.change_page import published_lines

    if file is not None:
        answer = _publish_file(ctx, file, from_line, rate)
    elif from_line != 1:
        raise Usage("--from-line is a line of a file: add --file FILE")
    else:
        make = operation.sample_storage_messages if ctx.pipeline.name == "storage" else operation.sample_messages
        messages = operation.numbered(make(count, device, status, log))
        with ctx.printer.progress("publishing", count) as progress:
            answer = operation.publish_all(ctx.stream, messages, rate, progress)
    ctx.printer.answer(answer.to_dict(), view=partial(published_lines, ctx.stream.key))


def _publish_file(ctx: Context, file: Path, from_line: int, rate: float | None) -> "PublishAnswer":
    from devicevault_cli.operations.entries.message_files import opened
    from devicevault_cli.operations.entries.publish import publish_all

    with ExitStack() as open_files:
        try:
            with ctx.printer.progress("reading") as progress:
                messages = open_files.enter_context(opened(file, ctx.terminal.stdin, from_line, progress))
        except DvctlError as error:
            error.args = (f"{error}; nothing was published",)
            raise
        with ctx.printer.progress("publishing") as progress:
            return publish_all(ctx.stream, messages, rate, progress, of_file=True)
