"""verify --storage: what became of the configurations, in numbers, lists and reports."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from devicevault_cli.operations.dispatch.names import STORAGE_STATES
from devicevault_cli.output.report.content import STORAGE_MEANING
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.repository.storage import Backups, StorageTables
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import now_ms
from tests.cli.conftest import Cli
from tests.support.storing import GIT, Stored, store

SENTENCE = "5 configurations are not stored and storing 2 configurations failed"


@pytest.fixture
def stored(redis_url: str, sqlite_url: str) -> Iterator[Stored]:
    with closing(connect(redis_url)) as client, closing(open_repository(sqlite_url, tables.RESULTS)) as repository:
        yield store(Stream(client, "device:results"), repository)


def execute(stored: Stored, statement: str) -> None:
    with closing(sqlite3.connect(stored.repository.url.name)) as connection, connection:
        connection.execute(statement)


def test_every_state_has_what_was_stored(stored: Stored, at: Cli) -> None:
    answer = at("verify", "--storage", "-o", "json")
    assert answer.code == 3
    assert answer.json["storage"] == stored.expected
    assert all(stored.expected.values())
    assert answer.json["ok"] is False
    assert answer.json["classes"]["lost"] == answer.json["classes"]["lost_invalid"] == 0
    examples = {state: [each["id"] for each in answer.json["examples"] if each["class"] == state]
                for state in STORAGE_STATES}  # fmt: skip
    wanted = {state: list(map(str, stored.ids[state])) for state in ("not_stored", "store_failed")}
    assert {state: ids for state, ids in examples.items() if ids} == wanted


def test_only_what_is_persisted_is_followed(stored: Stored, at: Cli) -> None:
    stored.add(EntryId(now_ms(), 999), "undelivered", GIT, "success")
    execute(stored, "DELETE FROM devices_devicebackupresult WHERE task_identifier = 'alone'")
    answer = at("verify", "--storage", "-o", "json").json
    assert (answer["classes"]["undelivered"], answer["classes"]["lost"]) == (1, 1)
    assert answer["storage"] == stored.expected | {"not_stored": stored.expected["not_stored"] - 1}


def test_without_the_option_nothing_is_followed(stored: Stored, at: Cli) -> None:
    answer = at("verify", "-o", "json")
    assert (answer.code, answer.json["ok"]) == (0, True)
    assert "storage" not in answer.json


@pytest.mark.parametrize("state", STORAGE_STATES)
def test_a_state_as_ids(stored: Stored, at: Cli, state: str) -> None:
    answer = at("verify", "--show", state, "-o", "ids")
    assert answer.out.split() == list(map(str, stored.ids[state]))
    assert answer.code == 3, "what is missing is found in any case"
    assert at("verify", "--storage", "--show", state, "-o", "ids").out == answer.out


def test_a_state_in_columns(stored: Stored, at: Cli) -> None:
    answer = at("verify", "--show", "not_stored", "-o", "csv")
    assert answer.out.splitlines()[0] == "id,time,device_id,task_identifier"


def test_grace(stored: Stored, at: Cli) -> None:
    missing = stored.expected["not_stored"]
    for grace, found in (("0", missing + 1), ("29m", missing + 1), ("31m", missing), ("9w", missing)):
        storage = at("verify", "--storage", "--grace", grace, "-o", "json").json["storage"]
        assert (storage["not_stored"], storage["in_progress"]) == (found, missing + 1 - found)


def test_a_part_of_the_stream(stored: Stored, at: Cli) -> None:
    (young,) = stored.ids["in_progress"]
    answer = at("verify", "--storage", "--since", str(young), "-o", "json")
    assert answer.code == 0
    assert answer.json["storage"] == dict.fromkeys(STORAGE_STATES, 0) | {"stored": 1, "in_progress": 1}


def test_people_are_told_in_a_sentence_with_the_repair(stored: Stored, at: Cli) -> None:
    answer = at("verify", "--storage")
    assert answer.code == 3
    words = " ".join(answer.out.split())
    assert f"PROBLEM: {SENTENCE} (repair: `dvctl dispatch --missing`)." in words
    assert "hint: dvctl dispatch --missing  # hands these configurations to the storage workers" in answer.err
    assert max(map(len, answer.out.splitlines())) < 80
    execute(stored, "UPDATE backups_storedbackup SET status = 'success'")
    for identifier in ("twice", "alone", "raw"):
        stored.backup("success", identifier)
    execute(stored, "UPDATE devices_device SET backup_location_id = NULL")
    healed = at("verify", "--storage")
    assert healed.code == 0
    assert "All 23 entries are accounted for; 14 configurations are stored." in " ".join(healed.out.split())


def test_the_hint_repeats_what_chose_the_stream_and_its_part(stored: Stored, at: Cli) -> None:
    end = str(stored.ids["not_stored"][0])
    answer = at("verify", "--storage", "--group", "devicevault", "--until", end)
    assert f"hint: dvctl dispatch --missing --to {end} --group devicevault  #" in answer.err


@pytest.mark.parametrize("suffix", ["md", "html"])
def test_the_report_shows_the_same(stored: Stored, at: Cli, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"stored.{suffix}"
    assert at("verify", "--storage", "--report", str(path)).code == 3
    text = path.read_text("utf-8").replace("\\", "")
    assert SENTENCE in text
    assert "dvctl dispatch --missing" in text
    assert "Configurations of persisted successes" in text
    assert str(stored.ids["not_stored"][0]) in text


def test_repair_leaves_configurations_to_dispatch(stored: Stored, at: Cli) -> None:
    execute(stored, "DELETE FROM devices_devicebackupresult WHERE task_identifier = 'alone'")
    answer = at("verify", "--storage", "--repair", "--yes", "-o", "json")
    assert (answer.code, answer.json["repaired"]["inserted"]) == (3, 1)
    assert answer.json["storage"] == stored.expected
    assert "`dvctl dispatch --missing` does that" in answer.err


def test_watch(stored: Stored, at: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("devicevault_cli.cli.commands.verify.time.sleep", interrupt)
    (line,) = at("verify", "--storage", "--watch", "-o", "jsonl").out.splitlines()
    assert (json.loads(line)["not_stored"], json.loads(line)["store_failed"]) == (5, 2)
    head, row = at("verify", "--storage", "--watch").out.splitlines()
    assert row.split() == ["23", "22", "0", "0", "5", "2", "no"], head


@pytest.mark.parametrize(
    "words",
    [
        ["--storage", "--counts"],
        ["--storage", "--pipeline", "storage"],
        ["--show", "not_stored", "--pipeline", "storage"],
        ["--grace", "1h"],
        ["--storage", "--grace", "soon"],
    ],
)
def test_usage(at: Cli, words: list[str]) -> None:
    assert at("verify", *words).code == 2


@pytest.mark.parametrize("table", ["backups_storedbackup", "locations_backuplocation"])
def test_a_missing_table_is_named(stored: Stored, at: Cli, table: str) -> None:
    execute(stored, f"DROP TABLE {table}")
    answer = at("verify", "--storage")
    assert answer.code not in (0, 3)
    assert table in answer.err
    assert at("verify").code == 0


def test_look_ups_are_asked_for_a_page_at_a_time(
    redis_url: str, sqlite_url: str, at: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many entries there are: memory does not grow with them."""
    with closing(connect(redis_url)) as client, closing(open_repository(sqlite_url, tables.RESULTS)) as repository:
        repository.check()
        many = Stored(Stream(client, "device:results"), repository)
        for number in range(2500):
            many.success("not_stored", f"many-{number}")
        many.save()
    asked: list[int] = []
    look_up = StorageTables.backups

    def counted(self: StorageTables, identifiers: Iterable[str], tasks: Iterable[str]) -> Backups:
        names, uuids = list(identifiers), list(tasks)
        asked.append(len(names) + len(uuids))
        return look_up(self, names, uuids)

    monkeypatch.setattr(StorageTables, "backups", counted)
    assert at("verify", "--storage", "-o", "json").json["storage"]["not_stored"] == 2500
    assert sum(asked) == 5001, "each by its identifier and by its task, and once whether the table can be read"
    assert max(asked) == 1000


def test_every_state_has_a_meaning() -> None:
    assert tuple(STORAGE_MEANING) == STORAGE_STATES
