"""What only MySQL and MariaDB have: a named lock, packets, character sets, statements that fail alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest
from django.db import IntegrityError

from devicevault_cli.errors import BadConfig, IndexRequired, RecordRejected, Refused, SchemaMismatch, Unavailable
from devicevault_cli.records import INT8_MAX, Record
from devicevault_cli.repository import open_repository, probe
from devicevault_cli.repository.dialects import mysql, mysql_index
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.tables import RESULTS
from tests.support import django_models
from tests.support.mariadb_server import MariaDbServer
from tests.support.records import DISTINCT, execute, insert, result, select_through
from tests.support.server import wait_until


def opened(url: str) -> Repository:
    repository = open_repository(url, RESULTS)
    assert repository.dialect == "mysql"
    return repository


@pytest.fixture
def repository(mariadb_url: str) -> Iterator[Repository]:
    repository = opened(mariadb_url)
    repository.check()
    yield repository
    repository.close()


def outcomes(repository: Repository, *records: Record) -> list[str]:
    return [each.outcome for each in repository.save(records)]


def lock_name(repository: Repository) -> str:
    dialect: Any = repository._dialect
    name: str = dialect.lock_name
    return name


def test_a_lock_that_somebody_keeps(
    repository: Repository, mariadb_server: MariaDbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "LOCK_S", 1)
    with closing(mariadb_server.connect()) as other, other.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 0)", [lock_name(repository)])
        with pytest.raises(Unavailable, match="another dvctl held the lock"):
            repository.save([result("a")])
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_client_that_is_frozen_with_the_lock_in_hand_loses_it(
    repository: Repository, mariadb_server: MariaDbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server itself would wait for its next statement for eight hours."""
    monkeypatch.setattr(mysql, "LOCK_S", 1)
    monkeypatch.setattr(mysql, "FROZEN_S", 2)
    with closing(mariadb_server.connect()) as frozen, frozen.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 0)", [lock_name(repository)])
        cursor.execute("START TRANSACTION")
        said: list[str] = []

        def saved() -> bool:
            try:
                return outcomes(repository, result("a")) == ["inserted"]
            except Unavailable as error:
                said.append(str(error))
                return False

        wait_until(saved, what="the lock to be free")
        assert any("ended session" in text for text in said)
        with pytest.raises(pymysql.err.OperationalError):
            cursor.execute("SELECT 1")


def test_the_lock_is_given_back_after_a_save_and_after_a_failure(
    repository: Repository, mariadb_server: MariaDbServer, mariadb_url: str
) -> None:
    free = f"SELECT IS_FREE_LOCK('{lock_name(repository)}')"
    repository.save([result("a")])
    assert mariadb_server.execute(free) == [(1,)]
    execute(mariadb_url, "ALTER TABLE devices_devicebackupresult ADD CHECK (status <> 'bad')")
    with pytest.raises(RecordRejected):
        repository.save([result("b"), result("c", status="bad")])
    assert mariadb_server.execute(free) == [(1,)]
    assert outcomes(repository, result("b")) == ["inserted"]


