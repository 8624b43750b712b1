"""What `consume --metrics-port` serves: a running consumer's numbers, each declared once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from devicevault_cli.consumer.counters import Counters
from devicevault_cli.consumer.progress import Backlog, ConsumerProgress
from devicevault_cli.output.metrics import Declared, Metrics, served


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values come from."""

    progress: ConsumerProgress
    log_lines_dropped: Callable[[], int]

    @property
    def counters(self) -> Counters:
        """Of the running consumer."""
        return self.progress.counters

    @property
    def backlog(self) -> Backlog:
        """As it was looked up last."""
        return self.progress.backlog

    @property
    def alive(self) -> bool:
        """Whether the loop moves."""
        return self.progress.alive

    @property
    def ready(self) -> bool:
        """Whether the consumer does its work."""
        return self.progress.ready


METRICS: tuple[Declared[Source], ...] = (
    Declared("counter", "messages", "Messages that reached an outcome.", lambda s: s.counters.outcomes(), "outcome"),
    Declared("counter", "rejected", "Dead letters written, by reason.", lambda s: dict(s.counters.reasons), "reason"),
    Declared(
        "counter",
        "unusable_fields",
        "Fields stored as NULL or clamped, because their value is unusable or implausible.",
        lambda s: dict(s.counters.notes),
        "field",
    ),
    Declared(
        "counter", "conflicting", "Duplicates whose row has another device or status.", lambda s: s.counters.conflicting
    ),
    Declared("counter", "reclaimed", "Entries taken over from consumers that died.", lambda s: s.counters.reclaimed),
    Declared("counter", "dispatched", "Configurations handed to the storage task.", lambda s: s.counters.dispatched),
    Declared(
        "counter",
        "deferred_retries",
        "Attempts that failed because Redis or the database was away, and were repeated.",
        lambda s: s.counters.deferred_retries,
    ),
    Declared(
        "counter",
        "log_lines_dropped",
        "Log lines that stderr did not take, because of a full disk or a reader that is gone.",
        lambda s: s.log_lines_dropped(),
    ),
    Declared(
        "counter",
        "stream_restarts",
        "Times that the stream was found flushed, deleted, replaced or fallen back.",
        lambda s: s.counters.stream_restarts,
    ),
    Declared(
        "counter",
        "entries_never_read",
        "Entries that left the stream before the group read them, as far as that was noticed.",
        lambda s: s.counters.entries_never_read,
    ),
    Declared("gauge", "stream_length", "Entries on the stream.", lambda s: s.backlog.length),
    Declared("gauge", "stream_group_lag", "Entries not delivered to the group yet.", lambda s: s.backlog.lag),
    Declared(
        "gauge", "stream_group_lag_seconds", "Age of the oldest entry not delivered yet.", lambda s: s.backlog.lag_s
    ),
    Declared(
        "gauge",
        "stream_group_messages_pending",
        "Entries delivered to the group and not acknowledged.",
        lambda s: s.backlog.pending,
    ),
    Declared(
        "gauge",
        "stream_group_oldest_pending_seconds",
        "Age of the oldest pending entry.",
        lambda s: s.backlog.oldest_pending_s,
    ),
    Declared(
        "gauge",
        "in_hand",
        "Entries that this process has read and not settled yet.",
        lambda s: s.counters.in_hand,
    ),
    Declared(
        "gauge",
        "table_refuses_rows",
        "1 while the table refuses rows for a reason that is not in the messages: it needs repair.",
        lambda s: float(s.counters.table_refuses),
    ),
    Declared(
        "gauge",
        "incidents_unacknowledged",
        "Incidents of the stream that nobody has acknowledged: `dvctl incidents`.",
        lambda s: s.counters.incidents,
    ),
    Declared(
        "gauge",
        "loop_moved_timestamp_seconds",
        "When the consumer's loop moved last, also while it waits for a server.",
        lambda s: s.progress.moved_timestamp,
    ),
    Declared(
        "gauge",
        "ready",
        "1 while the consumer does its work, 0 while it waits for a server.",
        lambda s: float(s.ready),
    ),
)


@contextmanager
def monitored(
    host: str, port: int, progress: ConsumerProgress, stream: str, group: str, log_lines_dropped: Callable[[], int]
) -> Iterator[int]:
    """Serve what `progress` holds. -> the port"""
    metrics = Metrics(Source(progress, log_lines_dropped), METRICS, {"stream": stream, "group": group})
    progress.on_batch = metrics.observe
    with served(metrics, host, port) as bound:
        yield bound
