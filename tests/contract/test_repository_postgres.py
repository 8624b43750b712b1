"""What only PostgreSQL has: plans, locks, rights, commits that fail late, servers that go away."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from devicevault_cli.errors import BadConfig, LocksExhausted, RecordRejected, Refused, SchemaMismatch, Unavailable
from devicevault_cli.records import INT8_MAX, LATEST, Record
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.batches import split_distinct
from devicevault_cli.repository.dialects.postgresql import catalog, pipeline, writer
from devicevault_cli.repository.dialects.postgresql import statements as postgres_sql
from devicevault_cli.repository.dialects.postgresql.arrays import Array, integers
from devicevault_cli.repository.dialects.postgresql.dialect import PostgresDialect
from devicevault_cli.repository.dialects.postgresql.pipeline import PipelineTransaction, Statement
from devicevault_cli.repository.model import Duplicate
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.tables import RESULTS, STORAGE, TableSpec
from tests.support import servers
from tests.support.postgres_server import PostgresServer
from tests.support.proxy import Link, Proxy
from tests.support.records import insert, result, select_through, stored
from tests.support.server import wait_until

Execute = Callable[..., list[tuple[Any, ...]]]


def opened(url: str, spec: TableSpec = RESULTS) -> Repository:
    repository = open_repository(url, spec)
    assert repository.dialect == "postgresql"
    return repository


@pytest.fixture
def repository(postgres_url: str) -> Iterator[Repository]:
    repository = opened(postgres_url)
    repository.check()
    yield repository
    repository.close()


@pytest.fixture
def execute(postgres_server: PostgresServer, postgres_url: str) -> Execute:
    """Run statements as the superuser in the test's database."""
    name = urlsplit(postgres_url).path[1:]
    return lambda *statements: postgres_server.execute(*statements, database=name)


@contextmanager
def holding(url: str, statement: str) -> Iterator[psycopg.Connection]:
    """Another session in whose open transaction the statement was run."""
    with psycopg.connect(url) as other:
        other.execute(statement)
        yield other


def outcomes(repository: Repository, *records: Record) -> list[str]:
    return [each.outcome for each in repository.save(records)]


def backend(repository: Repository) -> int:
    assert isinstance(repository._dialect, PostgresDialect)
    return repository._dialect.busy_driver().info.backend_pid


# --- plans


def plan(repository: Repository, record: Record) -> str:
    """The plan of a part of this one record."""
    [part] = split_distinct([record])
    dialect = repository._dialect
    assert isinstance(dialect, PostgresDialect)
    connection = dialect.busy_driver()
    sql = postgres_sql.insert_new(
        repository.spec,
        named=part.named,
        index=dialect.facts.index.oid if dialect.facts.index else 0,
        loose=dialect.facts.loose,
    )
    return explained(connection, sql, writer.pack(repository.spec, [record]))


def explained(connection: Any, sql: str, packed: list[Array]) -> str:
    settings = postgres_sql.settings(1000, lock=None)
    statements = [Statement(postgres_sql.BEGIN), Statement(settings), Statement(f"EXPLAIN {sql}", packed)]
    result = PipelineTransaction(connection, [*statements, Statement("ROLLBACK")]).results()[1]
    return "\n".join((result.get_value(row, 0) or b"").decode() for row in range(result.ntuples))


@pytest.mark.parametrize("state", ["empty", "small, never analyzed", "small", "large, never analyzed", "large"])
@pytest.mark.parametrize("indexed", [False, True], ids=["without the unique index", "with it"])
def test_identities_are_looked_up_by_index(each_postgres_url: str, state: str, indexed: bool) -> None:
    with (
        closing(opened(each_postgres_url)) as repository,
        psycopg.connect(each_postgres_url, autocommit=True) as session,
    ):
        if indexed:
            repository.create_index()
        fill(session, state)
        expected = {
            r"task_identifier_\w+ on": result("key"),
            r"_task_id_\w+ on": result("", task_id="task"),
            r"_device_id_\w+ on": result("", task_id=""),
        }
        for pattern, record in expected.items():
            shown = plan(repository, record)
            assert "Seq Scan" not in shown
            assert "Bitmap" not in shown
            assert re.search(rf"Index (Only )?Scan using \w*{pattern} devices_devicebackupresult", shown), shown
            assert re.search(r"Index (Only )?Scan using devices_device_pkey", shown)


