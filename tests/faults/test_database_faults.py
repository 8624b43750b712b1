"""PostgreSQL stopped, full, locked, read-only, out of connections or locks: held meanwhile, everything once afterwards.

Each condition is what a server really answers; only a serialization failure (40001), which READ COMMITTED never meets
on a primary, is raised by a trigger.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis

from devicevault_cli.repository.dialects.postgresql import statements as postgres_sql
from devicevault_cli.repository.tables import RESULTS
from tests.faults.conftest import APP
from tests.support.allowance import wait_for_end
from tests.support.daemon import Daemon, at_work, consuming
from tests.support.messages import Message, good, mixed, publish
from tests.support.oracle import TABLE, held
from tests.support.postgres_server import PostgresServer
from tests.support.process import Dvctl
from tests.support.server import WAIT_S, wait_until

pytestmark = [pytest.mark.faults]

Execute = Callable[..., list[tuple[Any, ...]]]
LOCK = postgres_sql.lock_key(RESULTS)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds for a lock are right for an operator and long for a test; a deadlock is found after one."""
    monkeypatch.setattr(postgres_sql, "LOCK_MS", 2_000)


@pytest.fixture
def daemon(redis_url: str, database: str) -> Iterator[Daemon]:
    """A consumer at work, which has worked off a first backlog."""
    with at_work(redis_url, database) as running:
        yield running


def again() -> list[Message]:
    """More of every kind, also bad ones: an outage must not settle these either way."""
    return mixed(60, seed=2)


def waiting(session: psycopg.Connection[Any], lock: str = "relation") -> Callable[[], bool]:
    """Whether the consumer waits for a lock that another session has."""
    asked = f"SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE usename = '{APP}' AND NOT granted"
    return lambda: session.execute(f"{asked} AND pg_locks.locktype = %s", [lock]).fetchone() is not None


def throw_out(session: psycopg.Connection[Any]) -> None:
    """57P01: the administrator ends the consumer's sessions."""
    session.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{APP}'")


