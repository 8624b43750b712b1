"""What only SQLite has: a file, one writer at a time, keys that are enforced on demand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from devicevault_cli.errors import BadConfig, RecordRejected, Unavailable
from devicevault_cli.records import INT8_MAX, Record
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.dialects import sqlite
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.tables import RESULTS
from tests.support.records import execute, result, select_through


def opened(url: str, *, create: bool = False) -> Repository:
    repository = open_repository(url, RESULTS, create=create)
    assert repository.dialect == "sqlite"
    return repository


@pytest.fixture
def repository(sqlite_url: str) -> Iterator[Repository]:
    repository = opened(sqlite_url)
    repository.check()
    yield repository
    repository.close()


def outcomes(repository: Repository, *records: Record) -> list[str]:
    return [each.outcome for each in repository.save(records)]


def test_a_file_is_created_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "with space %41 ?and #.db"
    url = f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"
    with pytest.raises(Unavailable, match="cannot be opened"):
        opened(url).check()
    assert not path.exists()
    repository = opened(url, create=True)
    repository.create_tables()
    repository.add_devices(2)
    assert path.exists()
    assert outcomes(repository, result("a", device=2), result("b", device=3)) == ["inserted", "unknown-device"]
    repository.close()


def test_another_writer_is_waited_for(repository: Repository, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.2)
    repository.close()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for attempt in (repository.check, lambda: repository.save([result("a")])):
            with pytest.raises(Unavailable, match="locked"):
                attempt()
        assert repository.count() == 0
        repository.check(writing=False)
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_device_deleted_before_commit(repository: Repository, sqlite_url: str) -> None:
    execute(
        sqlite_url,
        "CREATE TRIGGER forget AFTER INSERT ON devices_devicebackupresult WHEN NEW.device_id = 50"
        " BEGIN DELETE FROM devices_device WHERE id = 50; END",
    )
    with pytest.raises(RecordRejected) as caught:
        repository.save([result("a"), result("b", device=50)])
    assert caught.value.sqlstate == "19"
    assert repository.count() == 0
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_rejected_record_keeps_its_values_to_itself(repository: Repository, sqlite_url: str) -> None:
    execute(
        sqlite_url,
        "CREATE TRIGGER refuse BEFORE INSERT ON devices_devicebackupresult WHEN NEW.status = 'bad'"
        " BEGIN SELECT RAISE(ABORT, 'bad'); END",
    )
    with pytest.raises(RecordRejected) as caught:
        repository.save([result("a"), result("b", status="bad", log='["secret"]')])
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    assert repository.count() == 0


def test_a_full_disk_is_no_fault_of_the_record(repository: Repository) -> None:
    connection = repository._dialect.driver
    [[pages]] = connection.execute("PRAGMA page_count").fetchall()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable, match="full"):
        repository.save([result("a", log='["' + "x" * 100_000 + '"]')])
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_read_only_file(repository: Repository) -> None:
    repository._dialect.driver.execute("PRAGMA query_only = ON")
    with pytest.raises(Unavailable):
        repository.save([result("a")])
    assert outcomes(repository, result("a")) == ["inserted"]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("not a database, but long enough to be read as one" * 100)
    with pytest.raises(BadConfig, match="not a database"):
        opened(f"sqlite:///{path}").check()


def test_keys_of_eight_bytes(repository: Repository, sqlite_url: str) -> None:
    execute(
        sqlite_url,
        "DROP TABLE devices_devicebackupresult",
        "CREATE TABLE devices_devicebackupresult (id integer PRIMARY KEY, task_id text, task_identifier text,"
        " device_id bigint NOT NULL REFERENCES devices_device (id), status text, timestamp datetime, log text,"
        " initiated_at datetime, collection_duration_ms integer, overall_duration_ms integer)",
    )
    repository.check()
    assert repository.device_id_max == INT8_MAX


def test_identities_are_looked_up_by_index(repository: Repository) -> None:
    sql = "EXPLAIN QUERY PLAN SELECT id FROM devices_devicebackupresult WHERE task_identifier IN ('a', 'b') ORDER BY id"
    assert any("task_identifier" in str(row) and "SEARCH" in str(row) for row in select_through(repository, sql))


# --- the COMMIT of a large batch waits for the disk in a thread


def large(name: str, *more: Record) -> list[Record]:
    return [*(result(f"{name}-{number}") for number in range(sqlite.LARGE)), *more]


def test_the_next_batch_waits_for_the_commit_of_the_one_before(repository: Repository, sqlite_url: str) -> None:
    """A reader keeps SQLite from writing to the file at COMMIT."""
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute(f"SELECT count(*) FROM {RESULTS.name}").fetchone() == (0,)
        save = repository.submit(large("a"))
        assert not save.wait(0.1)
        reader.execute("COMMIT")
    second = repository.submit(large("b", result("a-0")))
    assert [each.outcome for each in save.result()] == ["inserted"] * sqlite.LARGE
    assert [each.outcome for each in second.result()] == ["inserted"] * sqlite.LARGE + ["duplicate"]
    assert repository.count() == 2 * sqlite.LARGE


@pytest.mark.parametrize("early", [True, False], ids=["asked first", "asked after the next batch"])
def test_an_error_of_commit_is_the_batchs_own(repository: Repository, sqlite_url: str, early: bool) -> None:
    execute(
        sqlite_url,
        "CREATE TRIGGER forget AFTER INSERT ON devices_devicebackupresult WHEN NEW.device_id = 50"
        " BEGIN DELETE FROM devices_device WHERE id = 50; END",
    )
    first = repository.submit(large("a", result("b", device=50)))
    if early:
        with pytest.raises(RecordRejected):
            first.result()
    second = repository.submit(large("c"))
    with pytest.raises(RecordRejected):
        first.result()
    assert [each.outcome for each in second.result()] == ["inserted"] * sqlite.LARGE
    assert repository.count() == sqlite.LARGE


def test_a_lock_that_keeps_commit_waiting_too_long(
    repository: Repository, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.2)
    repository.close()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute(f"SELECT count(*) FROM {RESULTS.name}").fetchone()
        save = repository.submit(large("a"))
        with pytest.raises(Unavailable, match="locked"):
            save.result()
    assert [each.outcome for each in repository.save(large("a"))] == ["inserted"] * sqlite.LARGE
