"""A consumer's health over HTTP: /metrics for Prometheus, /healthz and /readyz for whoever restarts processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import accumulate
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Literal, NamedTuple, TypeAlias

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from devicevault_cli import __version__
from devicevault_cli.errors import BadConfig
from devicevault_cli.output.escapes import visible

_FAMILIES: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
BATCH_SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


class Buckets(NamedTuple):
    """The value of a histogram. `counts`: of values up to each bound and above the one before, then above all."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Sample(NamedTuple):
    """A metric and its value: None if it is not known, with a label a count for each value of that label."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    value: float | Mapping[str, float] | Buckets | None
    label: str = ""


class Health(NamedTuple):
    """`alive`: the process need not be restarted. `ready`: it does its work."""

    alive: bool
    ready: bool


Samples: TypeAlias = Callable[[], Iterable[Sample]]
Labels: TypeAlias = Mapping[str, str]
LABELS = ("pipeline", "stream", "group")
"""What every metric of a consumer has."""


class Metrics(Collector):
    """The registry of the consumers of one process."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self.health = health
        self._sources: list[tuple[Labels, Samples]] = []
        self.registry = CollectorRegistry()
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._size = Histogram(
            "dvctl_batch_messages", "Messages in a batch.", LABELS, registry=self.registry, buckets=BATCH_SIZES
        )
        self._duration = Histogram(
            "dvctl_batch_seconds", "From handing a batch to the database to its last acknowledgement.", LABELS,
            registry=self.registry,
        )  # fmt: skip
        Info("dvctl_build", "The version of dvctl.", registry=self.registry).info({"version": __version__})
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def add(self, samples: Samples, labels: Labels) -> None:
        """Serve more samples. `labels` are those of every one; the same names must come with the same metric."""
        self._sources.append(({name: visible(value) for name, value in labels.items()}, samples))

    def add_batches(self, labels: Labels) -> Callable[[int, float], None]:
        """Serve the batches of a consumer. -> what is to be called after each: (messages, seconds)"""
        shown = {name: visible(labels[name]) for name in LABELS}
        size, duration = self._size.labels(**shown), self._duration.labels(**shown)

        def observe(messages: int, seconds: float) -> None:
            size.observe(messages)
            duration.observe(seconds)

        return observe

    def describe(self) -> Iterable[Metric]:
        """Nothing yet: the registry asks for it before the consumer has begun."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every number as it is now; each metric once, whatever the number of its sources."""
        families: dict[str, Metric] = {}
        for labels, samples in self._sources:
            for sample in samples():
                if sample.value is not None:
                    _add(families, sample, labels)
        return iter(families.values())


def _add(families: dict[str, Metric], sample: Sample, labels: Labels) -> None:
    names, values = list(labels), list(labels.values())
    made = _FAMILIES[sample.kind]
    if sample.name not in families:
        own = [sample.label] if sample.label else []
        families[sample.name] = made(f"dvctl_{sample.name}", sample.help, labels=[*names, *own])
    family = families[sample.name]
    assert isinstance(family, made), sample.name  # noqa: S101 - a metric has one kind
    if isinstance(sample.value, Buckets):
        family.add_metric(values, _cumulative(sample.value), sample.value.total)
    elif isinstance(sample.value, Mapping):
        for key, count in dict(sample.value).items():
            family.add_metric([*values, visible(key)], count)
    elif sample.value is not None:
        family.add_metric(values, sample.value)


def _cumulative(value: Buckets) -> list[tuple[str, float]]:
    """Bounds and counts as Prometheus has them."""
    bounds = [*map(floatToGoString, value.bounds), "+Inf"]
    return list(zip(bounds, accumulate(map(float, value.counts)), strict=True))


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
