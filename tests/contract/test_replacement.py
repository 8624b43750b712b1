"""A failed store is healed by a later success, on every database: the success replaces its row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from devicevault_cli.errors import RecordRejected, Refused, Unavailable
from devicevault_cli.records import StorageResult
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.model import Existing, Saved
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.tables import RESULTS, STORAGE
from tests.support.mariadb_server import MariaDbServer
from tests.support.postgres_server import PostgresServer
from tests.support.records import T0, execute, result, stored
from tests.support.server import wait_until


@pytest.fixture
def storage(database_url: str) -> Iterator[Repository]:
    opened = open_repository(database_url, STORAGE)
    opened.check()
    yield opened
    opened.close()


@pytest.fixture
def results(database_url: str) -> Iterator[Repository]:
    opened = open_repository(database_url, RESULTS)
    opened.check()
    yield opened
    opened.close()


def failed(identifier: str, device: int = 1, **fields: Any) -> StorageResult:
    about = {"status": "failure", "task_id": "first", "log": '["disk full"]', "storage_ref": ""} | fields
    return stored(identifier, device, timestamp=T0, storage_duration_ms=None)._replace(**about)


def rows(repository: Repository) -> dict[int, StorageResult]:
    """Every row by its id, as a record."""
    found = repository.fetch(repository.ids_after(0))
    return {row_id: StorageResult(*list(row.values())[1:]) for row_id, row in found.items()}  # type: ignore[arg-type]


def outcomes(repository: Repository, *records: StorageResult) -> list[str]:
    return [saved.outcome for saved in repository.save(records)]


def test_a_success_replaces_the_row_of_a_failed_store(storage: Repository) -> None:
    storage.save([failed("a"), failed("b"), failed("a ", device=2)])
    success = stored("a", device=3, task_id="second", timestamp=T0 + 9_000_001, log='["stored é"]')
    assert storage.save([success]) == [Saved("replaced", Existing(1, 1, "failure"))]
    assert rows(storage) == {1: success, 2: failed("b"), 3: failed("a ", device=2)}, "the row keeps its id"
    assert storage.save([success]) == [Saved("duplicate", Existing(1, 3, "success"))]


def test_in_the_results_table_the_first_row_stays(results: Repository) -> None:
    results.save([result("a", status="failure")])
    assert results.save([result("a")]) == [Saved("duplicate", Existing(1, 1, "failure"))]


def test_only_a_success_replaces_and_only_what_is_none(storage: Repository) -> None:
    storage.save([failed("a"), stored("b"), failed("c", status="Success"), failed(""), failed("e", status="partial")])
    before = rows(storage)
    assert outcomes(storage, failed("a", task_id="x"), stored("a", status="partial"), stored("b", task_id="x")) == (
        ["duplicate"] * 3
    )
    assert rows(storage) == before
    assert outcomes(storage, stored("c"), stored(""), stored("e")) == ["replaced", "inserted", "replaced"]
    after = sorted((row.task_identifier, row.status) for row in rows(storage).values())
    healed = [(name, "success") for name in ("b", "c", "e")]
    assert after == [("", "failure"), ("", "success"), ("a", "failure"), *healed]


def test_an_unknown_device_replaces_nothing(storage: Repository) -> None:
    storage.save([failed("a")])
    assert outcomes(storage, stored("a", device=4711)) == ["unknown-device"]
    assert rows(storage) == {1: failed("a")}


def test_within_one_batch(storage: Repository) -> None:
    batch = [
        failed("a"),
        stored("a"),
        stored("b"),
        failed("b"),
        stored("a", task_id="x", device=2),
        failed("a", device=3),
    ]
    saved = storage.save(batch)
    assert [each.outcome for each in saved] == ["inserted", "replaced", "inserted", *3 * ["duplicate"]]
    ids = {row.task_identifier: row_id for row_id, row in rows(storage).items()}
    assert [each.existing for each in saved[3:]] == [
        Existing(ids["b"], 1, "success"), Existing(ids["a"], 1, "success"), Existing(ids["a"], 1, "success"),
    ]  # fmt: skip
    assert sorted(rows(storage).values()) == sorted([stored("a"), stored("b")])


def test_of_several_failed_rows_the_lowest_id_is_replaced(database_url: str, storage: Repository) -> None:
    storage.save([failed("a"), failed("b"), failed("c")])
    storage.save([stored("d")])
    execute(database_url, "UPDATE backups_storedbackup SET task_identifier = 'a' WHERE id IN (2, 3)")
    assert storage.save([stored("a")]) == [Saved("replaced", Existing(1, 1, "failure"))]
    assert [row.status for row in rows(storage).values()] == ["success", "failure", "failure", "success"]
    execute(database_url, "UPDATE backups_storedbackup SET status = 'failure' WHERE id = 1")
    execute(database_url, "UPDATE backups_storedbackup SET status = 'success' WHERE id = 3")
    before = rows(storage)
    assert storage.save([stored("a")]) == [Saved("duplicate", Existing(1, 1, "failure"))], "a success is among them"
    assert rows(storage) == before


def test_the_duration_of_the_collection_is_set_with_the_replacement(storage: Repository, results: Repository) -> None:
    results.save([result("a", overall_duration_ms=None), result("b", overall_duration_ms=None)])
    storage.save([failed("a"), failed("b")])
    assert [row["overall_duration_ms"] for row in results.fetch([1, 2]).values()] == [None, None]
    storage.save([stored("a", timestamp=T0 + 2_500_000)])
    assert [row["overall_duration_ms"] for row in results.fetch([1, 2]).values()] == [4000, None]


def test_a_thousand_at_once(storage: Repository) -> None:
    long = '["' + "x" * 2000 + '"]'
    storage.save([failed(f"key-{number}") for number in range(1000)])
    assert Counter(outcomes(storage, *(stored(f"key-{number}", log=long) for number in range(1000)))) == {
        "replaced": 1000
    }
    assert Counter(row.log == long for row in rows(storage).values()) == {True: 1000}


def test_a_success_that_the_table_refuses_leaves_the_failed_row(database_url: str, storage: Repository) -> None:
    storage.save([failed("a")])
    bad: dict[str, Any] = {"log": None} if storage.dialect == "sqlite" else {"storage_duration_ms": 1 << 40}
    with pytest.raises(RecordRejected):
        storage.save([stored("a", **bad)])
    assert rows(storage) == {1: failed("a")}
    assert outcomes(storage, stored("a")) == ["replaced"]


def test_of_two_consumers_with_the_same_successes_one_replaces(database_url: str) -> None:
    names = [f"key-{number}" for number in range(200)]
    barrier = Barrier(2, timeout=60)

    def heal(order: int) -> dict[str, str]:
        with closing(open_repository(database_url, STORAGE)) as repository:
            repository.check()
            found: dict[str, str] = {}
            for start in range(0, len(names), 20):
                batch = names[start : start + 20][::order]
                barrier.wait()
                found |= zip(batch, outcomes(repository, *map(stored, batch)), strict=True)
            return found

    with closing(open_repository(database_url, STORAGE)) as repository, ThreadPoolExecutor(2) as both:
        repository.save([*map(failed, names)])
        first, second = both.map(heal, (1, -1))
        assert Counter(tuple(sorted((first[name], second[name]))) for name in names) == {("duplicate", "replaced"): 200}
        assert Counter(row.status for row in rows(repository).values()) == {"success": 200}


# --- PostgreSQL


def test_a_row_that_another_session_replaces_meanwhile_is_a_duplicate(postgres_url: str) -> None:
    with (
        closing(open_repository(postgres_url, STORAGE)) as repository,
        psycopg.connect(postgres_url) as other,
        psycopg.connect(postgres_url, autocommit=True) as watching,
        ThreadPoolExecutor(1) as thread,
    ):
        repository.save([failed("a")])
        other.execute("UPDATE backups_storedbackup SET status = 'success', task_id = 'theirs'")
        saving = thread.submit(repository.save, [stored("a")])
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%backups_stored%'"
        wait_until(lambda: watching.execute(waits).fetchone() == (1,), what="the replacement to wait for the row")
        other.commit()
        assert saving.result(timeout=60) == [Saved("duplicate", Existing(1, 1, "success"))]
        assert rows(repository)[1].task_id == "theirs"


def test_a_row_that_another_session_deletes_meanwhile(postgres_url: str) -> None:
    with (
        closing(open_repository(postgres_url, STORAGE)) as repository,
        psycopg.connect(postgres_url) as other,
        psycopg.connect(postgres_url, autocommit=True) as watching,
        ThreadPoolExecutor(1) as thread,
    ):
        repository.save([failed("a")])
        other.execute("DELETE FROM backups_storedbackup")
        saving = thread.submit(repository.save, [stored("a")])
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%backups_stored%'"
        wait_until(lambda: watching.execute(waits).fetchone() == (1,), what="the replacement to wait for the row")
        other.commit()
        with pytest.raises(Unavailable, match="row 1 of backups_storedbackup was not replaced"):
            saving.result(timeout=60)
        assert outcomes(repository, stored("a")) == ["inserted"]


def test_beside_the_unique_index(each_postgres_url: str) -> None:
    with closing(open_repository(each_postgres_url, STORAGE)) as repository:
        assert repository.create_index().created
        assert outcomes(repository, failed("a"), stored("b"), stored("a"), failed("b")) == [
            "inserted", "inserted", "replaced", "duplicate",
        ]  # fmt: skip


def test_a_column_whose_collation_equates(postgres_url: str) -> None:
    with closing(open_repository(postgres_url, STORAGE)) as repository:
        execute(postgres_url, "CREATE EXTENSION IF NOT EXISTS citext")
        for column in ("status", "task_identifier"):
            execute(postgres_url, f"ALTER TABLE backups_storedbackup ALTER {column} TYPE citext")
        repository.save([failed("a", status="SUCCESS"), failed("A")])
        assert outcomes(repository, stored("a")) == ["replaced"]
        assert [row.status for row in rows(repository).values()] == ["success", "failure"]


def test_the_right_to_update_is_needed_only_where_a_row_is_replaced(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = urlsplit(postgres_url).path[1:]
    run: Callable[..., Any] = lambda *statements: postgres_server.execute(*statements, database=name)  # noqa: E731
    run(
        "DROP ROLE IF EXISTS dvctl_user",
        "CREATE ROLE dvctl_user LOGIN PASSWORD 'role-secret'",
        "GRANT SELECT, INSERT ON backups_storedbackup TO dvctl_user",
        "GRANT SELECT ON devices_device TO dvctl_user",
        "GRANT SELECT, UPDATE (overall_duration_ms) ON devices_devicebackupresult TO dvctl_user",
    )
    try:
        with closing(
            open_repository(postgres_server.url_for(name, "dvctl_user", "role-secret"), STORAGE)
        ) as repository:
            repository.check()
            assert outcomes(repository, failed("a"), stored("b"), stored("b")) == ["inserted", "inserted", "duplicate"]
            with pytest.raises(Refused) as caught:
                repository.save([stored("c"), stored("a")])
            assert caught.value.hint == "as its owner: GRANT UPDATE ON backups_storedbackup TO dvctl_user;"
            run("GRANT UPDATE ON backups_storedbackup TO dvctl_user")
            assert outcomes(repository, stored("c"), stored("a")) == ["duplicate", "replaced"]
    finally:
        run("DROP OWNED BY dvctl_user", "DROP ROLE dvctl_user")


# --- MySQL, MariaDB


def test_the_right_to_update_on_mariadb(mariadb_server: MariaDbServer, mariadb_url: str) -> None:
    name = urlsplit(mariadb_url).path[1:]
    user = "'dvctl_user'@'127.0.0.1'"
    mariadb_server.execute(
        f"CREATE OR REPLACE USER {user} IDENTIFIED BY 'role-secret'",
        f"GRANT SELECT, INSERT ON {name}.backups_storedbackup TO {user}",
        f"GRANT SELECT ON {name}.devices_device TO {user}",
        f"GRANT SELECT, UPDATE ON {name}.devices_devicebackupresult TO {user}",
    )
    with closing(open_repository(mariadb_server.url_for(name, "dvctl_user", "role-secret"), STORAGE)) as repository:
        repository.save([failed("a")])
        with pytest.raises(Refused) as caught:
            repository.save([stored("a")])
        assert caught.value.hint == f"as its owner: GRANT UPDATE ON `{name}`.`backups_storedbackup` TO {user};"
        mariadb_server.execute(f"GRANT UPDATE ON {name}.backups_storedbackup TO {user}")
        assert outcomes(repository, stored("a")) == ["replaced"]
    mariadb_server.execute(f"DROP USER {user}")