def test_identities_are_looked_up_by_index_also_where_the_collation_equates(postgres_url: str) -> None:
    """The column's index finds the candidates, a comparison of bytes tells them apart."""
    with closing(opened(postgres_url)) as repository, psycopg.connect(postgres_url, autocommit=True) as session:
        if not session.execute(
            "SELECT 1 FROM pg_collation WHERE collprovider = 'i' AND collname = 'de-x-icu'"
        ).fetchone():
            servers.unavailable("this PostgreSQL has no icu")
        session.execute("CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        for column, digest, kind in (("task_identifier", "79509fe4", 128), ("task_id", "35fe8fa8", 64)):
            session.execute(f"DROP INDEX devices_devicebackupresult_{column}_{digest}_like")
            session.execute(
                f"ALTER TABLE devices_devicebackupresult ALTER {column} TYPE varchar({kind}) COLLATE nocase"
            )
        fill(session, "large")
        shown = plan(repository, result("key"))
        assert re.search(r"Index (Only )?Scan using \w+_task_identifier_\w+ on devices_devicebackupresult", shown), (
            shown
        )
        assert "Filter: ((task_identifier)::text = (r.task_identifier)::text)" in shown
        shown = plan(repository, result("", task_id="task"))
        assert re.search(r"Index Scan using \w+_task_id_\w+ on devices_devicebackupresult", shown), shown
        assert "Seq Scan" not in shown


def fill(session: psycopg.Connection, state: str) -> None:
    """Bring the table to a state that might mislead the planner."""
    if state != "empty":
        # Half of the rows have no identifier, and half of these no task: the planner's most common values.
        session.execute(
            "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"
            " SELECT CASE WHEN n % 4 > 1 THEN '' ELSE 'task-' || n END,"
            " CASE WHEN n % 2 = 1 THEN '' ELSE 'key-' || n END,"
            f" 1, 'success', now(), '[]' FROM generate_series(1, {100 if 'small' in state else 60_000}) AS n"
        )
    if state in ("small", "large"):
        session.execute("ANALYZE devices_devicebackupresult")


@pytest.mark.parametrize("state", ["empty", "large, never analyzed", "large"])
def test_a_storage_batch_finds_its_collections_by_index(each_postgres_url: str, state: str) -> None:
    """Also where the time has an index, which the planner might walk for the newest."""
    with (
        closing(opened(each_postgres_url, STORAGE)) as repository,
        psycopg.connect(each_postgres_url, autocommit=True) as session,
    ):
        session.execute("CREATE INDEX by_time ON devices_devicebackupresult (timestamp, id)")
        fill(session, state)
        shown = plan(repository, stored("key"))
        assert "Seq Scan" not in shown
        assert "by_time" not in shown
        assert re.search(r"using devices_devicebackupresult_task_identifier_\w+ on devices_devicebackupresult", shown)


def test_a_failed_store_is_replaced_by_its_id(each_postgres_url: str) -> None:
    with closing(opened(each_postgres_url, STORAGE)) as repository:
        repository.save([stored("key", status="failure")])
        dialect = repository._dialect
        assert isinstance(dialect, PostgresDialect)
        packed = [*writer.pack(STORAGE, [stored("key")]), integers([1])]
        shown = explained(dialect.busy_driver(), postgres_sql.replace_failed(STORAGE), packed)
        assert "Index Scan using backups_storedbackup_pkey" in shown, shown
        assert "Seq Scan" not in shown


# --- nothing outlives the transaction, so that PgBouncer may hand each transaction to another server


def test_nothing_is_left_on_the_session(repository: Repository) -> None:
    repository.save([result("a"), result("a"), result("")])
    repository.find([result("a"), result("")])
    connection = repository._dialect.driver
    # transaction_read_only ends with its transaction, whatever pg_settings says of its source.
    mine = "SELECT name FROM pg_settings WHERE source = 'session' AND name NOT LIKE 'transaction%'"
    settings = connection.execute(mine).fetchall()
    assert connection.execute("SHOW transaction_read_only").fetchone() == ("off",)
    assert settings == []
    assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
    assert connection.execute("SHOW application_name").fetchone() == ("dvctl",)


def test_another_isolation_level_of_the_database_does_not_matter(postgres_url: str, execute: Execute) -> None:
    execute(f"ALTER DATABASE {urlsplit(postgres_url).path[1:]} SET default_transaction_isolation = 'serializable'")
    repository = opened(postgres_url)
    with holding(postgres_url, f"SELECT pg_advisory_xact_lock({postgres_sql.lock_key(RESULTS)})") as other:
        save = repository.submit([result("a")])
        assert not save.wait(0.2)
        other.execute(
            "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"
            " VALUES ('', 'a', 7, 'success', now(), '[]')"
        )
        other.commit()
        [saved] = save.result()
    assert saved.outcome == "duplicate"
    assert saved.existing is not None
    assert saved.existing.device_id == 7
    repository.close()


def test_the_time_zone_of_the_database_does_not_matter(postgres_url: str, execute: Execute) -> None:
    execute(f"ALTER DATABASE {urlsplit(postgres_url).path[1:]} SET timezone = 'Asia/Tokyo'")
    repository = opened(postgres_url)
    record = result("a", timestamp=LATEST, initiated_at=0)
    assert outcomes(repository, record) == ["inserted"]
    [row] = repository.fetch([1]).values()
    assert (row["timestamp"], row["initiated_at"], repository.latest_timestamp()) == (LATEST, 0, LATEST)
    repository.close()


# --- bad records


def test_a_deferred_foreign_key_fails_at_commit_and_saves_nothing(repository: Repository, execute: Execute) -> None:
    execute(
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM devices_device WHERE id = 50; RETURN NULL; END $$",
        "CREATE TRIGGER forget AFTER INSERT ON devices_devicebackupresult"
        " FOR EACH ROW WHEN (NEW.device_id = 50) EXECUTE FUNCTION forget()",
    )
    pid = backend(repository)
    with pytest.raises(RecordRejected) as caught:
        repository.save([result("a"), result("b", device=50)])
    assert caught.value.sqlstate == "23503"
    assert repository.count() == 0
    execute("DELETE FROM devices_device WHERE id = 50")
    assert outcomes(repository, result("a"), result("b", device=50)) == ["inserted", "unknown-device"]
    assert backend(repository) == pid


def test_a_rejected_record_keeps_the_connection_and_its_values_to_itself(
    repository: Repository, execute: Execute
) -> None:
    execute("ALTER TABLE devices_devicebackupresult ADD CHECK (status <> 'bad')")
    pid = backend(repository)
    with pytest.raises(RecordRejected) as caught:
        repository.save([result("a"), result("secret-key", status="bad", log='["secret"]')])
    assert caught.value.sqlstate == "23514"
    assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value!r}"
    assert outcomes(repository, result("a")) == ["inserted"]
    assert backend(repository) == pid


