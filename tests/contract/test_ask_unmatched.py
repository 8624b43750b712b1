"""Records compared with their rows by column: what is named is what `find` shows, on every database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import psycopg
import pytest

from devicevault_cli.errors import DvctlError
from devicevault_cli.record_columns import RecordKeys
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.repository.repository import Repository
from tests.support.postgres_server import PostgresServer
from tests.support.records import DISTINCT, execute_through, result

STATUSES = ("success", "failure", "Success", "success ", "partiël")


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    with closing(open_repository(database_url, tables.RESULTS)) as opened:
        opened.check()
        yield opened


def keys(records: Sequence[Any]) -> RecordKeys:
    return RecordKeys(
        [record.task_identifier.encode() for record in records],
        [record.device_id for record in records],
        [record.status.encode() for record in records],
    )


def put(repository: Repository, records: Sequence[Any]) -> None:
    repository.put_back([{"id": number} | record._asdict() for number, record in enumerate(records, 1)])


def differing(repository: Repository, records: Sequence[Any]) -> list[int]:
    """The same, by the rows that `find` gives."""
    found = repository.find(records)
    return [
        position
        for position, (record, rows) in enumerate(zip(records, found, strict=True))
        if not rows or any((row.device_id, row.status) != (record.device_id, record.status) for row in rows)
    ]


def check(repository: Repository, records: Sequence[Any], matching: int) -> None:
    unmatched = repository.ask_unmatched(keys(records))()
    assert unmatched == differing(repository, records)
    assert len(records) - len(unmatched) == matching


def stage(repository: Repository) -> list[Any]:
    """Rows, and the records to compare them with; 16 of these match."""
    there = [
        *(result(name) for name in DISTINCT[:6]),
        *(result(f"status-{status}", status=status) for status in STATUSES),
        *(result("twice"), result("twice"), result("both", 1), result("both", 2)),
        *(result("late", status="success"), result("late", status="failure"), result("large", 50)),
    ]
    put(repository, there)
    return [
        *(result(name) for name in DISTINCT),
        *(result(f"status-{status}", status=status) for status in STATUSES),
        *(result(f"status-{status}", status=status.swapcase()) for status in STATUSES),
        *(result("twice"), result("twice"), result("twice", 2), result("both", 1), result("both", 2)),
        *(result("late"), result("late", status="failure"), result("large", 50), result("large", 5)),
        result("large", 50),
    ]


def test_on_every_database(repository: Repository) -> None:
    check(repository, stage(repository), 6 + 5 + 2 + 2)


@pytest.mark.parametrize("kind", ["citext", "varchar(128) COLLATE nocase"])
def test_columns_that_treat_different_texts_as_equal(postgres_url: str, kind: str) -> None:
    with closing(open_repository(postgres_url, tables.RESULTS)) as repository:
        make = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        execute_through(
            repository,
            "CREATE EXTENSION citext",
            make,
            f"DROP INDEX {tables.RESULTS.name}_task_identifier_79509fe4_like",
            *(
                f"ALTER TABLE {tables.RESULTS.name} ALTER {column} TYPE {kind}"
                for column in ("status", "task_identifier")
            ),
        )
        repository.check(writing=False)
        check(repository, stage(repository), 6 + 5 + 2 + 2)


def test_large_device_ids(postgres_server: PostgresServer) -> None:
    url = postgres_server.database(bigint=True)
    with closing(open_repository(url, tables.RESULTS)) as repository:
        copied = "(jsonb_populate_record(d, '{\"id\": 9876543210}')).* FROM devices_device AS d WHERE id = 1"
        execute_through(repository, f"INSERT INTO devices_device SELECT {copied}")
        put(repository, [result("a", 9_876_543_210), result("b", 1)])
        check(repository, [result("a", 9_876_543_210), result("a", 1), result("b", 1), result("b", 9_876_543_210)], 2)
    postgres_server.drop(url)


def test_where_text_is_converted_nothing_matches(postgres_server: PostgresServer) -> None:
    """Those records are looked at one by one."""
    postgres_server.execute("CREATE DATABASE latin_compared ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with closing(open_repository(postgres_server.url_for("latin_compared"), tables.RESULTS)) as repository:
            assert repository.ask_unmatched(keys([result("a"), result("😀")]))() == [0, 1]
    finally:
        postgres_server.execute("DROP DATABASE latin_compared")


def test_an_answer_waits_while_the_repository_is_asked_something_else(repository: Repository) -> None:
    put(repository, [result("a"), result("b")])
    first = repository.ask_unmatched(keys([result("a"), result("c")]))
    second = repository.ask_unmatched(keys([result("c"), result("b")]))
    assert [len(rows) for rows in repository.find([result("a"), result("c")])] == [1, 0]
    third = repository.ask_unmatched(keys([result("a", 2)]))
    assert repository.count() == 2
    assert (second(), first(), third(), first()) == ([0], [1], [0], [1])


def test_a_failure_is_raised_where_the_answer_is_asked_for(postgres_url: str) -> None:
    with closing(open_repository(postgres_url, tables.RESULTS)) as repository:
        put(repository, [result("a")])
        repository.check(writing=False)
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"ALTER TABLE {tables.RESULTS.name} RENAME TO elsewhere")
            answer = repository.ask_unmatched(keys([result("a")]))
            with pytest.raises(DvctlError):
                answer()
            connection.execute(f"ALTER TABLE elsewhere RENAME TO {tables.RESULTS.name}")
        assert repository.ask_unmatched(keys([result("a"), result("b")]))() == [1]
