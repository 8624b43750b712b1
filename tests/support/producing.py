"""A producer that goes on through a fail-over: it notes which messages were confirmed, and by how many replicas."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import redis

from devicevault_cli.errors import DvctlError
from devicevault_cli.streams.connect import connect, translated
from tests.support.daemon import Daemon, consuming
from tests.support.messages import Message, Sent, good
from tests.support.oracle import GROUP, STREAM, dead_letters, identity_of
from tests.support.redis_server import RedisServer
from tests.support.rows import count, read_rows
from tests.support.server import wait_until
from tests.support.topologies import LONG_S

PAUSE_S = 0.004
"""About 200 messages a second, while there is a replica that takes them."""


@dataclass
class Producer:
    """`confirmed`: what Redis confirmed; `replicated`: what a replica had then, too."""

    confirmed: list[Sent] = field(default_factory=list)
    replicated: list[Sent] = field(default_factory=list)
    failures: int = 0

    def wait_for_more(self, messages: int, timeout: float) -> None:
        """Wait until so many more were confirmed."""
        wanted = len(self.confirmed) + messages
        wait_until(lambda: len(self.confirmed) >= wanted, timeout=timeout, what="the producer to go on")


@contextmanager
def producing(url: str, *, seed: int = 1) -> Iterator[Producer]:
    """Publishes one message after the other until the end of the block."""
    producer, stop = Producer(), threading.Event()

    def run() -> None:
        with closing(connect(url, STREAM, socket_timeout=3)) as client:
            for number in range(10**9):
                if stop.wait(PAUSE_S):
                    return
                message = good(1, seed=seed, start=number)[0]
                try:
                    with translated(client):
                        _send(client, message, producer)
                except DvctlError:
                    producer.failures += 1
                    stop.wait(0.1)

    thread = threading.Thread(target=run, name="producer")
    thread.start()
    try:
        yield producer
    finally:
        stop.set()
        thread.join(60)


def _send(client: Any, message: Message, producer: Producer) -> None:
    with client.pipeline(transaction=False) as pipeline:
        pipeline.execute_command("XADD", STREAM, "*", *[part for pair in message.fields.items() for part in pair])
        pipeline.execute_command("WAIT", 1, 30)
        given, replicas = pipeline.execute(raise_on_error=False)
    if isinstance(given, Exception):
        raise given
    sent = Sent(given.decode(), message)
    producer.confirmed.append(sent)
    if isinstance(replicas, int) and replicas > 0:
        producer.replicated.append(sent)


def settled(client: redis.Redis, group: str) -> bool:
    """Whether the group has read everything and nothing is pending; False while Redis does not answer."""
    try:
        info = next(found for found in client.xinfo_groups(STREAM) if found["name"] == group.encode())
        newest = client.xinfo_stream(STREAM)["last-generated-id"]
        return bool(info["pending"] == 0 and info["last-delivered-id"] == newest)
    except (redis.RedisError, StopIteration):
        return False


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of confirmed messages: `lost` are on the stream and nowhere else; `forgotten` were lost by Redis."""

    rows: int
    lost: list[str]
    forgotten: list[str]
    duplicates: list[Any]


def fate(client: redis.Redis, database_url: str, sent: list[Sent]) -> Fate:
    """Compare what was confirmed with rows, dead letters and what is left on the stream."""
    rows = count(row.identity for row in read_rows(database_url))
    dead = dead_letters(client)
    entries: Any = client.xrange(STREAM)
    kept = {key.decode() for key, _ in entries}
    missing = [one.id for one in sent if identity_of(one.id, one.message.fields) not in rows and one.id not in dead]
    return Fate(
        rows=sum(rows.values()),
        lost=[key for key in missing if key in kept],
        forgotten=[key for key in missing if key not in kept],
        duplicates=[identity for identity, number in rows.items() if number > 1],
    )


class Topology(Protocol):
    """A cluster or a group under Sentinels."""

    @property
    def url(self) -> str: ...

    def master(self) -> RedisServer: ...

    def promoted(self, before: RedisServer) -> bool: ...

    def well(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Work:
    """A producer and a consumer at work."""

    topology: Topology
    producer: Producer
    daemon: Daemon

    def wait_for_rows(self, more: int = 50) -> float:
        """Wait for so many more rows. -> seconds"""
        begun, wanted = time.monotonic(), self.daemon.worker.counters.persisted + more
        wait_until(lambda: self.daemon.worker.counters.persisted >= wanted, timeout=LONG_S, what="more rows")
        return time.monotonic() - begun

    def wait_promoted(self, before: RedisServer) -> None:
        wait_until(lambda: self.topology.promoted(before), timeout=LONG_S, what="the replica to take over")

    def wait_well(self) -> None:
        wait_until(self.topology.well, timeout=LONG_S, what="the servers to be complete again")


@contextmanager
def at_work(topology: Topology, database_url: str, *, url: str = "", all_kept: bool = True) -> Iterator[Work]:
    """The block happens to a consumer and a producer at work. Afterwards every confirmed message is a row, or Redis has
    lost it; with `all_kept` nothing that a replica had is lost."""
    url = url or topology.url
    with consuming(url, database_url) as daemon:
        with producing(url) as producer:
            work = Work(topology, producer, daemon)
            producer.wait_for_more(50, LONG_S)
            work.wait_for_rows(20)
            yield work
            producer.wait_for_more(50, LONG_S)
        wait_until(lambda: _settled(topology), timeout=LONG_S, what="the backlog to be worked off")
    with topology.master().client() as client:
        found = fate(client, database_url, producer.confirmed)
    assert (found.lost, found.duplicates) == ([], [])
    replicated = {sent.id for sent in producer.replicated}
    assert replicated
    assert not (all_kept and replicated.intersection(found.forgotten)), "a replica had these"


def _settled(topology: Topology) -> bool:
    with topology.master().client() as client:
        return settled(client, GROUP)
