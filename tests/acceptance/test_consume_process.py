"""The installed `dvctl consume` under load, signals and failing servers: one row per identity, nothing left over."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis
from redis.typing import EncodableT, FieldT

from tests.support.allowance import wait_for_end
from tests.support.entries import entries
from tests.support.mariadb_server import MariaDbServer
from tests.support.postgres_server import PostgresServer
from tests.support.process import DVCTL, END_S, Dvctl, Running
from tests.support.redis_server import RedisServer
from tests.support.rows import select
from tests.support.server import WAIT_S, wait_until

STREAM, GROUP, DEAD = "device:results", "devicevault", "{device:results}:dead"
TABLE = "devices_devicebackupresult"


def message(number: int, **changes: Any) -> dict[FieldT, EncodableT]:
    device = number % 50 + 1
    return {
        "task_id": f"task-{number}",
        "task_identifier": f"collect:{device}:job-{number}",
        "device_id": str(device),
        "status": "success",
        "log": json.dumps(["collected", "x" * 200]),
        "device_config": "y" * 1500,
        "collection_duration_ms": "12",
        "initiated_at": "2026-01-12T04:47:00+00:00",
        "is_binary": "False",
    } | changes


def add(client: redis.Redis, numbers: range) -> None:
    pipe = client.pipeline(transaction=False)
    for number in numbers:
        pipe.xadd(STREAM, message(number))
    pipe.execute()


@contextmanager
def producing(url: str, first: int, per_second: int = 300) -> Iterator[list[int]]:
    """Publish in the background, surviving a Redis that is away; yields the numbers that were certainly published."""
    done: list[int] = []
    stop = threading.Event()

    def work() -> None:
        number = first
        while not stop.is_set():
            try:
                client = redis.Redis.from_url(url, socket_timeout=5)
                while not stop.is_set():
                    add(client, range(number, number + 10))
                    done.extend(range(number, number + 10))
                    number += 10
                    time.sleep(10 / per_second)
            except redis.RedisError:
                number += 10
                time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(WAIT_S)


def identifiers(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(f"SELECT task_identifier FROM {TABLE}").fetchall()]


def assert_everything_once(client: redis.Redis, database_url: str) -> None:
    """Oracle E: every published identity has one row or a dead letter; nothing pending, nothing undelivered."""
    there = [fields for _, fields in entries(client, STREAM)]
    rows = identifiers(database_url)
    dead = [fields[b"task_identifier"].decode() for _, fields in entries(client, DEAD)]
    assert len(rows) == len(set(rows))
    assert {fields[b"task_identifier"].decode() for fields in there} == set(rows) | set(dead)
    (group,) = client.xinfo_groups(STREAM)
    assert group["pending"] == 0
    assert group["last-delivered-id"] == client.xinfo_stream(STREAM)["last-generated-id"]


def settled(client: redis.Redis) -> Callable[[], bool]:
    def nothing_left() -> bool:
        (group,) = client.xinfo_groups(STREAM)
        newest = client.xinfo_stream(STREAM)["last-generated-id"]
        return bool(group["pending"] == 0 and group["last-delivered-id"] == newest)

    return nothing_left


def reading(client: redis.Redis) -> Callable[[], bool]:
    """A consumer that waits for the first entry has done all that comes before: it says "consuming" earlier."""
    return lambda: any("b" in each["flags"] and each["cmd"] == "xreadgroup" for each in client.client_list())


def working(database_url: str, rows: int = 1) -> Callable[[], bool]:
    return lambda: len(identifiers(database_url)) >= rows


def test_a_database_restart_in_mid_run_loses_nothing(
    dvctl: Dvctl, redis_server: RedisServer, new_postgres: Callable[..., PostgresServer]
) -> None:
    postgres = new_postgres(durable=True)
    url = postgres.database()
    dvctl.use(redis_server.url, url)
    client = redis_server.client()
    add(client, range(3000))
    daemon = dvctl.start("consume")
    with producing(redis_server.url, 10_000):
        wait_until(working(url), what="the first rows")
        for _ in range(2):
            postgres.restart("immediate")
            wait_until(working(url, len(identifiers(url)) + 1), timeout=END_S, what="more rows after the restart")
    wait_until(settled(client), timeout=END_S, what="the backlog to be worked off")
    assert daemon.sigterm().code == 0
    assert_everything_once(client, url)
    assert not client.exists(DEAD)


def test_redis_killed_and_restarted_on_its_append_only_file(
    dvctl: Dvctl, new_redis: Callable[..., RedisServer], postgres_url: str
) -> None:
    server = new_redis("--appendonly", "yes", "--appendfsync", "always")
    dvctl.use(server.url, postgres_url)
    add(server.client(), range(3000))
    daemon = dvctl.start("consume")
    with producing(server.url, 10_000):
        wait_until(working(postgres_url), what="the first rows")
        for _ in range(2):
            server.restart(kill=True)
            more = len(identifiers(postgres_url)) + 1
            wait_until(working(postgres_url, more), timeout=END_S, what="more rows after the restart")
    client = server.client()
    wait_until(settled(client), timeout=END_S, what="the backlog to be worked off")
    assert daemon.sigterm().code == 0
    assert_everything_once(client, postgres_url)


def test_one_of_three_is_killed_and_never_comes_back(
    dvctl: Dvctl, redis_server: RedisServer, postgres_url: str
) -> None:
    dvctl.use(redis_server.url, postgres_url)
    client = redis_server.client()
    workers = [dvctl.start("consume", "--claim-idle", "2s", "--batch-size", "50") for _ in range(3)]
    for worker in workers:
        worker.wait_for("consuming device:results")
    add(client, range(6000))
    wait_until(working(postgres_url, 500), what="the first rows")
    victim = workers.pop()
    victim.kill9()
    wait_until(settled(client), timeout=END_S, what="the dead worker's entries to be taken over")
    assert all(worker.sigterm().code == 0 for worker in workers)
    assert_everything_once(client, postgres_url)


def test_a_frozen_consumer_takes_nothing_back(
    dvctl: Dvctl, redis_server: RedisServer, postgres_server: PostgresServer, postgres_url: str
) -> None:
    """Frozen with one batch sent and another one in hand; the server commits the first without it.

    A lock that the test holds decides where it is when it freezes: tests/contract has the places where it would
    have the table's own lock, and chaos has the rest.
    """
    dvctl.use(redis_server.url, postgres_url)
    client = redis_server.client()
    frozen = dvctl.start("consume", "--claim-idle", "1s", "--batch-size", "100", "--consumer", "frozen")
    wait_until(reading(client), what="it to read")
    with postgres_server.connect(postgres_url) as session, session.transaction():
        session.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        add(client, range(2000))
        waits = f"SELECT 1 FROM pg_locks WHERE relation = '{TABLE}'::regclass AND NOT granted"
        wait_until(lambda: session.execute(waits.encode()).fetchone(), what="a batch to wait for the table")
        frozen.freeze()
    other = dvctl.start("consume", "--claim-idle", "1s", "--batch-size", "100", "--consumer", "other")
    wait_until(settled(client), timeout=END_S, what="the frozen consumer's entries to be taken over")
    add(client, range(2000, 3000))
    frozen.thaw()
    wait_until(settled(client), timeout=END_S, what="the rest")
    assert frozen.sigterm().code == 0
    assert other.sigterm().code == 0
    assert_everything_once(client, postgres_url)


@pytest.mark.parametrize("claim_idle", ["5m"])
def test_sigterm_under_load(dvctl: Dvctl, redis_server: RedisServer, postgres_url: str, claim_idle: str) -> None:
    dvctl.use(redis_server.url, postgres_url)
    client = redis_server.client()
    add(client, range(20_000))
    daemon = dvctl.start("consume", "--claim-idle", claim_idle, "-o", "json")
    wait_until(working(postgres_url), what="the first rows")
    answer = daemon.sigterm()
    assert answer.code == 0
    assert answer.json()["stopped_by"] == "signal"
    assert client.xpending(STREAM, GROUP)["pending"] == 0
    assert client.xinfo_consumers(STREAM, GROUP) == []
    assert len(identifiers(postgres_url)) == answer.json()["persisted"]


def test_a_second_signal_stops_at_once_and_loses_nothing(
    dvctl: Dvctl, redis_server: RedisServer, new_postgres: Callable[..., PostgresServer]
) -> None:
    postgres = new_postgres(durable=True)
    url = postgres.database()
    dvctl.use(redis_server.url, url)
    client = redis_server.client()
    daemon = start_waiting(dvctl, postgres, client)

    def ended() -> bool:
        """Two signals that arrive together are one: so they are sent until it ends."""
        daemon.send(signal.SIGTERM)
        return not daemon.alive()

    wait_until(ended, every=0.2, what="the second signal to end it")
    assert daemon.wait().code == 130, "0 is the end of the grace period"
    line = r"ended at once by a second signal \(SIGTERM\): (\d+) entr(?:y stays|ies stay) pending"
    (left,) = re.findall(line, daemon.stderr)
    assert int(left) == client.xpending(STREAM, GROUP)["pending"] > 0
    postgres.thaw()
    dvctl.ok("consume", "--drain", "--claim-idle", "100ms")
    assert_everything_once(client, url)


def test_sigterm_while_the_database_is_frozen_ends_within_the_grace_period(
    dvctl: Dvctl, redis_server: RedisServer, new_postgres: Callable[..., PostgresServer]
) -> None:
    postgres = new_postgres(durable=True)
    url = postgres.database()
    dvctl.use(redis_server.url, url)
    client = redis_server.client()
    daemon = start_waiting(dvctl, postgres, client)
    # Eight seconds and what a busy machine adds; the silence of the database alone would take 75.
    assert daemon.sigterm(40).code == 0
    assert not client.exists(DEAD)
    postgres.thaw()
    dvctl.ok("consume", "--drain", "--claim-idle", "100ms")
    assert_everything_once(client, url)


def test_sigterm_while_a_driver_waits_for_a_frozen_database_ends_within_the_grace_period(
    dvctl: Dvctl, redis_server: RedisServer, new_mariadb: Callable[..., MariaDbServer]
) -> None:
    """PyMySQL waits in one call, for 75 seconds: after eight its connection is shut down."""
    mariadb = new_mariadb()
    url = mariadb.database()
    dvctl.use(redis_server.url, url)
    client = redis_server.client()
    daemon = start_waiting(dvctl, mariadb, client)
    ended = daemon.sigterm(40)
    assert (ended.code, "signal: read" in ended.stderr) == (0, True), ended.stderr
    mariadb.thaw()
    dvctl.ok("consume", "--drain", "--claim-idle", "100ms")
    assert select(url, f"SELECT count(*) FROM {TABLE}") == [(500,)]


def start_waiting(dvctl: Dvctl, server: PostgresServer | MariaDbServer, client: redis.Redis) -> Running:
    """A consumer whose database froze with a batch in hand."""
    daemon = dvctl.start("consume", "--batch-size", "20")
    wait_until(reading(client), what="it to read")
    server.freeze()
    add(client, range(500))
    wait_until(lambda: client.xpending(STREAM, GROUP)["pending"], what="a batch in hand")
    return daemon


def test_a_rate_holds_from_the_first_second_on(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    client = redis_server.client()
    add(client, range(3000))
    began = time.monotonic()
    daemon = dvctl.use(redis_server.url, sqlite_url).start("consume", "--rate", "100")
    wait_until(lambda: select(sqlite_url, f"SELECT count(*) FROM {TABLE}")[0][0] >= 150, what="the second hundred")
    assert daemon.sigterm().code == 0
    done = dvctl.json("status")["table"]["rows"]
    assert done <= 100 * (time.monotonic() - began + 1)


def test_a_flood_of_dead_letters_does_not_flood_the_log(
    dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str
) -> None:
    client = redis_server.client()
    for number in range(100):
        client.xadd(STREAM, message(number, device_id="router"))
    client.xadd(STREAM, message(100, log="{"))
    answer = dvctl.use(redis_server.url, sqlite_url).ok("consume", "--drain")
    assert client.xlen(DEAD) == 101
    assert answer.stderr.count("dead-lettered: invalid-device-id") == 20
    assert answer.stderr.count("further dead letters for invalid-device-id") == 1
    assert "dead-lettered: malformed-log" in answer.stderr


def unread(pipe: int) -> int:
    """Bytes that wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


def test_a_log_that_nobody_reads_does_not_keep_a_consumer_from_ending(
    dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str
) -> None:
    client = redis_server.client()
    for number in range(60):
        client.xadd(STREAM, message(number, device_id="router", collection_duration_ms="x" * 60))
    dvctl.use(redis_server.url, sqlite_url)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"x" * 3500)
    daemon = subprocess.Popen([DVCTL, "consume"], env=dvctl.environment, stdout=subprocess.DEVNULL, stderr=writing)
    try:
        wait_until(lambda: unread(reading) > 3800 or client.xlen(DEAD) == 60, what="the log to be full")
        daemon.terminate()
        assert wait_for_end(daemon, 60) in (0, 130)
    finally:
        daemon.kill()
        os.close(writing)
        os.close(reading)
    dvctl.ok("consume", "--drain", "--claim-idle", "100ms")
    assert client.xlen(DEAD) == 60
