"""Storage dispatch in a chaos run: RabbitMQ, a storage worker and the consumer of its results, and their faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.amqp_proxy import AmqpProxy
from tests.support.celery_worker import StorageWorker
from tests.support.dispatching import assign, not_stored_once, to_be_stored
from tests.support.messages import Sent
from tests.support.process import Dvctl, Running
from tests.support.rabbitmq_server import RabbitServer, rabbitmq_kind
from tests.support.redis_server import RedisServer, redis_kinds
from tests.support.server import wait_until

if TYPE_CHECKING:
    from tests.chaos.faults import World

STUCK_S = 120.0
"""How long the storage worker may publish no result although there are jobs left: a busy machine makes it slow."""


@dataclass(slots=True)
class StorageSide:
    """What stands behind the consumers. `results`: a Redis of its own for what the worker publishes, never broken:

    a Celery task that cannot publish its result fails, and its job is lost; that would say nothing about dvctl.
    """

    node: RabbitServer
    proxy: AmqpProxy
    worker: StorageWorker
    results: RedisServer
    dvctl: Dvctl
    consumer: Running

    @property
    def environment(self) -> dict[str, str]:
        """What the consumers of the other stream need in addition."""
        return {"CELERY_BROKER_URL": self.proxy.url}

    def consume(self) -> None:
        """Start the consumer of the worker's results."""
        self.consumer = self.dvctl.start("consume", "--pipeline", "storage", "--claim-idle", "1s")

    def findings(self, database_url: str, sent: Sequence[Sent]) -> list[str]:
        """Once nothing is broken any more: wait for the worker, store its results, compare."""
        wanted = {one for one in to_be_stored(sent) if isinstance(one, str)}
        while missing := wanted - self._answered():
            before = len(missing)
            try:
                wait_until(lambda: len(wanted - self._answered()) < before, timeout=STUCK_S, every=1.0)  # noqa: B023
            except TimeoutError:
                return [f"no result of {before} jobs: {sorted(missing)[:5]}"]
        stopped = self.consumer.sigterm()
        drained = self.dvctl.run("consume", "--drain", "--pipeline", "storage")
        bad = [f"the consumer of the storage results ended with {one.code}" for one in (stopped, drained) if one.code]
        if wrong := not_stored_once(database_url, sent):
            bad.append(f"rows and stored backups other than 1 and 1 ({len(wrong)}): {dict(list(wrong.items())[:5])}")
        return bad

    def told(self, sent: Sequence[Sent]) -> str:
        """For the report: what reached the worker."""
        copies = Counter(received.id for received in self.worker.received())
        return (
            f"successes to be stored {len(to_be_stored(sent))}, jobs {len(copies)}, received {copies.total()} times,"
            f" stored {len(self.worker.stored())} times"
        )

    def _answered(self) -> set[str]:
        return {result["task_identifier"] for result in self.worker.results()}


@contextmanager
def storage_side(directory: Path, database_url: str) -> Iterator[StorageSide]:
    """Everything that storage dispatch needs, on a fresh database."""
    kind = rabbitmq_kind()
    assert kind is not None, "there is no RabbitMQ on this machine"
    assign(database_url)
    node, results = RabbitServer(kind), RedisServer(redis_kinds()[0])
    try:
        url = node.start().control.vhost()
        results.start()
        worker = StorageWorker(url, results.url)
        dvctl = Dvctl(directory).use(results.url, database_url).on_its_own_host()
        try:
            with AmqpProxy(url) as proxy:
                running = dvctl.start("consume", "--pipeline", "storage", "--claim-idle", "1s")
                worker.start()
                yield StorageSide(node, proxy, worker, results, dvctl, running)
        finally:
            dvctl.kill_all()
            worker.remove()
    finally:
        node.remove()
        results.remove()


# --- faults


def _side(world: World) -> StorageSide:
    assert world.storage is not None, "this fault needs a run with storage dispatch"
    return world.storage


def broker_kill(world: World) -> Callable[[], object]:
    _side(world).node.kill9()
    return _side(world).node.start


def broker_stop(world: World) -> Callable[[], object]:
    """An orderly restart."""
    _side(world).node.stop()
    return _side(world).node.start


def broker_freeze(world: World) -> Callable[[], object]:
    _side(world).node.freeze()
    return _side(world).node.thaw


def broker_alarm(world: World) -> Callable[[], object]:
    control = _side(world).node.control
    control.memory_alarm(True)
    return lambda: control.memory_alarm(False)


def broker_cut(world: World) -> None:
    _side(world).proxy.cut()


def lost_confirm(world: World) -> None:
    world.losses.append(("lost-confirm", _side(world).proxy.lose_confirm()))


def worker_kill(world: World) -> None:
    """Another takes its place, which waits for the broker if that is away."""
    _side(world).worker.kill9()
    _side(world).worker.start(wait=False)


def storage_kill(world: World) -> None:
    """Kill the consumer of the worker's results; another takes its place."""
    _side(world).consumer.kill9()
    _side(world).consume()
