"""The unique index on PostgreSQL: nothing else keeps out other writers; ON CONFLICT only where there are some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from devicevault_cli.errors import Unavailable
from devicevault_cli.records import Record
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.dialects.postgresql.pipeline import PipelineTransaction, Statement
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.tables import RESULTS
from tests.support.records import result

SIZE = 60
"""Records of a batch that is too large to be sent in one piece."""
ROW = "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"


def batch(name: str) -> list[Record]:
    return [result(f"{name}-{number}", log=f'["{"x" * 100}"]') for number in range(SIZE)]


@pytest.fixture
def repository(postgres_url: str) -> Iterator[Repository]:
    with closing(open_repository(postgres_url, RESULTS)) as repository:
        assert repository.create_index().created
        yield repository


def counted(repository: Repository, records: list[Record]) -> dict[str, int]:
    outcomes = [saved.outcome for saved in repository.save(records)]
    return {outcome: outcomes.count(outcome) for outcome in outcomes}


@pytest.fixture
def statements_sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The INSERTs, as they are sent."""
    sent: list[str] = []
    begin = PipelineTransaction.__init__

    def spied(self: PipelineTransaction, connection: Any, statements: Iterable[Statement]) -> None:
        given = list(statements)
        sent.extend(each.sql.decode() for each in given if each.sql.startswith(b"INSERT"))
        begin(self, connection, given)

    monkeypatch.setattr(PipelineTransaction, "__init__", spied)
    return sent


def insert(other: psycopg.Connection, identifier: str) -> None:
    """Another writer's row, not committed yet."""
    other.execute(f"{ROW} VALUES ('', %s, 7, 'failure', now(), '[]')", [identifier])


@pytest.mark.parametrize("size", [1, SIZE], ids=["small", "large"])
def test_an_identifier_that_another_writer_inserts_meanwhile(
    repository: Repository, postgres_url: str, statements_sent: list[str], size: int
) -> None:
    with psycopg.connect(postgres_url) as other:
        insert(other, f"a-{size - 1}")
        save = repository.submit(batch("a")[:size])
        assert not save.wait(0.1)
        other.commit()
    assert [each.outcome for each in save.result()] == [*["inserted"] * (size - 1), "duplicate"]
    assert ["ON CONFLICT" in sql for sql in statements_sent] == [False, True]
    repository.save(batch("b"))
    assert "ON CONFLICT" in statements_sent[-1], "remembered for a while"
    assert repository.count() == size + SIZE


def test_what_is_there_already_needs_no_second_attempt(repository: Repository, statements_sent: list[str]) -> None:
    assert counted(repository, batch("a")) == {"inserted": SIZE}
    assert counted(repository, [*batch("b"), *batch("a"), *batch("b")]) == {"inserted": SIZE, "duplicate": 2 * SIZE}
    assert not any("ON CONFLICT" in sql for sql in statements_sent)


def test_a_refused_batch_whose_other_writer_takes_its_row_back(repository: Repository, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as other:
        insert(other, "a-3")
        save = repository.submit(batch("a"))
        assert not save.wait(0.1)
        other.rollback()
    assert [each.outcome for each in save.result()] == ["inserted"] * SIZE


def test_nothing_is_inserted_without_lock_once_the_index_is_dropped(repository: Repository, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute(f"DROP INDEX {RESULTS.index_name}")
    with pytest.raises(Unavailable):
        repository.save(batch("a"))
    assert repository.count() == 0
    assert counted(repository, batch("a")) == {"inserted": SIZE}
