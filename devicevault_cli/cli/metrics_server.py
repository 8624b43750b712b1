"""What `consume --metrics-port` serves: a running consumer's numbers, by the names that Prometheus gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from devicevault_cli.consumer.progress import Watch
from devicevault_cli.output.metrics import Metrics, Signs, served


@contextmanager
def monitored(
    host: str, port: int, watch: Watch, stream: str, group: str, log_lines_dropped: Callable[[], int]
) -> Iterator[int]:
    """Serve what `watch` sees. -> the port"""
    metrics = Metrics(lambda: signs(watch, log_lines_dropped()), {"stream": stream, "group": group})
    watch.on_batch = metrics.observe
    with served(metrics, host, port) as bound:
        yield bound


def signs(watch: Watch, log_lines_dropped: int) -> Signs:
    """One look."""
    tally, backlog = watch.tally, watch.backlog
    outcomes = {
        "persisted": tally.persisted,
        "duplicate": tally.duplicates,
        "dead_lettered": tally.dead_lettered,
        "skipped": tally.skipped,
        "dropped": tally.dropped,
        "gone": tally.gone,
    }
    return Signs(
        counters={
            "conflicting": tally.conflicting,
            "reclaimed": tally.reclaimed,
            "dispatched": tally.dispatched,
            "deferred_retries": tally.deferred_retries,
            "log_lines_dropped": log_lines_dropped,
            "stream_restarts": tally.stream_restarts,
            "entries_never_read": tally.entries_never_read,
        },
        gauges={
            "stream_length": backlog.length,
            "stream_group_lag": backlog.lag,
            "stream_group_lag_seconds": backlog.lag_s,
            "stream_group_messages_pending": backlog.pending,
            "stream_group_oldest_pending_seconds": backlog.oldest_pending_s,
            "in_hand": tally.in_hand,
            "table_refuses_rows": float(tally.table_refuses),
            "incidents_unacknowledged": tally.incidents,
            "loop_moved_timestamp_seconds": watch.moved,
        },
        by_label={
            "messages": ("outcome", outcomes),
            "rejected": ("reason", dict(tally.reasons)),
            "unusable_fields": ("field", dict(tally.notes)),
        },
        alive=watch.alive,
        ready=watch.ready,
    )
