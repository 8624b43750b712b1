"""What `consume --metrics-port` serves: a running consumer's numbers, by the names that Prometheus gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import get_type_hints

from devicevault_cli.consumer.counters import BOUNDS_S, Durations
from devicevault_cli.consumer.outages import DATABASE, REDIS
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.output.metrics import Buckets, Health, Labels, Metrics, Sample, served

SUCCEEDED = "When entries reached their outcome last: a row, a dead letter or another one."
UP = "1 while {} can be used, 0 while not; from the first attempt on."
AWAY = "Seconds during which a server could not be used, an outage that lasts included."
DROPPED = "Log lines that stderr did not take, because of a full disk or a reader that is gone."


@contextmanager
def monitored(
    host: str, port: int, consumers: Sequence[tuple[Labels, ConsumerProgress]], log_lines_dropped: Callable[[], int]
) -> Iterator[int]:
    """Serve what each `progress` holds, and whether all are alive and ready. -> the port"""

    def process_samples() -> Iterator[Sample]:
        yield Sample("counter", "log_lines_dropped", DROPPED, log_lines_dropped())

    def health() -> Health:
        each = [progress for _, progress in consumers]
        return Health(all(progress.alive for progress in each), all(progress.ready for progress in each))

    metrics = Metrics(health)
    for labels, progress in consumers:
        metrics.add(partial(samples_of, progress), labels)
        progress.on_batch = metrics.add_batches(labels)
    # Two pipelines share one log: its number belongs to neither of them.
    metrics.add(process_samples, consumers[0][0] if len(consumers) == 1 else {})
    with served(metrics, host, port) as bound:
        yield bound


def samples_of(progress: ConsumerProgress) -> Iterator[Sample]:
    """The metrics that the fields of counters and backlog declare, and those that are computed."""
    for values in (progress.counters, progress.backlog):
        for field, declared in get_type_hints(type(values), include_extras=True).items():
            for metric in getattr(declared, "__metadata__", ()):
                value = getattr(values, field)
                if isinstance(value, Durations):
                    value = Buckets(BOUNDS_S, tuple(value.counts), value.total_s)
                yield Sample(metric.kind, metric.name or field, metric.help, value, metric.label)
    outcomes = progress.counters.outcomes()
    yield Sample("counter", "messages", "Messages that reached an outcome.", outcomes, "outcome")
    moved = "When the consumer's loop moved last, also while it waits for a server."
    yield Sample("gauge", "loop_moved_timestamp_seconds", moved, progress.moved_timestamp)
    ready = "1 while the consumer does its work, 0 while it waits for a server."
    yield Sample("gauge", "ready", ready, float(progress.ready))
    outages = progress.outages
    for server, name in ((REDIS, "Redis"), (DATABASE, "the database")):
        yield Sample("gauge", f"{server}_up", UP.format(name), outages.up.get(server))
    yield Sample("counter", "outage_seconds", AWAY, outages.seconds(), "server")
    yield Sample("gauge", "last_success_timestamp_seconds", SUCCEEDED, progress.succeeded_timestamp)
