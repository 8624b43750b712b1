"""What `consume --metrics-port` serves: a running consumer's numbers, by the names that Prometheus gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import get_type_hints

from devicevault_cli.consumer.counters import BOUNDS_S, Durations
from devicevault_cli.consumer.outages import DATABASE, REDIS
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.consumer.streams_progress import StreamsProgress
from devicevault_cli.operations.dead_letters.select import REASONS
from devicevault_cli.operations.dispatch import tasks
from devicevault_cli.output.metrics import Buckets, Health, Labels, Metrics, Sample, served
from devicevault_cli.pipelines import PIPELINES, Pipeline

SUCCEEDED = "When entries reached their outcome last: a row, a dead letter or another one."
UP = "1 while {} can be used, 0 while not; from the first attempt on."
AWAY = "Seconds during which a server could not be used, an outage that lasts included."
DROPPED = "Log lines that stderr did not take, because of a full disk or a reader that is gone."


@contextmanager
def monitored(
    host: str,
    port: int,
    consumers: Sequence[tuple[Labels, ConsumerProgress]],
    pipelines: Sequence[ConsumerProgress | StreamsProgress],
    log_lines_dropped: Callable[[], int],
) -> Iterator[int]:
    """Serve what each of `consumers` holds, and whether all `pipelines` are alive and ready. -> the port"""

    def process_samples() -> Iterator[Sample]:
        yield Sample("counter", "log_lines_dropped", DROPPED, log_lines_dropped())

    def health() -> Health:
        return Health(all(progress.alive for progress in pipelines), all(progress.ready for progress in pipelines))

    metrics = Metrics(health)
    for labels, progress in consumers:
        metrics.add(partial(samples_of, progress, PIPELINES[labels["pipeline"]]), labels)
        progress.on_batch = metrics.add_batches(labels)
    # Two pipelines share one log: its number belongs to neither of them.
    metrics.add(process_samples, consumers[0][0] if len(consumers) == 1 else {})
    with served(metrics, host, port) as bound:
        yield bound


def known_labels(pipeline: Pipeline) -> dict[str, Sequence[str]]:
    """By counter, the values of its label that are known before they occur: increase() sees no first event without."""
    return {
        "rejected": REASONS,
        "unusable_fields": pipeline.notes,
        "not_dispatched": tasks.REASONS if pipeline.dispatches else (),
    }


def samples_of(progress: ConsumerProgress, pipeline: Pipeline) -> Iterator[Sample]:
    """The metrics that the fields of counters and backlog declare, and those that are computed."""
    known = known_labels(pipeline)
    for values in (progress.counters, progress.backlog):
        for field, declared in get_type_hints(type(values), include_extras=True).items():
            for metric in getattr(declared, "__metadata__", ()):
                value = getattr(values, field)
                if isinstance(value, Durations):
                    value = Buckets(BOUNDS_S, tuple(value.counts), value.total_s)
                name = metric.name or field
                if isinstance(value, Mapping):
                    value = dict.fromkeys(known[name], 0) | dict(value)
                yield Sample(metric.kind, name, metric.help, value, metric.label)
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
