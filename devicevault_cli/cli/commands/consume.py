"""dvctl consume: the daemon."""

import gc
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.options import ClaimIdle, Rate
from devicevault_cli.cli.signals import stopped_by_signals
from devicevault_cli.cli.values import duration, parsed, whole_number
from devicevault_cli.directories import expanded
from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.log_fields import fields
from devicevault_cli.operations.monitoring.limits import CLAIM_IDLE_MS, RECHECK_MS

if TYPE_CHECKING:
    from devicevault_cli.broker.publisher import Publisher
    from devicevault_cli.consumer.dispatch import DispatchOff
    from devicevault_cli.consumer.options import ConsumeOptions
    from devicevault_cli.consumer.progress import ConsumerProgress
    from devicevault_cli.consumer.shutdown import Stop
    from devicevault_cli.consumer.streams_progress import StreamsProgress
    from devicevault_cli.output.progress import Show

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
    "dvctl consume --pipeline results,storage --pid-file /run/dvctl.pid",
    database=True,
    pipelines=True,
    streams="own",
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
    retire_after: Annotated[
        int | None,
        duration("--retire-after", text="At the start, delete consumers that hold nothing and were idle this long."),
    ] = None,
    recheck: Annotated[
        int,
        duration(
            "--recheck",
            text="After a PostgreSQL fail-over, look up the entries of this long again (0 disables this).",
            show_default="10m",
        ),
    ] = RECHECK_MS,
    metrics_port: Annotated[
        Address | None,
        typer.Option(
            "--metrics-port",
            help="Serve /metrics, /healthz and /readyz here.",
            metavar="[HOST:]PORT",
            parser=parsed(parse_address),
        ),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option("--log-format", help="Format of the log; with json, a table at the end only with -o table."),
    ] = "text",
    pid_file: Annotated[
        str | None,
        typer.Option(
            "--pid-file",
            help="Lead a process group of its own, and write the process id to FILE while running.",
            metavar="FILE",
        ),
    ] = None,
) -> int:
    """Turn messages into rows.

    Every message ends up as exactly one row, or as one dead letter with the reason. Messages are acknowledged after
    COMMIT, and after the configuration of a success was handed to the storage workers (--broker-url). If Redis, the
    database or the broker goes down, dvctl waits and retries. SIGTERM finishes the current batch first.

    `--pipeline results,storage` runs both pipelines in one process, each with its own stream, group and consumer.
    """
    if max_wait is not None and not (drain or max_messages):
        raise Usage("--max-wait needs --drain or --max-messages", hint="add --drain; without it consume does not end")
    if instance is not None and ctx.settings["consumer"].source == "flag":
        raise Usage("--instance and --consumer exclude each other", hint="give one of them")
    from devicevault_cli.consumer.options import ConsumeOptions
    from devicevault_cli.output.logs import log_to

    names = ctx.pipelines if len(ctx.pipelines) > 1 else ()
    log_to(ctx.printer, as_json=log_format == "json", verbose=ctx.verbose, pipelines=names)
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
        retire_after_ms=retire_after,
        recheck_s=recheck / 1000,
    )
    summaries = _run(ctx, options, instance, metrics_port, None if pid_file is None else expanded(pid_file))
    # The log as JSON ends with the counts, and often goes where stdout goes: no table follows unless it is asked for.
    if log_format == "text" or ctx.settings["output"].source != "default":
        _print(ctx, summaries)
    reasons = {name: summary["stopped_by"] for name, summary in summaries.items()}
    if late := [name for name, reason in reasons.items() if reason == "max-wait"]:
        what = "not drained" if drain else f"fewer than {max_messages:,} messages read"
        which, where = (f"{' and '.join(late)}: ", f" --pipeline {late[0]}") if names else ("", "")
        hint = f"run `dvctl pending{where}` to see which consumer holds what"
        raise DvctlError(f"{which}{what} within --max-wait", hint=hint)
    return 1 if "missing-group" in reasons.values() else 0


def _run(
    ctx: Context, options: "ConsumeOptions", instance: int | None, metrics_port: Address | None, pid_path: Path | None
) -> dict[str, dict[str, Any]]:
    """Consume each pipeline until it ends. -> the summaries, by pipeline"""
    from devicevault_cli.cli.service_manager import notified
    from devicevault_cli.consumer.memory import keep_freed_memory
    from devicevault_cli.consumer.together import consume_together
    from devicevault_cli.output.progress import combined

    each = ctx.pipelines
    # Opened once the handlers stand.
    progress: dict[str, ConsumerProgress | StreamsProgress] = {}
    stopping = stopped_by_signals(
        [partial(_interrupt, one) for one in each.values()],
        lambda: sum(one.pending() for one in list(progress.values())),
    )
    with stopping as stop, notified(progress, stop), ExitStack() as during:
        if pid_path is not None:
            from devicevault_cli.cli.pid_file import naming_this_process

            during.enter_context(naming_this_process(pid_path))
        bar = during.enter_context(ctx.printer.progress("consuming"))
        bars = combined(bar, each) if len(each) > 1 else dict.fromkeys(each, bar)
        ends = options.drain or options.max_messages is not None
        progress |= {name: _progress(one, bars[name] if ends else None, options) for name, one in each.items()}
        if metrics_port is not None:
            during.enter_context(_monitored(ctx, metrics_port, progress))
        consumers = {name: _consumer(one, options, stop, instance, progress[name]) for name, one in each.items()}
        gc.freeze()  # what was imported stays: not scanning it saves 3 % of the CPU time of a drain (40,000 messages)
        keep_freed_memory()
        return consume_together(consumers, stop)