def test_shutting_down_and_starting(
    daemon: Daemon, breakable: PostgresServer, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """57P01, then 57P03 while it shuts down, then nobody there, then the start."""
    with psycopg.connect(breakable.url_for(database.rpartition("/")[2]), autocommit=True) as session:
        breakable.process.popen.send_signal(signal.SIGTERM)
        throw_out(session)
        daemon.hold(again())
    wait_for_end(breakable.process.popen, WAIT_S)
    daemon.wait_deferred(1)
    breakable.start()
    daemon.all_once()
    assert "shutting down" in caplog.text
    assert "cannot be reached" in caplog.text


def test_too_many_connections(daemon: Daemon, other: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture) -> None:
    other.execute(f"ALTER ROLE {APP} CONNECTION LIMIT 0")
    try:
        throw_out(other)
        daemon.hold(again())
    finally:
        other.execute(f"ALTER ROLE {APP} CONNECTION LIMIT -1")
    daemon.all_once()
    assert "too many connections" in caplog.text


def test_read_only(daemon: Daemon, other: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture) -> None:
    name = other.info.dbname
    other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    throw_out(other)
    daemon.hold(again())
    other.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    throw_out(other)
    daemon.all_once()
    assert "is read-only" in caplog.text


def test_a_lock_that_another_session_keeps(
    daemon: Daemon, other: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_sql, "LOCK_MS", 200)
    with other.transaction():
        other.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        daemon.hold(again())
    daemon.all_once()
    assert "55P03" in caplog.text


def test_a_deadlock(
    daemon: Daemon, redis_url: str, other: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The other session has the table and asks for dvctl's own lock while dvctl asks for the table.

    Whoever has waited for a second looks whether there is a deadlock, and looks only once. Where the other session is
    slower than that there is none: the consumer's lock timeout ends it, and it is tried again.
    """
    other.execute("SET deadlock_timeout = '1h'")
    for attempt in range(10):
        daemon.wait_settled()
        failures = caplog.text.count("SQLSTATE")
        with other.transaction(), held(redis_url):
            other.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
            daemon.publish(mixed(60, seed=2 + attempt))
            wait_until(waiting(other), what="the consumer to wait for the table")
            other.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
            wait_until(lambda: caplog.text.count("SQLSTATE") > failures, what="the consumer to give up")  # noqa: B023
        if "40P01" in caplog.text:
            break
    daemon.all_once()
    assert "40P01" in caplog.text


@contextmanager
def failing(execute: Execute, sqlstate: str) -> Iterator[None]:
    """Every insert ends with this SQLSTATE."""
    execute(
        f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'it is so' USING ERRCODE = '{sqlstate}'; END $$",
        f"CREATE TRIGGER fail BEFORE INSERT ON {TABLE} EXECUTE FUNCTION fail()",
    )
    yield
    execute("DROP FUNCTION fail CASCADE")


@pytest.mark.parametrize("sqlstate", ["40001", "58030", "XX000", "54000", "0A000", "P0001"])
def test_a_serialization_failure_and_what_nobody_foresaw(
    daemon: Daemon, execute: Execute, sqlstate: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that dvctl does not know is an outage, and never the message's fault."""
    with failing(execute, sqlstate):
        daemon.hold(again(), times=2)
    daemon.all_once()
    assert sqlstate in caplog.text


def test_a_full_disk(
    daemon: Daemon, breakable: PostgresServer, execute: Execute, caplog: pytest.LogCaptureFixture
) -> None:
    """The table's file can grow no further: to PostgreSQL a write that is cut short means that the disk is full."""
    (file,) = execute(
        f"ALTER TABLE {TABLE} ALTER log SET STORAGE PLAIN",
        f"INSERT INTO {TABLE} (task_id, task_identifier, device_id, status, timestamp, log)"
        " SELECT '', 'filler', 1, 'success', now(), repeat('x', 7950) FROM generate_series(1, 2200)",
        f"SELECT pg_relation_filepath('{TABLE}')",
    )[0]
    size = (breakable.data / str(file)).stat().st_size
    assert size > 2**24, "a limit below a segment of the write-ahead log would stop that, and the server with it"
    log = json.dumps(["x" * 7000]).encode()
    needing_a_page_each = [Message(each.fields | {b"log": log}) for each in good(60, seed=2)]
    with file_limit(breakable, size + 4096):
        daemon.hold(needing_a_page_each)
    execute(f"DELETE FROM {TABLE} WHERE task_identifier = 'filler'")
    daemon.all_once()
    assert "53100" in caplog.text


@contextmanager
def file_limit(server: PostgresServer, size: int) -> Iterator[None]:
    """No file of the server may grow beyond this size: a limit that it inherits when it starts."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    server.stop()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    yield
    server.stop()
    server.start()


def test_no_advisory_lock_left(
    daemon: Daemon, other: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The lock table of the whole cluster is full: smaller batches are tried, down to one message."""
    with pytest.raises(psycopg.errors.OutOfMemory):
        other.execute("SELECT pg_advisory_lock(1, n) FROM generate_series(1, 1000000) AS n")
    daemon.hold(again())
    other.execute("SELECT pg_advisory_unlock_all()")
    daemon.all_once()
    assert "out of memory or locks" in caplog.text


@pytest.mark.parametrize("when", ["IMMEDIATE", "DEFERRED"])
def test_one_row_that_the_database_refuses(daemon: Daemon, execute: Execute, when: str) -> None:
    """At once, or only at COMMIT: its neighbours are persisted, and it is a letter."""
    execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.task_id = 'refused' THEN RAISE EXCEPTION 'no' USING ERRCODE = '23514'; END IF; RETURN NULL; END $$",
        f"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON {TABLE} DEFERRABLE INITIALLY {when}"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    refused = good(1, seed=9)[0].fields | {b"task_id": b"refused"}
    daemon.publish([*good(25, seed=3), Message(refused, "database-rejected"), *good(25, seed=4)])
    daemon.all_once()


@pytest.fixture
def barrier(execute: Execute, other: psycopg.Connection[Any]) -> Callable[[], object]:
    """Between the insert and COMMIT everybody waits, until this is called."""
    execute(
        "CREATE FUNCTION barrier() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$",
        f"CREATE TRIGGER barrier AFTER INSERT ON {TABLE} EXECUTE FUNCTION barrier()",
    )
    other.execute("SELECT pg_advisory_lock(4711)")
    return lambda: other.execute("SELECT pg_advisory_unlock(4711)")


def test_a_device_deleted_between_look_up_and_commit(
    daemon: Daemon, other: psycopg.Connection[Any], execute: Execute, barrier: Callable[[], object]
) -> None:
    execute("INSERT INTO devices_device (id, name, ip_address, enabled) VALUES (60, 'doomed', '::1', true)")
    doomed = good(1, seed=9)[0].fields | {b"device_id": b"60", b"task_identifier": b"collect:60"}
    daemon.publish([*good(20, seed=3), Message(doomed, "unknown-device"), *good(20, seed=4)])
    wait_until(waiting(other, "advisory"), what="the rows to be inserted, and not committed")
    other.execute("DELETE FROM devices_device WHERE id = 60")
    barrier()
    daemon.all_once()


def test_an_old_backend_still_holds_its_transaction(
    dvctl: Dvctl,
    redis_url: str,
    database: str,
    other: psycopg.Connection[Any],
    barrier: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its client is dead and its process frozen, so it keeps dvctl's lock; thawed, it commits what nobody awaits."""
    monkeypatch.setattr(postgres_sql, "LOCK_MS", 300)
    old = dvctl.use(redis_url, database).start("consume")
    old.wait_for("consuming device:results")
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, again())
    wait_until(waiting(other, "advisory"), what="the rows to be inserted, and not committed")
    ((pid,),) = other.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s", [APP]).fetchall()
    os.kill(pid, signal.SIGSTOP)
    old.kill9()
    with consuming(redis_url, database, claim_idle_s=0.2) as daemon:
        daemon.sent += sent
        with held(redis_url):
            daemon.wait_deferred()
            barrier()
            wait_until(lambda: "55P03" in caplog.text, what="the consumer to wait for the lock in vain")
        os.kill(pid, signal.SIGCONT)
        daemon.all_once()


WRONG = {
    "a column has another name": (
        f"ALTER TABLE {TABLE} RENAME log TO protocol",
        f"ALTER TABLE {TABLE} RENAME protocol TO log",
        ("log", "log"),
    ),
    "the table is not there": (
        f"ALTER TABLE {TABLE} RENAME TO away",
        f"ALTER TABLE away RENAME TO {TABLE}",
        (TABLE, TABLE),
    ),
    "a right is missing": (
        f"REVOKE INSERT ON {TABLE} FROM {APP}",
        f"GRANT INSERT ON {TABLE} TO {APP}",
        ("permission denied", "INSERT"),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_schema_changes_under_a_running_consumer(
    what: str,
    daemon: Daemon,
    execute: Execute,
    dvctl: Dvctl,
    redis_url: str,
    database: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No letter, an alarm in the log, a finding of `doctor`; and on it goes once somebody has put it right."""
    broken, healed, (logged, named) = WRONG[what]
    execute(broken)
    daemon.hold(again())
    assert logged in alarms(caplog)
    assert named in found_by_doctor(dvctl.use(redis_url, database))
    execute(healed)
    daemon.all_once()


def test_the_database_goes_by_another_name(
    daemon: Daemon,
    breakable: PostgresServer,
    dvctl: Dvctl,
    redis_url: str,
    database: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = database.rpartition("/")[2]
    breakable.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        f"ALTER DATABASE {name} RENAME TO elsewhere",
    )
    try:
        daemon.hold(again())
        assert name in alarms(caplog)
        assert name in found_by_doctor(dvctl.use(redis_url, database))
    finally:
        breakable.execute(f"ALTER DATABASE elsewhere RENAME TO {name}")
    daemon.all_once()


def alarms(caplog: pytest.LogCaptureFixture) -> str:
    """What was logged as an error: what an operator has to put right."""
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)


def found_by_doctor(dvctl: Dvctl) -> str:
    """The problems that `doctor` names."""
    answer = dvctl.run("doctor", "-o", "json")
    assert answer.code == 3, answer.stdout
    return "\n".join(each["detail"] for each in answer.json()["checks"] if each["status"] == "problem")
