"""A consumer that runs beside the test, in a thread, through a fault and out of it: what H and E are asked about."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import redis

from devicevault_cli.broker import open_publisher
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.shutdown import Stop
from devicevault_cli.consumer.worker import Worker
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.tables import TABLES
from devicevault_cli.streams.connect import SOCKET_TIMEOUT_S, connect
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support.messages import Message, Sent, mixed, publish
from tests.support.oracle import GROUP, STREAM, assert_everything, held, position
from tests.support.process import END_S
from tests.support.server import WAIT_S, wait_until

TRIES = 3


class Daemon:
    """A running consumer, and what was published for it. `redis_url`: where the test itself looks."""

    def __init__(self, worker: Worker, redis_url: str, database_url: str) -> None:
        self.worker = worker
        self.sent: list[Sent] = []
        self._redis_url, self._database_url = redis_url, database_url

    def publish(self, messages: list[Message]) -> None:
        with redis.Redis.from_url(self._redis_url) as client:
            self.sent += publish(client, messages, together=True)

    def wait_deferred(self, times: int = TRIES, timeout: float = END_S) -> None:
        """Wait until it has tried in vain so many times from now on."""
        wanted = self.worker.counters.deferred_retries + times
        wait_until(lambda: self.worker.counters.deferred_retries >= wanted, timeout=timeout, what="it to defer")

    def hold(self, messages: list[Message], times: int = TRIES) -> None:
        """Oracle H: publish into a fault; it tries so many times and settles nothing."""
        with held(self._redis_url):
            self.publish(messages)
            self.wait_deferred(times)

    def wait_settled(self, timeout: float = END_S) -> None:
        """Wait until nothing is undelivered or pending."""

        def settled() -> bool:
            try:
                with redis.Redis.from_url(self._redis_url, socket_timeout=2) as client:
                    return position(client) == (0, False)
            except (redis.RedisError, AssertionError):
                return False

        wait_until(settled, timeout=timeout, what="the backlog to be worked off")

    def all_once(self) -> None:
        """Oracle E, once the backlog is worked off."""
        self.wait_settled()
        assert_everything(self._redis_url, self._database_url, self.sent)


@contextmanager
def consuming(
    redis_url: str,
    database_url: str,
    *,
    through: str = "",
    database_through: str = "",
    broker: str = "",
    name: str = "daemon",
    socket_timeout: float = SOCKET_TIMEOUT_S,
    **options: Any,
) -> Iterator[Daemon]:
    """A consumer, stopped at the end. `through`, `database_through`: where it connects (a proxy), if elsewhere.

    `broker`: the URL of the one that configurations are handed to.
    """
    stop = Stop()
    with (
        closing(connect(through or redis_url, STREAM, socket_timeout=socket_timeout)) as client,
        closing(open_repository(database_through or database_url, TABLES[RESULTS.table])) as repository,
        closing(open_publisher(broker)) if broker else nullcontext() as publisher,
    ):
        delivery = GroupConsumer(Group(Stream(client, STREAM), GROUP), name)
        worker = Worker(delivery, repository, RESULTS, ConsumeOptions(**options), stop, publisher=publisher)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                worker.run()
            except BaseException as error:  # noqa: BLE001  raised below, in the test's own thread
                failures.append(error)

        thread = threading.Thread(target=run, name="daemon")
        thread.start()
        try:
            yield Daemon(worker, redis_url, database_url)
        finally:
            stop.set()
            thread.join(WAIT_S)
        assert not thread.is_alive(), "the consumer does not stop"
        assert not failures, failures


@contextmanager
def at_work(redis_url: str, database_url: str) -> Iterator[Daemon]:
    """A consumer that has worked off a first backlog and waits for more."""
    with consuming(redis_url, database_url) as running:
        running.publish(mixed(40))
        running.wait_settled()
        yield running
