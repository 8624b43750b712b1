"""Fail-over after fail-over under load: `make soak-failover`. Two consumers, a producer that never stops, and standbys
that lack rows when they are promoted."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
import redis

from tests.support import servers
from tests.support.messages import Sent, good, publish
from tests.support.oracle import TABLE, assert_everything, position
from tests.support.pgbouncer import PgBouncer, pgbouncer_program
from tests.support.postgres_server import PostgresServer
from tests.support.postgres_standby import PostgresStandby, listed
from tests.support.process import Dvctl
from tests.support.server import wait_until

ROUNDS = int(os.environ.get("DVCTL_TEST_ROUNDS") or 3)
SAFE = "synchronous_commit=on"
LACKING = 200
"""So many rows at least are missing on a standby that is promoted."""
SETTLE_S = 180.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 240 * ROUNDS)]


class Producer:
    """Publishes some hundred messages a second, each of its own identity."""

    def __init__(self, redis_url: str) -> None:
        self.sent: list[Sent] = []
        self._url, self._over = redis_url, threading.Event()

    def run(self) -> None:
        with closing(redis.Redis.from_url(self._url)) as client:
            for number in itertools.count(1):
                self.sent += publish(client, good(10, seed=number))
                if self._over.wait(0.05):
                    return

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run, name="producer")
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def rows(server: PostgresServer, database: str) -> int:
    [(count,)] = server.execute(f"SELECT count(*) FROM {TABLE}", database=server.url_for(database))
    return int(count)


@pytest.fixture
def bouncer(request: pytest.FixtureRequest) -> Iterator[list[PgBouncer]]:
    """Where the test puts its PgBouncer, to be ended."""
    made: list[PgBouncer] = []
    yield made
    for one in made:
        one.remove()


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pgbouncer"])
def test_fail_over_after_fail_over(
    redis_url: str, new_postgres: Callable[..., PostgresServer], dvctl: Dvctl, bouncer: list[PgBouncer], *, pooled: bool
) -> None:
    """Everything once, and the old primaries, which come back each time, get nothing."""
    program = pgbouncer_program()
    if pooled and program is None:
        servers.unavailable("no pgbouncer on this machine")
    first = new_postgres(SAFE)
    database = first.database().rpartition("/")[2]
    chain: list[PostgresServer] = [first]
    for _ in range(ROUNDS):
        chain.append(PostgresStandby(chain[-1], SAFE))
    url = listed(*reversed(chain), database=database)
    if pooled and program is not None:
        bouncer.append(PgBouncer(program, first.url_for(database)))
        url = bouncer[0].url
    dvctl.use(redis_url, url)
    consumers = [dvctl.start("consume", "--batch-size", "100") for _ in range(2)]
    producer = Producer(redis_url)
    try:
        with producer.running():
            for primary, standby in itertools.pairwise(chain):
                assert isinstance(standby, PostgresStandby)
                print(_fail_over(primary, standby, database, bouncer), flush=True)
        _wait_settled(redis_url)
        assert_everything(redis_url, chain[-1].url_for(database), producer.sent)
        ended = [consumer.sigterm() for consumer in consumers]
        assert [answer.code for answer in ended] == [0, 0], [answer.stderr[-2000:] for answer in ended]
        told = "".join(answer.stderr for answer in ended)
        assert told.count("restored") >= ROUNDS
        print(f"{len(producer.sent)} messages, {ROUNDS} fail-overs: everything once")
    finally:
        for server in chain[1:]:
            server.remove()


def _fail_over(primary: PostgresServer, standby: PostgresStandby, database: str, bouncer: list[PgBouncer]) -> str:
    """Promote a standby that lacks rows, and let the old primary come back. -> figures"""
    standby.start()
    standby.wait_streaming()
    wait_until(lambda: rows(primary, database), what="the first rows")
    standby.cut_off()
    before = rows(primary, database)
    wait_until(lambda: rows(primary, database) >= before + LACKING, what="rows that the standby lacks")
    primary.kill9()
    time.sleep(random.uniform(0.0, 3.0))
    standby.promote()
    there, began = rows(standby, database), time.monotonic()
    for one in bouncer:
        one.lead_to(standby.url_for(database))
    wait_until(lambda: rows(standby, database) > there, timeout=SETTLE_S, what="consumption to go on")
    resumed = time.monotonic() - began
    primary.start()
    old = rows(primary, database)
    time.sleep(5.0)
    assert rows(primary, database) == old, "the old primary got rows"
    return f"{old - there} rows lacking or more, consumption went on after {resumed:.1f} s"


def _wait_settled(redis_url: str) -> None:
    def settled() -> bool:
        with closing(redis.Redis.from_url(redis_url)) as client:
            return position(client) == (0, False)

    wait_until(settled, timeout=SETTLE_S, what="the backlog to be worked off")
