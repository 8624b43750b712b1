"""trim and reset-group where storage dispatch is on: the stream keeps the only copy of a configuration."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from devicevault_cli.broker.store_task import task_uuid
from devicevault_cli.operations.look_up import look_up
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream
from tests.cli.conftest import Cli
from tests.support.storing import ELSEWHERE, FS, GIT, NOWHERE, OLD_MS, Stored

BROKER = {"CELERY_BROKER_URL": "amqp://nobody:hidden@127.0.0.1:1//"}
"""Only whether a broker is configured counts: neither command connects to it."""
COMMANDS = ["dvctl verify --storage", "dvctl dispatch --missing"]
UNCHECKED = "storage dispatch is off: the plan does not check whether configurations have a stored backup"


@pytest.fixture
def stored(redis_url: str, sqlite_url: str) -> Iterator[Stored]:
    with closing(connect(redis_url)) as client, closing(open_repository(sqlite_url, tables.RESULTS)) as repository:
        repository.check()
        yield Stored(Stream(client, "device:results"), repository)


@pytest.fixture
def dispatching(at: Cli) -> Cli:
    return at.at(**BROKER)


def execute(stored: Stored, statement: str) -> None:
    with closing(sqlite3.connect(stored.repository.url.name)) as connection, connection:
        connection.execute(statement)


def planned(cli: Cli, *words: str) -> dict[str, Any]:
    answer = cli("trim", *words, "--dry-run", "-o", "json")
    assert answer.code == 0, answer.err
    facts: dict[str, Any] = answer.json
    return facts


def block(first: EntryId, count: int) -> dict[str, Any]:
    why, since = "no successful stored backup", "2026-01-09T23:06:40.000Z"
    return {"by": "storage", "id": str(first), "why": why, "count": count, "since": since, "commands": COMMANDS}


def test_trim_stops_at_the_oldest_configuration_without_a_successful_backup(stored: Stored, dispatching: Cli) -> None:
    for name, device in (("there", GIT), ("nowhere", NOWHERE), ("elsewhere", ELSEWHERE)):
        stored.success("stored", name, device)
    stored.backup("success", "there")
    stored.add(EntryId(OLD_MS, 3), "failed to collect", GIT, "failure")
    by_task = EntryId(OLD_MS, 4)
    stored.add(by_task, "", GIT, "success")
    stored.backup("success", task=task_uuid("device:results", str(by_task)))
    failed, missing = EntryId(OLD_MS, 5), EntryId(OLD_MS, 6)
    stored.add(failed, "failed", FS, "success")
    stored.backup("failure", "failed")
    stored.add(missing, "missing", FS, "success")
    stored.save()
    facts = planned(dispatching)
    assert (facts["floor"], facts["would_remove"], facts["blocked_by"]) == (str(failed), 5, [block(failed, 2)])
    stored.backup("success", "failed")
    facts = planned(dispatching)
    assert (facts["floor"], facts["would_remove"], facts["blocked_by"]) == (str(missing), 6, [block(missing, 1)])
    assert dispatching("trim", "--yes", "-o", "json").json["removed"] == 6
    stored.backup("success", "missing")
    assert planned(dispatching)["blocked_by"] == []


def test_the_floor_may_lie_many_pages_up(stored: Stored, dispatching: Cli) -> None:
    for number in range(1500):
        stored.add(EntryId(OLD_MS, number), f"failure-{number}", GIT, "failure")
    first = EntryId(OLD_MS, 1500)
    stored.add(first, "missing", GIT, "success")
    stored.save()
    facts = planned(dispatching)
    assert (facts["floor"], facts["would_remove"], facts["blocked_by"]) == (str(first), 1500, [block(first, 1)])


def test_the_plan_names_number_time_and_commands(stored: Stored, dispatching: Cli) -> None:
    stored.success("not_stored")
    stored.save()
    answer = dispatching("trim", "--dry-run")
    assert (
        f"blocked by storage: entry {OLD_MS}-0 and later: no successful stored backup\n"
        "  1 configuration since 2026-01-09T23:06:40.000Z\n"
        "  list them with `dvctl verify --storage`, repair with `dvctl dispatch --missing`\n"
    ) in answer.err
    assert UNCHECKED not in answer.err
    assert max(map(len, answer.out.splitlines())) <= 80


def test_what_the_table_or_a_group_needs_is_named_beside_it(stored: Stored, dispatching: Cli) -> None:
    for number in range(4):
        stored.success("not_stored", f"missing-{number}")
    stored.save()
    execute(stored, "DELETE FROM devices_devicebackupresult WHERE task_identifier = 'missing-2'")
    stored.success("undelivered")
    facts = planned(dispatching)
    assert facts["would_remove"] == 0
    lost = {"by": "table devices_devicebackupresult", "id": f"{OLD_MS}-2", "why": "neither persisted nor dead"}
    waiting = {"by": "group devicevault", "id": f"{OLD_MS}-4", "why": "not delivered yet"}
    assert facts["blocked_by"] == [block(EntryId(OLD_MS, 0), 2), lost, waiting]


def test_what_is_kept_anyway_blocks_nothing(stored: Stored, dispatching: Cli) -> None:
    stored.success("stored", "there")
    stored.backup("success", "there")
    stored.success("not_stored")
    stored.save()
    assert planned(dispatching, "--max-length", "1") | {"applied": None} == {
        "floor": f"{OLD_MS}-1",
        "would_remove": 1,
        "removed": 0,
        "blocked_by": [],
        "applied": None,
    }


def test_an_empty_configuration_that_was_answered_is_not_kept(stored: Stored, dispatching: Cli) -> None:
    """The storage worker answers it with a failure, however often it is dispatched."""
    stored.add(EntryId(OLD_MS, 0), "empty", GIT, "success", b"")
    stored.save()
    assert planned(dispatching)["blocked_by"] == [block(EntryId(OLD_MS, 0), 1)]
    stored.backup("failure", "empty")
    assert planned(dispatching)["blocked_by"] == []


def test_dead_and_discarded_configurations_are_not_kept(stored: Stored, dispatching: Cli) -> None:
    stored.add(EntryId(OLD_MS, 0), "bad", GIT, "success", log="{")
    stored.save()
    assert planned(dispatching)["would_remove"] == 1


@pytest.mark.parametrize("off", [(), ("--no-dispatch",)])
def test_with_dispatch_off_configurations_are_not_looked_at(stored: Stored, at: Cli, off: tuple[str, ...]) -> None:
    stored.success("not_stored")
    stored.save()
    cli = at.at(**BROKER) if off else at
    assert planned(cli, *off)["would_remove"] == 1
    assert UNCHECKED in cli("trim", *off, "--dry-run").err
    execute(stored, "UPDATE devices_device SET backup_location_id = NULL")
    assert UNCHECKED not in cli("trim", *off, "--dry-run").err


def test_without_the_tables_of_storage_trim_works_with_dispatch_off(stored: Stored, at: Cli) -> None:
    stored.success("not_stored")
    stored.save()
    for table in ("backups_storedbackup", "locations_backuplocation"):
        execute(stored, f"DROP TABLE {table}")
    assert planned(at)["would_remove"] == 1
    failed = at.at(**BROKER)("trim", "--dry-run")
    assert (failed.code, "backups_storedbackup" in failed.err) == (78, True)


def test_the_pipeline_of_storage_has_no_configurations(stored: Stored, dispatching: Cli) -> None:
    stored.success("not_stored")
    stored.save()
    answer = dispatching("trim", "--pipeline", "storage", "--dry-run", "-o", "json")
    assert (answer.code, answer.json["blocked_by"], UNCHECKED in answer.err) == (0, [], False)


def test_one_pass_counts_everything(stored: Stored, dispatching: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2500):
        stored.success("not_stored", f"many-{number}")
    stored.save()
    pages: list[int] = []

    def counted(entries: Any, *about: Any) -> Any:
        page = list(entries)
        pages.append(len(page))
        return look_up(page, *about)

    monkeypatch.setattr("devicevault_cli.operations.entries.trim_floor.look_up", counted)
    assert planned(dispatching)["blocked_by"] == [block(EntryId(OLD_MS, 0), 2500)]
    assert sum(pages) == 2500
    assert max(pages) == 1000


# --- reset-group


def test_reset_says_how_many_configurations_would_be_dispatched(stored: Stored, dispatching: Cli) -> None:
    for name, device in (("a", GIT), ("b", FS), ("c", FS), ("nowhere", NOWHERE), ("elsewhere", ELSEWHERE)):
        stored.success("any", name, device)
    stored.success("any", "b", FS)
    stored.add(EntryId(OLD_MS, 6), "failure", GIT, "failure")
    stored.add(EntryId(OLD_MS, 7), "Success", GIT, "Success")
    stored.add(EntryId(OLD_MS, 8), "bad", GIT, "success", log="{")
    stored.save()
    line = ("reset-group", "--to", "start", "--force", "--dry-run")
    assert dispatching(*line, "-o", "json").json["would_dispatch"] == 0, "every row is there"
    execute(stored, "DELETE FROM devices_devicebackupresult WHERE task_identifier <> 'c'")
    answer = dispatching(*line, "-o", "json")
    assert (answer.json["would_insert"], answer.json["would_dispatch"]) == (6, 2)
    assert "2 configurations of these would be handed to the storage workers" in answer.err
    off = dispatching(*line, "--no-dispatch", "-o", "json")
    assert (off.json["would_insert"], off.json["would_dispatch"]) == (6, 0)
    assert "storage workers" not in off.err


@pytest.mark.parametrize("words", [("trim",), ("reset-group", "--to", "start")])
def test_a_wrong_broker_url_is_a_configuration_error(at: Cli, words: tuple[str, ...]) -> None:
    answer = at.at(CELERY_BROKER_URL="carrier-pigeon://loft")(*words, "--dry-run")
    assert answer.code == 78