def _progress(ctx: Context, bar: "Show | None", options: "ConsumeOptions") -> "ConsumerProgress | StreamsProgress":
    """The progress of a pipeline: that of its stream, or of all its streams."""
    from devicevault_cli.consumer.progress import ConsumerProgress
    from devicevault_cli.consumer.streams_progress import StreamsProgress
    from devicevault_cli.output.progress import combined

    each = ctx.each_stream
    if len(each) == 1:
        return ConsumerProgress(ctx.group, bar, options.max_messages)
    bars = combined(bar, ctx.settings.streams) if bar else {}
    return StreamsProgress([ConsumerProgress(one.group, bars.get(one.settings.stream)) for one in each])


def _consumer(
    ctx: Context,
    options: "ConsumeOptions",
    stop: "Stop",
    instance: int | None,
    progress: "ConsumerProgress | StreamsProgress",
) -> "Callable[[], dict[str, Any]]":
    """What consumes a pipeline until it ends. -> its summary"""
    from devicevault_cli.consumer.progress import ConsumerProgress
    from devicevault_cli.consumer.service import Servers, consume_as, consume_streams_as

    each = [Servers(one.group, one.repository, _publisher(one)) for one in ctx.each_stream]
    named = ctx.settings.consumer, instance
    if isinstance(progress, ConsumerProgress):
        return partial(consume_as, each[0], ctx.pipeline, options, stop, *named, progress)
    shown = ctx.settings["stream"].shown or ""
    return partial(consume_streams_as, each, ctx.pipeline, options, stop, *named, progress, shown)


def _publisher(ctx: Context) -> "Publisher | DispatchOff | None":
    """Where the configurations of a pipeline go; None: nowhere, the worker knows whether that is right."""
    from devicevault_cli.consumer.dispatch import DispatchOff

    if not ctx.pipeline.dispatches:
        return None
    return DispatchOff(ctx.dispatch.detail) if ctx.settings.no_dispatch else ctx.publisher


def _interrupt(ctx: Context) -> None:
    """End the calls that wait for a server."""
    ctx.repository.interrupt()
    if ctx.pipeline.dispatches and not ctx.settings.no_dispatch and ctx.publisher is not None:
        ctx.publisher.interrupt()


@contextmanager
def _monitored(
    ctx: Context, address: Address, progress: "Mapping[str, ConsumerProgress | StreamsProgress]"
) -> Iterator[None]:
    from devicevault_cli.cli.metrics_server import monitored
    from devicevault_cli.consumer.progress import ConsumerProgress

    consumers: list[tuple[dict[str, str], ConsumerProgress]] = []
    for name, one in progress.items():
        settings = ctx.pipelines[name].settings
        each = [one] if isinstance(one, ConsumerProgress) else one.each
        about = [{"pipeline": name, "stream": stream, "group": settings.group} for stream in settings.streams]
        consumers += zip(about, each, strict=True)
    stderr = ctx.printer.stderr
    with monitored(*address, consumers, list(progress.values()), lambda: stderr.dropped) as port:
        url = f"http://{address.host or '0.0.0.0'}:{port}"  # noqa: S104 - as asked for, and shown
        text = "metrics are served on %s/metrics, probes on %s/healthz and %s/readyz"
        log.info(text, url, url, url, extra=fields(address=f"{address.host or '0.0.0.0'}:{port}"))  # noqa: S104
        yield


def _print(ctx: Context, summaries: dict[str, dict[str, Any]]) -> None:
    """One pipeline: its summary. Two: by name in one document, as rows where there is one summary a line."""
    output = ctx.printer.output
    if output == "table":
        summaries = {name: _worth_reading(summary) for name, summary in summaries.items()}
    if len(summaries) == 1:
        ctx.printer.answer(next(iter(summaries.values())))
    elif output in ("jsonl", "csv"):
        rows = [{"pipeline": name, **summary} for name, summary in summaries.items()]
        ctx.printer.answer({"pipelines": rows}, "pipelines")
    else:
        ctx.printer.answer(summaries if output == "table" else {"pipelines": summaries})


def _worth_reading(answer: dict[str, Any]) -> dict[str, Any]:
    """For people: without what did not happen."""
    return {name: value for name, value in answer.items() if value or name in ("read", "persisted")}