def test_a_character_that_the_database_cannot_hold(postgres_server: PostgresServer) -> None:
    postgres_server.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    repository = opened(postgres_server.url_for("latin"))
    repository.create_tables()
    repository.add_devices(1)
    with pytest.raises(RecordRejected) as caught:
        repository.save([result("a", log='["é"]'), result("b", log='["😀"]')])
    assert caught.value.sqlstate == "22P05"
    assert outcomes(repository, result("a", log='["é"]')) == ["inserted"]
    [row] = repository.fetch([1, 2]).values()
    assert row["log"] == '["é"]'
    repository.close()
    postgres_server.drop(postgres_server.url_for("latin"))


def test_a_sequence_behind_its_table_is_no_fault_of_the_record(repository: Repository, execute: Execute) -> None:
    repository.save([result("a")])
    execute("SELECT setval(pg_get_serial_sequence('devices_devicebackupresult', 'id'), 1, false)")
    with pytest.raises(Unavailable, match="23505") as caught:
        repository.save([result("b")])
    assert "sequence" in (caught.value.hint or "")


def test_keys_of_eight_bytes(postgres_server: PostgresServer) -> None:
    url = postgres_server.database(bigint=True)
    repository = opened(url)
    repository.check()
    assert repository.device_id_max == INT8_MAX
    assert isinstance(repository._dialect, PostgresDialect)
    assert repository._dialect.facts.small == {"collection_duration_ms", "overall_duration_ms"}
    assert outcomes(repository, result("a"), result("b", device=2**40)) == ["inserted", "unknown-device"]
    repository.close()
    postgres_server.drop(url)


