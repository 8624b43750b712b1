"""A consumer's vital signs over HTTP: /metrics for Prometheus, /healthz and /readyz for whoever restarts processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from devicevault_cli.errors import BadConfig
from devicevault_cli.output.escapes import visible

BATCH_SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


class Signs(NamedTuple):
    """What one look at the consumer gives. A gauge of None is not known, and left out.

    counters, gauges: by name without the prefix. by_label: counters with one label: name -> (label, value -> count).
    """

    counters: Mapping[str, int]
    gauges: Mapping[str, float | None]
    by_label: Mapping[str, tuple[str, Mapping[str, int]]]
    alive: bool
    ready: bool


HELP = {
    "messages": "Messages that reached an outcome.",
    "rejected": "Dead letters written, by reason.",
    "unusable_fields": "Fields stored as NULL or clamped, because their value is unusable or implausible.",
    "conflicting": "Duplicates whose row has another device or status.",
    "reclaimed": "Entries taken over from consumers that died.",
    "dispatched": "Configurations handed to the storage task.",
    "deferred_retries": "Attempts that failed because Redis or the database was away, and were repeated.",
    "log_lines_dropped": "Log lines that stderr did not take, because of a full disk or a reader that is gone.",
    "stream_restarts": "Times that the stream was found flushed, deleted, replaced or fallen back.",
    "entries_never_read": "Entries that left the stream before the group read them, as far as that was noticed.",
    "incidents_unacknowledged": "Incidents of the stream that nobody has acknowledged: `dvctl incidents`.",
    "stream_length": "Entries on the stream.",
    "stream_group_lag": "Entries not delivered to the group yet.",
    "stream_group_lag_seconds": "Age of the oldest entry not delivered yet.",
    "stream_group_messages_pending": "Entries delivered to the group and not acknowledged.",
    "stream_group_oldest_pending_seconds": "Age of the oldest pending entry.",
    "in_hand": "Entries that this process has read and not settled yet.",
    "loop_moved_timestamp_seconds": "When the consumer's loop moved last, also while it waits for a server.",
    "table_refuses_rows": "1 while the table refuses rows for a reason that is not in the messages: it needs repair.",
    "ready": "1 while the consumer does its work, 0 while it waits for a server.",
}


class Metrics(Collector):
    """The registry of one consumer; `observe` is told of each batch."""

    def __init__(self, look: Callable[[], Signs], labels: Mapping[str, str]) -> None:
        self.look = look
        self._labels = {name: visible(value) for name, value in labels.items()}
        self.registry = CollectorRegistry()
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        names = list(self._labels)
        size = Histogram(
            "dvctl_batch_messages", "Messages in a batch.", names, registry=self.registry, buckets=BATCH_SIZES
        )
        duration = Histogram(
            "dvctl_batch_seconds", "From handing a batch to the database to its last acknowledgement.", names,
            registry=self.registry,
        )  # fmt: skip
        self._size, self._duration = size.labels(**self._labels), duration.labels(**self._labels)
        self.registry.register(self)

    def observe(self, messages: int, seconds: float) -> None:
        """A batch was settled."""
        self._size.observe(messages)
        self._duration.observe(seconds)

    def describe(self) -> Iterable[Metric]:
        """Nothing yet: the registry asks for it before the consumer has begun."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every number as it is now."""
        signs, names, values = self.look(), list(self._labels), list(self._labels.values())
        for name, (label, counts) in signs.by_label.items():
            family = CounterMetricFamily(f"dvctl_{name}", HELP[name], labels=[*names, label])
            for each, count in counts.items():
                family.add_metric([*values, visible(each)], count)
            yield family
        for name, count in signs.counters.items():
            family = CounterMetricFamily(f"dvctl_{name}", HELP[name], labels=names)
            family.add_metric(values, count)
            yield family
        for name, value in {**signs.gauges, "ready": float(signs.ready)}.items():
            if value is not None:
                gauge = GaugeMetricFamily(f"dvctl_{name}", HELP[name], labels=names)
                gauge.add_metric(values, value)
                yield gauge


@contextmanager
def served(metrics: Metrics, host: str, port: int) -> Iterator[int]:
    """Answer in threads of their own. -> the port, chosen where 0 is asked for. Raises BadConfig."""
    try:
        server = _Server((host, port), type("Bound", (_Handler,), {"metrics": metrics}))
    except OSError as error:
        raise BadConfig(
            f"metrics cannot be served on {host or '*'}:{port}: {error.strerror or error}",
            hint="choose another --metrics-port",
        ) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingMixIn, TCPServer):
    """Not http.server's: that one looks up the host's own name first, which takes long where no name server answers."""

    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle of its answer is no news."""


class _Handler(BaseHTTPRequestHandler):
    metrics: Metrics
    timeout = 10
    server_version, sys_version = "dvctl", ""

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path in ("/", "/metrics"):
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, kind, encode(self.metrics.registry))
            return
        signs = self.metrics.look()
        good = {"/healthz": signs.alive, "/readyz": signs.ready}.get(path)
        code, word = (404, "not found") if good is None else (200, "ok") if good else (503, "no")
        self._answer(code, "text/plain; charset=utf-8", f"{word}\n".encode())

    do_HEAD = do_GET  # noqa: N815 - as http.server looks for it

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *words: Any) -> None:  # noqa: A002 - the name that http.server gives it
        """A probe each second is no news."""