def test_a_statement_that_waits_too_long_leaves_nothing_half_done(
    repository: Repository, mariadb_server: MariaDbServer, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "_SESSION", (*mysql._SESSION, "SET SESSION innodb_lock_wait_timeout = 1"))
    repository.close()
    repository.check()
    first = "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"
    monkeypatch.setattr(
        repository._writer, "_insert_rows", lambda connection, new: _one_by_one(connection, first, new), raising=True
    )
    with closing(mariadb_server.connect(mariadb_url)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT id FROM devices_device WHERE id = 50 FOR UPDATE")
        with pytest.raises(Unavailable, match="1205"):
            repository.save([result("a", device=1), result("b", device=50)])
        assert repository.count() == 0
    monkeypatch.undo()
    assert outcomes(repository, result("a", device=1), result("b", device=50)) == ["inserted", "inserted"]


def _one_by_one(connection: Any, insert: str, records: list[Any]) -> None:
    """1205 undoes a statement and leaves the transaction open, so two statements are needed to see it."""
    for record in records:
        values = (record.task_id, record.task_identifier, record.device_id, record.status)
        connection.exec_driver_sql(f"{insert} VALUES (%s, %s, %s, %s, now(), '[]')", values)


@pytest.mark.parametrize("released", [2, 9], ids=["that ends", "that goes on"])
def test_a_probe_row_that_meets_another_writer(
    repository: Repository,
    mariadb_server: MariaDbServer,
    mariadb_url: str,
    monkeypatch: pytest.MonkeyPatch,
    released: int,
) -> None:
    """It is tried three times. `released`: the attempt before which the other writer ends."""
    monkeypatch.setattr(mysql, "_SESSION", (*mysql._SESSION, "SET SESSION innodb_lock_wait_timeout = 1"))
    repository.close()
    attempts = 0
    try_row = probe._try_row

    def counted(*given: Any, **options: Any) -> bool:
        nonlocal attempts
        attempts += 1
        if attempts == released:
            other.rollback()
        return try_row(*given, **options)

    monkeypatch.setattr(probe, "_try_row", counted)
    with closing(mariadb_server.connect(mariadb_url)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT id FROM devices_device FOR UPDATE")
        if released == 2:
            repository.check()
        else:
            with pytest.raises(Unavailable, match="1205"):
                repository.check()
    assert attempts == min(released, probe.ATTEMPTS)
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_connection_that_was_killed(repository: Repository, mariadb_server: MariaDbServer) -> None:
    for attempt in (lambda: repository.save([result("a")]), repository.count, lambda: repository.find([result("a")])):
        mariadb_server.execute(f"KILL {repository._dialect.driver.thread_id()}")
        with pytest.raises(Unavailable):
            attempt()
        repository.check()
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_server_that_stops_and_comes_back(new_mariadb: Callable[..., MariaDbServer]) -> None:
    server = new_mariadb()
    repository = opened(server.database())
    assert outcomes(repository, result("a")) == ["inserted"]
    server.stop()
    for _ in range(2):
        with pytest.raises(Unavailable):
            repository.save([result("b")])
        with pytest.raises(Unavailable):
            repository.check()
    server.start()
    assert outcomes(repository, result("a"), result("b")) == ["duplicate", "inserted"]
    server.execute("SET GLOBAL read_only = ON")
    with pytest.raises(Unavailable, match="read-only"):
        repository.check()
    repository.check(writing=False)
    server.execute("SET GLOBAL read_only = OFF")
    repository.check()
    repository.close()


def test_a_row_larger_than_a_packet_is_the_rows_fault(new_mariadb: Callable[..., MariaDbServer]) -> None:
    repository = opened(new_mariadb("--max-allowed-packet=1M").database())
    with pytest.raises(RecordRejected) as caught:
        repository.save([result("a"), result("b", log='["' + '\\"' * 700_000 + '"]')])
    assert caught.value.sqlstate == "1153"
    just_fits = '["' + "x" * 1_000_000 + '"]'
    records = [result("a"), result("b", log=just_fits), result("c", log=just_fits)]
    assert outcomes(repository, *records) == ["inserted"] * 3
    assert outcomes(repository, *records) == ["duplicate"] * 3
    nameless = result("", task_id="t", log=just_fits)
    assert outcomes(repository, nameless, nameless) == ["inserted", "duplicate"]
    repository.close()


@pytest.mark.parametrize("sql_mode", ["''", "'NO_BACKSLASH_ESCAPES'", "'ANSI,TRADITIONAL'"])
def test_whatever_the_servers_sql_mode_nothing_is_cut_short(mariadb_server: MariaDbServer, sql_mode: str) -> None:
    [[before]] = mariadb_server.execute("SELECT @@GLOBAL.sql_mode")
    mariadb_server.execute(f"SET GLOBAL sql_mode = {sql_mode}")
    url = mariadb_server.database()
    repository = opened(url)
    try:
        with pytest.raises(RecordRejected):
            repository.save([result("x" * 129)])
        odd = result('it\'s \\ "quoted"', log='["\\\\ \\" %s \'"]')
        assert outcomes(repository, odd, odd) == ["inserted", "duplicate"]
        [row] = repository.fetch(range(10)).values()
        assert (row["task_identifier"], row["log"]) == (odd.task_identifier, odd.log)
    finally:
        mariadb_server.execute(f"SET GLOBAL sql_mode = '{before}'")
    repository.close()
    mariadb_server.drop(url)


def test_a_character_that_the_table_cannot_hold(repository: Repository, mariadb_url: str) -> None:
    execute(mariadb_url, "ALTER TABLE devices_devicebackupresult CONVERT TO CHARACTER SET latin1")
    with pytest.raises(RecordRejected):
        repository.save([result("a", log='["é"]'), result("b", log='["😀"]')])
    plain = [result("a", log='["é"]'), result("A"), result("á"), result("a ")]
    assert outcomes(repository, *plain, *plain) == ["inserted"] * 4 + ["duplicate"] * 4
    assert repository.duplicates() == []


@pytest.mark.parametrize("collation", ["utf8mb4_general_ci", "utf8mb4_unicode_520_ci", "utf8mb4_bin"])
def test_whatever_the_collation_identifiers_are_told_apart(
    repository: Repository, mariadb_url: str, collation: str
) -> None:
    execute(
        mariadb_url,
        f"ALTER TABLE devices_devicebackupresult CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}",
    )
    records = [result(key) for key in DISTINCT]
    assert outcomes(repository, *records, *records) == ["inserted"] * len(records) + ["duplicate"] * len(records)
    assert (repository.duplicates(), repository.surplus()) == ([], 0)


def test_identities_are_looked_up_by_index(repository: Repository) -> None:
    repository.save([result(f"key-{number}") for number in range(1000)])
    sql = (
        "EXPLAIN SELECT task_identifier, id FROM devices_devicebackupresult WHERE task_identifier IN ('key-1', 'key-2')"
    )
    [row] = select_through(repository, sql)
    assert "task_identifier" in str(row[5])


def test_a_device_deleted_before_commit(
    repository: Repository, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = repository._writer._insert_rows  # type: ignore[attr-defined]

    def late(connection: Any, records: Any) -> None:
        execute(mariadb_url, "DELETE FROM devices_device WHERE id = 50")
        insert(connection, records)

    monkeypatch.setattr(repository._writer, "_insert_rows", late)
    with pytest.raises(RecordRejected) as caught:
        repository.save([result("a"), result("b", device=50)])
    assert caught.value.sqlstate == "1452"
    assert outcomes(repository, result("a"), result("b", device=50)) == ["inserted", "unknown-device"]


@pytest.fixture
def indexed(repository: Repository) -> Repository:
    """The repository once its table has the unique index."""
    assert repository.create_index().created
    return repository


def test_the_unique_index_compares_bytes_and_leaves_out_empty_identifiers(
    indexed: Repository, mariadb_url: str
) -> None:
    longest = "😀" * 128
    named = [*DISTINCT, longest]
    insert(mariadb_url, [result(key) for key in (*named, "", "", " ")])
    for key in named:
        with pytest.raises(IntegrityError, match=RESULTS.index_name):
            insert(mariadb_url, [result(key)])
    again = opened(mariadb_url)
    again.check()
    assert again.unique_index
    again.close()


def test_django_does_not_see_the_column_of_the_unique_index(repository: Repository, mariadb_url: str) -> None:
    before, as_it_was = django_models.describe(mariadb_url), _created(mariadb_url)
    repository.create_index()
    for table, described in django_models.describe(mariadb_url).items():
        assert described["columns"] == before[table]["columns"]
    repository.save([result("a")])
    [(_, *values)] = select_through(repository, "SELECT * FROM devices_devicebackupresult")
    assert len(values) == len(RESULTS.columns)
    execute(mariadb_url, f"INSERT INTO devices_devicebackupresult SELECT id + 1, 't', 'b', {_REST}")
    assert repository.count() == 2
    execute(mariadb_url, repository.drop_index_statement)
    assert _created(mariadb_url) == as_it_was
    repository.check()
    assert not repository.unique_index


def test_a_row_that_came_meanwhile_is_a_duplicate_and_no_bad_record(
    indexed: Repository, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a writer at another node, which knows nothing of the lock."""
    insert_rows, first = indexed._writer._insert_rows, [result("a")]  # type: ignore[attr-defined]

    def late(connection: Any, records: Any) -> None:
        if first:
            insert(mariadb_url, [first.pop()])
        insert_rows(connection, records)

    monkeypatch.setattr(indexed._writer, "_insert_rows", late)
    assert outcomes(indexed, result("a"), result("b")) == ["duplicate", "inserted"]
    assert indexed.count() == 2


def test_a_row_that_comes_and_goes_defers(indexed: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed.save([result("a")])
    monkeypatch.setattr(indexed._writer, "_rows_of", lambda connection, records: {})
    with pytest.raises(Unavailable, match="another writer"):
        indexed.save([result("a")])


def test_an_index_of_that_name_on_something_else_is_replaced(repository: Repository, mariadb_url: str) -> None:
    name = RESULTS.index_name
    execute(mariadb_url, f"CREATE UNIQUE INDEX {name} ON devices_devicebackupresult (task_identifier)")
    repository.check()
    assert not repository.unique_index
    assert repository.create_index().created


def test_several_writers_of_a_cluster_need_the_index(
    repository: Repository, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mysql_index.server_of
    monkeypatch.setattr(mysql_index, "server_of", lambda of: server(of)._replace(writers="Galera (wsrep_on)"))
    repository.check()
    with pytest.raises(IndexRequired, match="GET_LOCK") as caught:
        repository.require_single_writer()
    assert caught.value.hint == "run `dvctl db index`"
    repository.create_index()
    repository.require_single_writer()


_REST = (
    "device_id, status, timestamp, log, NULL, NULL, NULL FROM devices_devicebackupresult WHERE task_identifier = 'a'"
)


def _created(url: str) -> str:
    with django_models.connection(url) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW CREATE TABLE devices_devicebackupresult")
        [(_, text)] = cursor.fetchall()
    return re.sub(r"AUTO_INCREMENT=\d+ ", "", text)


def test_the_least_rights_suffice(mariadb_server: MariaDbServer, mariadb_url: str) -> None:
    name = urlsplit(mariadb_url).path[1:]
    mariadb_server.execute("CREATE OR REPLACE USER 'dvctl_user'@'127.0.0.1' IDENTIFIED BY 'role-secret'")
    url = mariadb_server.url_for(name, "dvctl_user", "role-secret")
    for grant in ("SELECT, INSERT ON devices_devicebackupresult", "SELECT ON devices_device"):
        repository = opened(url)
        with pytest.raises((Refused, SchemaMismatch)) as caught:
            repository.save([result("a")])
        assert "secret" not in f"{caught.value} {caught.value.hint}"
        mariadb_server.execute(f"GRANT {grant.replace('ON ', f'ON {name}.')} TO 'dvctl_user'@'127.0.0.1'")
        repository.close()
    repository.check()
    assert outcomes(repository, result("a"), result("a")) == ["inserted", "duplicate"]
    repository.close()
    mariadb_server.execute("DROP USER 'dvctl_user'@'127.0.0.1'")


def test_a_wrong_password_and_a_wrong_database(mariadb_server: MariaDbServer) -> None:
    for url, error in (
        (mariadb_server.url_for("mysql", "root", "wrong-secret"), Refused),
        (mariadb_server.url_for("absent"), BadConfig),
    ):
        with pytest.raises(error) as caught:
            opened(url).check()
        assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value!r}"


def test_keys_of_eight_bytes(mariadb_server: MariaDbServer) -> None:
    url = mariadb_server.database(bigint=True)
    repository = opened(url)
    repository.check()
    assert repository.device_id_max == INT8_MAX
    assert outcomes(repository, result("a"), result("b", device=2**40)) == ["inserted", "unknown-device"]
    repository.close()
    mariadb_server.drop(url)


def test_without_pymysql_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pymysql", None)
    with pytest.raises(BadConfig) as caught:
        open_repository("mysql://localhost/x", RESULTS)
    assert "dvctl[mysql]" in (caught.value.hint or "")
