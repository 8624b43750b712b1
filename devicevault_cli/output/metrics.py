"""A consumer's health over HTTP: /metrics for Prometheus, /healthz and /readyz for whoever restarts processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Literal, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from devicevault_cli.errors import BadConfig
from devicevault_cli.output.escapes import visible

BATCH_SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


class Sample(NamedTuple):
    """A metric and its value: None if it is not known, with a label a count for each value of that label."""

    kind: Literal["counter", "gauge"]
    name: str
    help: str
    value: float | Mapping[str, int] | None
    label: str = ""


class Health(NamedTuple):
    """`alive`: the process need not be restarted. `ready`: it does its work."""

    alive: bool
    ready: bool


class Metrics(Collector):
    """The registry of one consumer; `observe` is called after each batch. `labels` are those of every metric."""

    def __init__(
        self, samples: Callable[[], Iterable[Sample]], health: Callable[[], Health], labels: Mapping[str, str]
    ) -> None:
        self.health = health
        self._samples = samples
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
        """A batch was finished."""
        self._size.observe(messages)
        self._duration.observe(seconds)

    def describe(self) -> Iterable[Metric]:
        """Nothing yet: the registry asks for it before the consumer has begun."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every number as it is now."""
        names, values = list(self._labels), list(self._labels.values())
        for kind, name, text, value, label in self._samples():
            if value is None:
                continue
            made = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            family = made(f"dvctl_{name}", text, labels=[*names, label] if label else names)
            if isinstance(value, Mapping):
                for key, count in dict(value).items():
                    family.add_metric([*values, visible(key)], count)
            else:
                family.add_metric(values, value)
            yield family


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
        health = self.metrics.health()
        good = {"/healthz": health.alive, "/readyz": health.ready}.get(path)
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