# --- the unique index


def test_with_the_index_a_concurrent_writer_is_waited_for_without_a_lock(
    repository: Repository, postgres_url: str
) -> None:
    repository.create_index()
    row = "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"
    with holding(postgres_url, f"{row} VALUES ('', 'b', 7, 'failure', now(), '[]')") as other:
        save = repository.submit([result("c"), result("b"), result("a")])
        assert not save.wait(0.2)
        other.commit()
        saved = save.result()
    assert [each.outcome for each in saved] == ["inserted", "duplicate", "inserted"]
    assert saved[1].existing is not None
    assert (saved[1].existing.device_id, saved[1].existing.status) == (7, "failure")
    with holding(postgres_url, f"{row} VALUES ('', 'd', 7, 'failure', now(), '[]')") as other:
        save = repository.submit([result("d")])
        other.rollback()
        assert [each.outcome for each in save.result()] == ["inserted"]


def test_with_the_index_nobody_waits_for_the_lock(repository: Repository, postgres_url: str) -> None:
    repository.create_index()
    with holding(postgres_url, f"SELECT pg_advisory_xact_lock({postgres_sql.lock_key(RESULTS)})") as other:
        assert outcomes(repository, result("a")) == ["inserted"]
        save = repository.submit([result("")])
        assert not save.wait(0.2)
        other.rollback()
        assert [each.outcome for each in save.result()] == ["inserted"]


def test_an_index_that_comes_and_goes_while_we_run(repository: Repository, execute: Execute) -> None:
    name = RESULTS.index_name
    execute(f"CREATE UNIQUE INDEX {name} ON devices_devicebackupresult (task_identifier) WHERE task_identifier <> ''")
    assert outcomes(repository, result("a"), result("a")) == ["inserted", "duplicate"]
    assert [repository.unique_index] == [False]
    repository.check()
    assert [repository.unique_index] == [True]
    execute(f"DROP INDEX {name}")
    with pytest.raises(Unavailable):
        repository.save([result("b")])
    assert outcomes(repository, result("b")) == ["inserted"]
    assert not repository.unique_index


@pytest.mark.parametrize(
    ("definition", "counts"),
    [
        ("(task_identifier)", True),
        ("(task_identifier) WHERE task_identifier <> ''", True),
        ("(task_identifier varchar_pattern_ops) WHERE task_identifier <> ''", True),
        ("(task_identifier) WHERE status = 'success'", False),
        ("(task_identifier, device_id)", False),
        ("(lower(task_identifier))", False),
    ],
)
def test_only_an_index_that_on_conflict_finds_counts(
    repository: Repository, execute: Execute, definition: str, counts: bool
) -> None:
    execute(f"CREATE UNIQUE INDEX an_index ON devices_devicebackupresult {definition}")
    repository.check()
    assert repository.unique_index is counts
    assert outcomes(repository, result("a"), result("b"), result("a")) == ["inserted", "inserted", "duplicate"]


def test_an_invalid_leftover_is_replaced(repository: Repository, postgres_url: str, execute: Execute) -> None:
    insert(postgres_url, [result("a"), result("a")])
    where = "devices_devicebackupresult (task_identifier) WHERE task_identifier <> ''"
    with psycopg.connect(postgres_url, autocommit=True) as other, pytest.raises(psycopg.errors.UniqueViolation):
        other.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {RESULTS.index_name} ON {where}")
    repository.check()
    assert not repository.unique_index
    assert repository.create_index().duplicates == [Duplicate("a", [1, 2])]
    execute("DELETE FROM devices_devicebackupresult WHERE id = 2")
    assert repository.create_index().created
    assert repository.unique_index


