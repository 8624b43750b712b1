"""PgBouncer between, and what SQLite and MariaDB do to a consumer: busy, waits, deadlocks, lost connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from devicevault_cli.repository.dialects import mysql, sqlite
from devicevault_cli.repository.dialects.postgresql import connection as postgres_connection
from devicevault_cli.repository.dialects.postgresql import pipeline
from devicevault_cli.repository.dialects.postgresql.connection import LimitedConnection
from tests.support import servers
from tests.support.daemon import Daemon, at_work, consuming
from tests.support.mariadb_server import MariaDbServer
from tests.support.messages import Message, good, mixed, publish
from tests.support.oracle import TABLE, assert_everything, held
from tests.support.pgbouncer import PgBouncer, pgbouncer_program
from tests.support.process import Dvctl
from tests.support.proxy import DatabaseProxy
from tests.support.rows import select
from tests.support.server import wait_until
from tests.support.sqlite_database import locked

pytestmark = [pytest.mark.faults]


@pytest.fixture
def pooled(postgres_url: str) -> Iterator[str]:
    """A PostgreSQL database through a PgBouncer in transaction mode."""
    program = pgbouncer_program()
    if program is None:
        servers.unavailable("no pgbouncer on this machine")
    bouncer = PgBouncer(program, postgres_url)
    yield bouncer.url
    bouncer.remove()


def test_through_pgbouncer_in_transaction_mode(dvctl: Dvctl, redis_url: str, postgres_url: str, pooled: str) -> None:
    """Four consumers share two sessions and identities that come twice: the lock is the transaction's own."""
    dvctl.use(redis_url, pooled)
    once = mixed(400)
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, [each for pair in zip(once, once, strict=True) for each in pair])
    workers = [dvctl.start("consume", "--drain", "--batch-size", "40") for _ in range(4)]
    assert [worker.wait().code for worker in workers] == [0] * 4
    assert_everything(redis_url, postgres_url, sent)
    assert dvctl.json("verify")["ok"] is True
    assert dvctl.json("status")["table"]["rows"] == len(select(postgres_url, f"SELECT id FROM {TABLE}"))


@pytest.mark.parametrize("which", ["postgres_url", "mariadb_url"])
def test_the_database_answers_no_more(
    which: str, request: pytest.FixtureRequest, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blackhole: nobody resets the connection. The real times are a minute and more."""
    monkeypatch.setattr(pipeline, "ANSWER_S", 2.0)
    monkeypatch.setattr(LimitedConnection, "silence_s", 2.0)
    monkeypatch.setitem(postgres_connection.CONNECT, "connect_timeout", "2")
    monkeypatch.setattr(mysql, "ANSWER_S", 2.0)
    url = request.getfixturevalue(which)
    with DatabaseProxy(url) as proxy, consuming(redis_url, url, database_through=proxy.url) as daemon:
        daemon.publish(mixed(40))
        daemon.wait_settled()
        proxy.blackhole()
        daemon.hold(mixed(60, seed=2), times=2)
        proxy.heal()
        daemon.all_once()


def test_sqlite_with_another_writer(
    redis_url: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.1)
    with consuming(redis_url, sqlite_url) as daemon:
        daemon.publish(mixed(40))
        daemon.wait_settled()
        with locked(sqlite_url):
            daemon.hold(mixed(60, seed=2))
        daemon.all_once()
    assert "locked" in caplog.text


@pytest.fixture
def on_mariadb(redis_url: str, mariadb_url: str) -> Iterator[Daemon]:
    """A consumer at work there."""
    with at_work(redis_url, mariadb_url) as running:
        yield running


def two(first: int, second: int) -> list[Message]:
    """Two messages, whose devices' rows are locked in this order."""
    devices = (first, second)
    return [
        Message(each.fields | {b"device_id": b"%d" % device})
        for each, device in zip(good(2, seed=5), devices, strict=True)
    ]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds for a row are right for an operator and long for a test."""
    session = tuple(each.replace("lock_wait_timeout = 10", "lock_wait_timeout = 1") for each in mysql._SESSION)
    assert session != mysql._SESSION
    monkeypatch.setattr(mysql, "_SESSION", session)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends the waiting but the deadlock itself, however slow the test is."""
    session = tuple(each.replace("lock_wait_timeout = 10", "lock_wait_timeout = 1000") for each in mysql._SESSION)
    monkeypatch.setattr(mysql, "_SESSION", session)


def test_mariadb_waits_too_long_for_a_row(
    hurried: None,
    on_mariadb: Daemon,
    mariadb_server: MariaDbServer,
    mariadb_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """1205 rolls back the statement only: dvctl gives the whole transaction up."""
    with closing(mariadb_server.connect(mariadb_url)) as other, other.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("SELECT id FROM devices_device FOR UPDATE")
        on_mariadb.hold(mixed(60, seed=2), times=2)
    on_mariadb.all_once()
    assert "error 1205" in caplog.text


def test_mariadb_ends_a_deadlock(
    unhurried: None,
    on_mariadb: Daemon,
    redis_url: str,
    mariadb_server: MariaDbServer,
    mariadb_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """1213: of the two, the one that changed less is the victim."""
    with closing(mariadb_server.connect(mariadb_url)) as other, other.cursor() as cursor, held(redis_url):
        cursor.execute("START TRANSACTION")
        cursor.execute("UPDATE devices_device SET name = concat(name, '!') WHERE id > 7")
        on_mariadb.publish(two(7, 8))
        waits = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        wait_until(lambda: mariadb_server.execute(waits), what="the consumer to wait for a device")
        cursor.execute("UPDATE devices_device SET name = concat(name, '!') WHERE id = 7")
        wait_until(lambda: "error 1213" in caplog.text, what="the consumer to be the victim")
    on_mariadb.all_once()


def test_mariadb_loses_the_connection(
    on_mariadb: Daemon, mariadb_server: MariaDbServer, mariadb_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """2013 or 2006, again and again, whatever was under way."""
    name = mariadb_url.rpartition("/")[2]
    asked = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
    for round_ in range(5):
        on_mariadb.publish(good(40, seed=10 + round_))
        for (number,) in mariadb_server.execute(asked):
            mariadb_server.execute(f"KILL {number}")
    on_mariadb.all_once()
    assert "the connection was lost" in caplog.text
