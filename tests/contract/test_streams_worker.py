"""The consumer of several streams: everything once, whatever happens to one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import fakeredis
import pytest

from devicevault_cli.consumer import source as source_module
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.reader import BATCH_BYTES, PER_READ_OF_SMALL
from devicevault_cli.consumer.shutdown import Stop
from devicevault_cli.consumer.streams_worker import StreamsWorker
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.tables import TABLES
from devicevault_cli.streams.connect import Client, connect, separate
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP
from tests.support.redis_server import RedisServer
from tests.support.rows import select
from tests.support.server import WAIT_S, wait_until

NAMES = [f"s:{{{number}}}" for number in range(4)]


def message(name: str, device: int = 1, **more: str) -> Any:
    return {"device_id": device, "status": "success", "log": "[]", "task_identifier": name, **more}


@dataclass
class Daemon:
    """A consumer at work in a thread."""

    worker: StreamsWorker
    url: str
    stop: Stop

    def rows(self) -> set[str]:
        return {name for (name,) in select(self.url, "SELECT task_identifier FROM devices_devicebackupresult")}

    def await_rows(self, wanted: set[str]) -> None:
        wait_until(lambda: self.rows() >= wanted, what=f"rows: {len(wanted)}")
        names = [name for (name,) in select(self.url, "SELECT task_identifier FROM devices_devicebackupresult")]
        assert len(names) == len(set(names))


def consumers_of(clients: Sequence[Client]) -> list[GroupConsumer]:
    streams = (Stream(client, name, shares_table=True) for client, name in zip(clients, NAMES, strict=False))
    return [GroupConsumer(Group(stream, GROUP), "me") for stream in streams]


@contextmanager
def consuming(clients: Sequence[Client], database_url: str, **options: Any) -> Iterator[Daemon]:
    """Consume the stream of each name by the client in the same place, until the block ends."""
    stop = Stop()
    consumers = consumers_of(clients)
    with closing(open_repository(database_url, TABLES[RESULTS.table])) as repository:
        worker = StreamsWorker(consumers, repository, RESULTS, ConsumeOptions(**options), stop)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                worker.run()
            except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
                failures.append(error)

        thread = threading.Thread(target=run, name="daemon")
        thread.start()
        try:
            wait_until(lambda: failures or all(one.has_read for one in worker.progress.each), what="a first read")
            yield Daemon(worker, database_url, stop)
        finally:
            stop.set()
            thread.join(WAIT_S)
        assert not thread.is_alive(), "the consumer does not stop"
        assert not failures, failures


@pytest.fixture
def clients(redis_url: str) -> Iterator[list[Client]]:
    found = [connect(redis_url) for _ in NAMES]
    yield found
    for client in found:
        client.close()


def test_every_stream_is_read(clients: list[Client], sqlite_url: str) -> None:
    with consuming(clients, sqlite_url) as daemon:
        wanted = {f"{name}-{number}" for name in NAMES for number in range(30)}
        for name in NAMES:
            for number in range(30):
                clients[0].xadd(name, message(f"{name}-{number}"))
        daemon.await_rows(wanted)
    assert [clients[0].xpending(name, GROUP)["pending"] for name in NAMES] == [0] * 4
    assert daemon.worker.progress.counters.persisted == 120
    assert [one.counters.persisted for one in daemon.worker.progress.each] == [30] * 4


def test_messages_of_one_identity_on_two_streams_are_one_row(clients: list[Client], sqlite_url: str) -> None:
    for name in NAMES:
        clients[0].xadd(name, message("the same"))
        clients[0].xadd(name, message(f"{name} alone"))
    with consuming(clients, sqlite_url) as daemon:
        daemon.await_rows({"the same"} | {f"{name} alone" for name in NAMES})
        wait_until(lambda: daemon.worker.progress.counters.read == 8, what="every outcome")
    assert daemon.worker.progress.counters.duplicates == 3


def test_bad_messages_are_dead_letters_of_their_own_streams(clients: list[Client], sqlite_url: str) -> None:
    for number, name in enumerate(NAMES):
        for copy in range(number):
            clients[0].xadd(name, message(f"{name}-{copy}", device=999_999))
        clients[0].xadd(name, message(name))
    with consuming(clients, sqlite_url) as daemon:
        daemon.await_rows(set(NAMES))
        wait_until(lambda: daemon.worker.progress.counters.dead_lettered == 6, what="the dead letters")
    assert [clients[0].xlen(f"{name}:dead") for name in NAMES] == [0, 1, 2, 3]


def test_nothing_is_left_pending_at_the_end(clients: list[Client], sqlite_url: str) -> None:
    """What Redis delivers to a read that is under way while the consumer ends is worked off, too."""
    with consuming(clients, sqlite_url) as daemon:
        wait_until(lambda: clients[0].info("clients")["blocked_clients"] == 4, what="four waiting reads")
        daemon.stop.set()
        for name in NAMES:
            clients[0].xadd(name, message(name))
    delivered = [clients[0].xinfo_groups(name)[0]["last-delivered-id"] for name in NAMES]
    assert delivered.count("0-0") < 4
    assert [clients[0].xpending(name, GROUP)["pending"] for name in NAMES] == [0] * 4
    assert len(daemon.rows()) == 4 - delivered.count("0-0")
    assert [clients[0].xinfo_consumers(name, GROUP) for name in NAMES] == [[]] * 4


def test_a_stream_whose_server_is_away_does_not_stop_the_others(
    new_redis: Callable[..., RedisServer], redis_url: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "ANSWER_S", 1.5)
    other = new_redis()
    with closing(connect(redis_url)) as near, closing(connect(other.url)) as far:
        own = separate(far, 1.0)
        with closing(own), consuming([near, own], sqlite_url) as daemon:
            far.xadd(NAMES[1], message("far-1"))
            daemon.await_rows({"far-1"})
            other.freeze()
            try:
                for number in range(5):
                    near.xadd(NAMES[0], message(f"near-{number}"))
                    daemon.await_rows({f"near-{number}"})
                away = daemon.worker.progress.each[1]
                wait_until(lambda: away.outages.up["redis"] is False, what="the outage to be noticed")
                near.xadd(NAMES[0], message("near, during the outage"))
                daemon.await_rows({"near, during the outage"})
                assert daemon.worker.progress.each[0].outages.up["redis"] is True
                assert daemon.worker.progress.ready
            finally:
                other.thaw()
            far.xadd(NAMES[1], message("far-2"))
            daemon.await_rows({"far-2"})
            wait_until(lambda: away.outages.up["redis"], what="the end of the outage")
        assert far.xpending(NAMES[1], GROUP)["pending"] == 0


def test_a_server_that_dies_before_the_acknowledgement(
    new_redis: Callable[..., RedisServer], redis_url: str, sqlite_url: str
) -> None:
    """Rows that are saved are acknowledged once the server is back, and are written once."""
    other = new_redis("--appendonly", "yes", "--appendfsync", "always")
    with closing(connect(redis_url)) as near, closing(connect(other.url)) as far:
        with consuming([near, far], sqlite_url) as daemon:
            killed = threading.Event()
            acknowledger = daemon.worker._sources[1].acknowledger
            before = acknowledger.send

            def send() -> None:
                if killed.is_set():
                    before()
                else:
                    other.kill9()  # before anything is sent
                    killed.set()

            acknowledger.send = send  # type: ignore[method-assign]
            far.xadd(NAMES[1], message("far"))
            assert killed.wait(WAIT_S)
            near.xadd(NAMES[0], message("near"))
            daemon.await_rows({"near", "far"})
            other.start()
            wait_until(lambda: far.xpending(NAMES[1], GROUP)["pending"] == 0, what="the acknowledgement")
        assert daemon.worker.progress.counters.persisted == 2


def marker(client: Any) -> bytes:
    """What the consumer noted of a stream."""
    noted: bytes = client.hget(f"{NAMES[2]}:seen", GROUP) or b""
    return noted


def test_a_stream_that_is_deleted_is_read_from_its_start(clients: list[Client], sqlite_url: str) -> None:
    with consuming(clients, sqlite_url) as daemon:
        for name in NAMES:
            clients[0].xadd(name, message(f"{name} before"))
        daemon.await_rows({f"{name} before" for name in NAMES})
        wait_until(lambda: b'"length": 1' in marker(clients[0]), what="the stream to be looked at")
        clients[0].delete(NAMES[2])
        for name in NAMES:
            clients[0].xadd(name, message(f"{name} after"))
        daemon.await_rows({f"{name} after" for name in NAMES})
        each = daemon.worker.progress.each
        wait_until(lambda: each[2].counters.stream_restarts == 1, what="the restart to be noticed")
    assert [one.counters.stream_restarts for one in each] == [0, 0, 1, 0]


def test_what_a_dead_consumer_held_is_taken_over(clients: list[Client], sqlite_url: str) -> None:
    for name in NAMES:
        clients[0].xadd(name, message(name))
        clients[0].xgroup_create(name, GROUP, "0")
        clients[0].xreadgroup(GROUP, "dead", {name: ">"})
    with consuming(clients, sqlite_url, claim_idle_s=0.1) as daemon:
        daemon.await_rows(set(NAMES))
    assert daemon.worker.progress.counters.reclaimed == 4


def test_an_entry_delivered_too_often_is_processed_alone(clients: list[Client], sqlite_url: str) -> None:
    clients[0].xadd(NAMES[1], message("poison"))
    clients[0].xgroup_create(NAMES[1], GROUP, "0")
    clients[0].xreadgroup(GROUP, "me", {NAMES[1]: ">"})
    [entry] = clients[0].xpending_range(NAMES[1], GROUP, "-", "+", 1)
    clients[0].xclaim(NAMES[1], GROUP, "me", 0, [entry["message_id"]], retrycount=12)
    with consuming(clients, sqlite_url, max_deliveries=10) as daemon:
        clients[0].xadd(NAMES[0], message("neighbour"))
        daemon.await_rows({"poison", "neighbour"})
        wait_until(lambda: clients[0].xpending(NAMES[1], GROUP)["pending"] == 0, what="the acknowledgement")
    assert clients[0].exists(f"{NAMES[1]}:alone") == 0


def test_a_long_backlog_does_not_keep_the_others_waiting(clients: list[Client], sqlite_url: str) -> None:
    """A round takes a page of each stream before it takes a second one of any."""
    with clients[0].pipeline(transaction=False) as pipe:
        for number in range(3000):
            pipe.xadd(NAMES[0], message(f"long-{number}"))
        pipe.execute()
    for name in NAMES[1:]:
        clients[0].xadd(name, message(name))
    consumers = [
        GroupConsumer(Group(Stream(client, name), GROUP), "me") for client, name in zip(clients, NAMES, strict=True)
    ]
    with closing(open_repository(sqlite_url, TABLES[RESULTS.table])) as repository:
        worker = StreamsWorker(consumers, repository, RESULTS, ConsumeOptions(drain=True), Stop())
        worker._retry(worker._prepare)
        for _ in range(3):  # pending entries of dead consumers are looked for first
            worker._turn = -1  # the long one comes first
            found = worker._next(waiting=False)
            if found:
                break
        counts = {part.source.key: len(part.batch.counts) for part in found.parts}
    assert [counts[name] for name in NAMES[1:]] == [1, 1, 1]
    assert counts[NAMES[0]] == 1000 - 3
    assert PER_READ_OF_SMALL < 1000


def test_a_round_holds_few_large_messages(clients: list[Client], sqlite_url: str) -> None:
    for name in NAMES:
        for number in range(10):
            clients[0].xadd(name, message(f"{name}-{number}", device_config="x" * 1_000_000))
    with consuming(clients, sqlite_url, drain=False) as daemon:
        worker, sizes = daemon.worker, []
        daemon.await_rows({f"{name}-{number}" for name in NAMES for number in range(10)})
        sizes = [source.reader.bytes for source in worker._sources]
    assert max(sizes) <= BATCH_BYTES


def test_a_run_of_so_many_messages_reads_no_more(clients: list[Client], sqlite_url: str) -> None:
    for name in NAMES:
        for number in range(5):
            clients[0].xadd(name, message(f"{name}-{number}"))
    consumers = [
        GroupConsumer(Group(Stream(client, name), GROUP), "me") for client, name in zip(clients, NAMES, strict=True)
    ]
    with closing(open_repository(sqlite_url, TABLES[RESULTS.table])) as repository:
        worker = StreamsWorker(consumers, repository, RESULTS, ConsumeOptions(max_messages=7), Stop())
        assert worker.run() == "max-messages"
    assert worker.progress.counters.read == 7
    assert sum(clients[0].xpending(name, GROUP)["pending"] for name in NAMES) == 0


def test_where_nothing_can_be_waited_for_it_is_read_again_and_again(sqlite_url: str) -> None:
    """An embedded Redis has no sockets."""
    server = fakeredis.FakeServer(server_type="redis", version=(7,))
    fakes = [fakeredis.FakeRedis(server=server) for _ in NAMES]
    with consuming(fakes, sqlite_url) as daemon:
        for name in NAMES:
            fakes[0].xadd(name, message(name))
        daemon.await_rows(set(NAMES))
    assert daemon.worker.progress.counters.deferred_retries == 0