def test_a_duplicate_that_comes_while_the_index_is_built(
    repository: Repository, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = repository._dialect.create_unique_index

    def disturbed(name: str) -> None:
        insert(postgres_url, [result("a"), result("a")])
        build(name)

    monkeypatch.setattr(repository._dialect, "create_unique_index", disturbed)
    answer = repository.create_index()
    assert (answer.created, answer.duplicates) == (False, [Duplicate("a", [1, 2])])
    assert select_through(repository, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


# --- rights


def test_the_least_rights_suffice(postgres_server: PostgresServer, postgres_url: str, execute: Execute) -> None:
    name = urlsplit(postgres_url).path[1:]
    execute(
        "DROP ROLE IF EXISTS dvctl_user",
        "CREATE ROLE dvctl_user LOGIN PASSWORD 'role-secret'",
        "CREATE SEQUENCE serial OWNED BY devices_devicebackupresult.id",
        "ALTER TABLE devices_devicebackupresult ALTER id DROP IDENTITY",
        "ALTER TABLE devices_devicebackupresult ALTER id SET DEFAULT nextval('serial')",
    )
    repository = opened(postgres_server.url_for(name, "dvctl_user", "role-secret"))
    for grant in (
        "GRANT SELECT ON devices_devicebackupresult TO dvctl_user;",
        "GRANT INSERT ON devices_devicebackupresult TO dvctl_user;",
        "GRANT SELECT ON devices_device TO dvctl_user;",
        "GRANT USAGE ON SEQUENCE public.serial TO dvctl_user;",
    ):
        with pytest.raises(Refused) as caught:
            repository.save([result("a")])
        assert caught.value.exit_code == 77
        with pytest.raises(Refused) as caught:
            repository.check()
        assert grant in (caught.value.hint or "")
        execute(grant)
    repository.check()
    assert outcomes(repository, result("a"), result("a"), result("")) == ["inserted", "duplicate", "inserted"]
    assert repository.duplicates() == []
    repository.close()
    execute("DROP OWNED BY dvctl_user", "DROP ROLE dvctl_user")


def test_reading_needs_no_right_to_write(postgres_server: PostgresServer, postgres_url: str, execute: Execute) -> None:
    name = urlsplit(postgres_url).path[1:]
    execute("CREATE ROLE reader LOGIN", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    execute("SET default_transaction_read_only = off", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    repository = opened(postgres_server.url_for(name, "reader"))
    repository.check(writing=False)
    assert (repository.count(), repository.find([result("a")]), repository.surplus()) == (0, [[]], 0)
    repository.close()
    execute("SET default_transaction_read_only = off", "DROP OWNED BY reader", "DROP ROLE reader")


def test_a_wrong_password_and_a_wrong_database(new_postgres: Callable[..., PostgresServer]) -> None:
    server = new_postgres(password="right-secret")
    for url, error, code in (
        (server.url_for("postgres", password="wrong-secret"), Refused, 77),
        (server.url_for("postgres", "stranger", "wrong-secret"), Refused, 77),
        (server.url_for("absent"), BadConfig, 78),
    ):
        with pytest.raises(error) as caught:
            opened(url).check()
        assert caught.value.exit_code == code
        assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value!r}"
        assert "\n" not in str(caught.value)


# --- outages: wait, never a dead letter


def test_a_read_only_database(repository: Repository, postgres_url: str, execute: Execute) -> None:
    name = urlsplit(postgres_url).path[1:]
    execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    repository.close()
    with pytest.raises(Unavailable, match="read-only"):
        repository.check()
    with pytest.raises(Unavailable, match="read-only"):
        repository.save([result("a")])
    execute("SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_killed_backend(repository: Repository, postgres_url: str, execute: Execute) -> None:
    with holding(postgres_url, f"SELECT pg_advisory_xact_lock({postgres_sql.lock_key(RESULTS)})"):
        save = repository.submit([result("a")])
        assert not save.wait(0.1)
        execute(f"SELECT pg_terminate_backend({backend(repository)})")
        assert save.wait(60)
        with pytest.raises(Unavailable):
            save.result()
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_connection_that_died_while_idle(repository: Repository, execute: Execute) -> None:
    for attempt in (lambda: repository.save([result("a")]), repository.count, lambda: repository.find([result("a")])):
        execute(f"SELECT pg_terminate_backend({backend(repository)})")
        with pytest.raises(Unavailable):
            attempt()
        repository.check()


class StallingProxy(Proxy):
    """Passes on what clients send until `stalls`, which is given each piece, says how much of it is the last."""

    stalls: Callable[[bytes], int | None] = staticmethod(lambda data: None)
    stalled = False

    def link(self, client: socket.socket, server: socket.socket) -> Link:
        link = super().link(client, server)
        link.request = self._some  # type: ignore[method-assign]
        return link

    def _some(self, data: bytes) -> bytes:
        if self.stalled:
            return b""
        last = self.stalls(data)
        self.stalled = last is not None
        return data[:last]


DESCRIBE, SYNC = b"D\x00\x00\x00\x06P\x00", b"S\x00\x00\x00\x04"


def _after(data: bytes, mark: bytes) -> int | None:
    """The end of the mark, where it is there."""
    return data.index(mark) + len(mark) if mark in data else None


def _order_to_execute(data: bytes) -> int | None:
    """Where it begins: after the parameters of the INSERT, in the same piece or in one that begins with it."""
    if b"frozen:" in data:
        found = data.find(DESCRIBE, data.rindex(b"frozen:"))
        return found if found >= 0 else None
    return 0 if data.startswith(DESCRIBE) else None


STALLS: dict[str, Callable[[bytes], int | None]] = {
    "before the parameters": lambda data: _after(data, SYNC) if b"INSERT" in data else None,
    "within the parameters": lambda data: data.index(b"frozen:") + 2000 if b"frozen:" in data else None,
    "before the order to execute": _order_to_execute,
}
"""Where a client may be frozen while it holds the lock: it sends these in pieces."""


@pytest.mark.parametrize("where", STALLS)
def test_a_client_frozen_while_it_sends_does_not_keep_the_lock(
    where: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last place PostgreSQL itself would wait without end: none of its timeouts applies there."""
    monkeypatch.setattr(postgres_sql, "LOCK_MS", 200)
    monkeypatch.setattr(writer, "SEND_MS", 300)
    monkeypatch.setattr(catalog, "FROZEN_MS", 300)
    with (
        StallingProxy(postgres_url) as proxy,
        closing(opened(proxy.url)) as frozen,
        closing(opened(postgres_url)) as other,
    ):
        frozen.check()
        proxy.stalls = STALLS[where]
        save = frozen.submit([result(f"frozen:{n}", log=json.dumps(["x" * 50])) for n in range(200)])
        wait_until(lambda: proxy.stalled, what="a part of the batch to arrive")
        wait_until(lambda: saved(other, "other"), what="the lock to be free")
        with pytest.raises(Unavailable):
            save.result()
        assert other.count() == 1


def saved(repository: Repository, identifier: str) -> bool:
    """Try once to save a record."""
    with suppress(Unavailable):
        return outcomes(repository, result(identifier)) == ["inserted"]
    return False


def test_a_lock_that_somebody_keeps(repository: Repository, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_sql, "LOCK_MS", 200)
    with holding(postgres_url, f"SELECT pg_advisory_xact_lock({postgres_sql.lock_key(RESULTS)})"):
        with pytest.raises(Unavailable, match="55P03"):
            repository.save([result("a")])
        storage = opened(postgres_url, STORAGE)
        assert outcomes(storage, stored("a")) == ["inserted"]
        storage.close()
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_lock_timeout_ends_no_session_but_a_frozen_one(
    repository: Repository, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_sql, "LOCK_MS", 200)
    repository.close()  # the bystander is listed before it: whoever ends all sessions in turn ends that one first
    with psycopg.connect(postgres_url, autocommit=True) as bystander:
        with holding(postgres_url, f"SELECT pg_advisory_xact_lock({postgres_sql.lock_key(RESULTS)})") as holder:
            for _ in range(3):
                with pytest.raises(Unavailable, match="55P03"):
                    repository.save([result("a")])
            holder.execute("SELECT 1")
        bystander.execute("SELECT 1")


def test_a_statement_that_takes_too_long(
    repository: Repository, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_sql, "STATEMENT_MS", 200)
    with holding(postgres_url, "LOCK TABLE devices_devicebackupresult"), pytest.raises(Unavailable, match="57014"):
        repository.save([result("a")])
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_server_that_falls_silent(
    new_postgres: Callable[..., PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "ANSWER_S", 0.5)
    server = new_postgres()
    repository = opened(server.database())
    repository.check()
    os.kill(backend(repository), signal.SIGSTOP)
    stopped = backend(repository)
    save = repository.submit([result("a")])
    with pytest.raises(Unavailable, match="no answer"):
        save.result()
    os.kill(stopped, signal.SIGCONT)
    assert outcomes(repository, result("a")) in (["inserted"], ["duplicate"])
    assert repository.count() == 1
    repository.close()


def test_a_server_that_stops_and_comes_back(new_postgres: Callable[..., PostgresServer]) -> None:
    server = new_postgres(durable=True)
    repository = opened(server.database())
    assert outcomes(repository, result("a")) == ["inserted"]
    server.stop("immediate")
    for _ in range(2):
        with pytest.raises(Unavailable):
            repository.save([result("b")])
        with pytest.raises(Unavailable):
            repository.check()
    server.start()
    assert outcomes(repository, result("a"), result("b")) == ["duplicate", "inserted"]
    repository.close()


def test_no_connection_left(new_postgres: Callable[..., PostgresServer]) -> None:
    server = new_postgres("max_connections=6", "superuser_reserved_connections=0")
    url = server.database()
    others = [psycopg.connect(url) for _ in range(5)]
    with pytest.raises(Unavailable):
        for _ in range(5):
            others.append(psycopg.connect(url)) if len(others) < 6 else opened(url).check()
    for other in others:
        other.close()


def test_the_lock_table_is_full(new_postgres: Callable[..., PostgresServer]) -> None:
    server = new_postgres("max_locks_per_transaction=10", "max_connections=5", "autovacuum=off")
    url = server.database()
    repository = opened(url)
    repository.check()
    with psycopg.connect(url, autocommit=True) as other:
        with pytest.raises(psycopg.errors.OutOfMemory):
            other.execute("SELECT pg_advisory_lock(1, n) FROM generate_series(1, 1000000) AS n")
        with pytest.raises(LocksExhausted):
            repository.save([result("a")])
        other.execute("SELECT pg_advisory_unlock_all()")
    assert outcomes(repository, result("a")) == ["inserted"]
    repository.close()


def test_a_table_in_no_schema_of_the_search_path(repository: Repository, execute: Execute) -> None:
    execute("CREATE SCHEMA hidden", "ALTER TABLE devices_device SET SCHEMA hidden")
    with pytest.raises(SchemaMismatch, match="devices_device"):
        repository.save([result("a")])


def test_an_interrupted_wait_gives_the_batch_up(
    repository: Repository, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with holding(postgres_url, f"SELECT pg_advisory_xact_lock({postgres_sql.lock_key(RESULTS)})"):
        save = repository.submit([result("a")])
        with monkeypatch.context() as patch:
            patch.setattr(PipelineTransaction, "_poll", interrupted)
            with pytest.raises(KeyboardInterrupt):
                save.result()
        with pytest.raises(Unavailable):
            save.result()
    # The server had all of it by then, COMMIT too, and goes through with it.
    assert outcomes(repository, result("a")) in (["inserted"], ["duplicate"])
    assert repository.count() == 1
