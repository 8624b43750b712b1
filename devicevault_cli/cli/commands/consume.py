"""dvctl consume: the daemon."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import ClaimIdle, Rate
from devicevault_cli.cli.values import duration, parsed, whole_number
from devicevault_cli.errors import DvctlError, ExitCode, Usage
from devicevault_cli.operations.monitoring.limits import CLAIM_IDLE_MS

if TYPE_CHECKING:
    from devicevault_cli.consumer.shutdown import Stop

log = logging.getLogger("dvctl.consume")


class Address(NamedTuple):
    """Where to listen; host '': on every address."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """`9464`, or `127.0.0.1:9464`. Raises Usage."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise Usage(f"not a port: {text[:60]!r}", hint="a port looks like 9464, or 127.0.0.1:9464")
    return Address(host, int(port))


@command(
    "dvctl consume",
    "dvctl consume --drain -o json",
    "dvctl consume --claim-idle 2m --log-format json",
    "dvctl consume --pipeline storage --max-messages 100",
    "dvctl consume --broker-url amqp://USER@HOST/VHOST",
    database=True,
    effect="writes rows, acknowledges messages",
)
def consume(
    ctx: Context,
    drain: Annotated[
        bool, typer.Option("--drain", help="Exit once the group has no undelivered or pending entries.")
    ] = False,
    max_wait: Annotated[
        int | None, duration("--max-wait", text="With --drain or --max-messages: stop after this time (exit 1).")
    ] = None,
    max_messages: Annotated[
        int | None, whole_number("--max-messages", text="Exit after this many messages.", least=1)
    ] = None,
    batch_size: Annotated[int, whole_number("--batch-size", text="Maximum messages per transaction.", least=1)] = 1000,
    claim_idle: ClaimIdle = CLAIM_IDLE_MS,
    max_deliveries: Annotated[
        int,
        whole_number(
            "--max-deliveries",
            text="After N deliveries, process the message in its own transaction (0 disables this).",
            least=0,
        ),
    ] = 10,
    max_rejected_batches: Annotated[
        int,
        whole_number(
            "--max-rejected-batches",
            text="Hold after N batches in a row in which the database rejects every message (0 disables this).",
            least=0,
        ),
    ] = 3,
    on_reject: Annotated[
        Literal["dead-letter", "drop"], typer.Option("--on-reject", help="What to do with invalid messages.")
    ] = "dead-letter",
    on_missing_group: Annotated[
        Literal["create", "fail"],
        typer.Option("--on-missing-group", help="Create a missing group at the start of the stream, or exit."),
    ] = "create",
    instance: Annotated[
        int | None,
        whole_number("--instance", text="N in the consumer name HOST-N (default: the lowest that is free).", least=0),
    ] = None,
    rate: Rate = None,
    metrics_port: Annotated[
        Address | None,
        typer.Option(
            "--metrics-port",
            help="Serve /metrics, /healthz and /readyz here.",
            metavar="[HOST:]PORT",
            parser=parsed(parse_address),
        ),
    ] = None,
    log_format: Annotated[Literal["text", "json"], typer.Option("--log-format", help="Format of the log.")] = "text",
) -> int:
    """Turn messages into rows.

    Every message ends up as exactly one row, or as one dead letter with the reason. Messages are acknowledged after
    COMMIT, and after the configuration of a success was handed to the storage workers (--broker-url). If Redis, the
    database or the broker goes down, dvctl waits and retries. SIGTERM finishes the current batch first.
    """
    if max_wait is not None and not (drain or max_messages):
        raise Usage("--max-wait needs --drain or --max-messages", hint="add --drain; without it consume does not end")
    if instance is not None and ctx.settings["consumer"].source == "flag":
        raise Usage("--instance and --consumer exclude each other", hint="give one of them")
    from devicevault_cli.consumer.dispatch import DispatchOff
    from devicevault_cli.consumer.options import ConsumeOptions
    from devicevault_cli.consumer.progress import ConsumerProgress
    from devicevault_cli.consumer.service import Servers, consume_as
    from devicevault_cli.output.logs import log_to

    log_to(ctx.printer, as_json=log_format == "json", verbose=ctx.verbose)
    options = ConsumeOptions(
        drain=drain,
        max_wait_s=None if max_wait is None else max_wait / 1000,
        max_messages=max_messages,
        batch_size=batch_size,
        claim_idle_s=claim_idle / 1000,
        max_deliveries=max_deliveries,
        max_rejected_batches=max_rejected_batches,
        on_reject=on_reject,
        on_missing_group=on_missing_group,
        rate=rate,
    )
    publisher = DispatchOff("--no-dispatch") if ctx.settings.no_dispatch else ctx.publisher
    stopping = _stopped_by_signals(lambda: _interrupt(ctx))
    with stopping as stop, ctx.printer.progress("consuming") as bar, ExitStack() as serving:
        progress = ConsumerProgress(ctx.group, bar if drain or max_messages else None, max_messages)
        if metrics_port is not None:
            from devicevault_cli.cli.metrics_server import monitored

            about = ctx.settings.stream, ctx.settings.group
            stderr = ctx.printer.stderr
            port = serving.enter_context(monitored(*metrics_port, progress, *about, lambda: stderr.dropped))
            log.info("metrics are on port %d: /metrics, /healthz, /readyz", port)
        answer = consume_as(
            Servers(ctx.group, ctx.repository, publisher),
            ctx.pipeline,
            options,
            stop,
            ctx.settings.consumer,
            instance,
            progress,
        )
    ctx.printer.answer(answer if ctx.printer.output != "table" else _worth_reading(answer))
    if answer["stopped_by"] == "max-wait":
        what = "not drained" if drain else f"fewer than {max_messages:,} messages read"
        raise DvctlError(f"{what} within --max-wait", hint="run `dvctl pending` to see which consumer holds what")
    return 1 if answer["stopped_by"] == "missing-group" else 0


def _worth_reading(answer: dict[str, Any]) -> dict[str, Any]:
    """For people: without what did not happen."""
    return {name: value for name, value in answer.items() if value or name in ("read", "persisted")}


def _interrupt(ctx: Context) -> None:
    """End the calls that wait for a server."""
    ctx.repository.interrupt()
    if ctx.publisher is not None:
        ctx.publisher.interrupt()


@contextmanager
def _stopped_by_signals(interrupt: Callable[[], None]) -> "Iterator[Stop]":
    """The first SIGTERM or SIGINT requests the stop; a second one ends the process at once, which loses nothing."""
    from devicevault_cli.consumer.shutdown import Stop, ended_in_time

    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(ExitCode.INTERRUPTED)
        stop.set()

    with ended_in_time(stop, interrupt):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handle)
        yield stop
