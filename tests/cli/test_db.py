"""db index: what it would do, when it refuses, and that a dry run never does."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg

from tests.cli.conftest import Answer, Cli
from tests.support.partitions import partition_by_time

ROWS = (
    "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log) VALUES "
    "('t', 'collect:1:twice', 1, 'success', '2026-01-12 04:47:00', '[]'),"
    "('t', 'collect:1:twice', 1, 'success', '2026-01-12 04:47:01', '[]')"
)


def check_duplicates_stand_in_the_way(at: Cli) -> None:
    planned: Answer = at("db", "index", "--dry-run", "-o", "json")
    assert (planned.code, len(planned.json["duplicates"])) == (0, 1)
    refused = at("db", "index", "--yes", "-o", "json")
    assert (refused.code, refused.json["created"], len(refused.json["duplicates"])) == (1, False, 1)
    assert "dvctl db dedupe" in refused.err


def test_duplicates_on_postgresql(cli: Cli, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(ROWS)
    check_duplicates_stand_in_the_way(cli.at(database_url=postgres_url))


def test_duplicates_on_sqlite(cli: Cli, sqlite_url: str) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute(ROWS)
    check_duplicates_stand_in_the_way(cli.at(database_url=sqlite_url))


def test_on_mariadb_the_plan_says_what_the_table_gets_and_how_it_is_undone(cli: Cli, mariadb_url: str) -> None:
    at = cli.at(database_url=mariadb_url)
    planned = at("db", "index", "--dry-run", "-o", "json")
    assert (planned.code, planned.json["applied"]) == (0, False)
    assert "dvctl_identifier, generated and invisible" in planned.err
    created = at("db", "index", "--yes", "-o", "json")
    assert (created.code, created.json["created"]) == (0, True)
    undo = created.json["undo"]
    assert undo.endswith("DROP COLUMN dvctl_identifier")
    assert undo in created.err
    again = at("db", "index", "--yes", "-o", "json")
    assert (again.code, again.json["created"]) == (0, False)


def test_a_partitioned_table_is_refused_before_a_question(cli: Cli, postgres_url: str) -> None:
    """PostgreSQL would answer 0A000."""
    partition_by_time(postgres_url)
    at = cli.at(database_url=postgres_url)
    planned = at("db", "index", "--dry-run", "-o", "json")
    assert (planned.code, planned.json["applied"]) == (0, False)
    assert "the table is partitioned" in planned.err
    refused = at.typing("n\n")("db", "index")
    assert refused.code == 1
    assert "the table is partitioned" in refused.err
    assert "lock around each batch" in refused.err
    assert "[y/N]" not in refused.err
    found = {check["name"]: check for check in at("doctor", "-o", "json").json["checks"]}
    assert (found["unique-index"]["status"], found["table"]["status"]) == ("ok", "ok")
