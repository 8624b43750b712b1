"""The command verify: formats, exit codes, lists, repair with and without consent, reports."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from devicevault_cli.repository import open_repository, tables
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.stream import Stream
from tests.cli.conftest import Cli
from tests.support.consuming import drain, good
from tests.support.verifying import Seeded, seed


@pytest.fixture
def seeded(redis_url: str, sqlite_url: str) -> Iterator[Seeded]:
    with closing(connect(redis_url)) as client, closing(open_repository(sqlite_url, tables.RESULTS)) as repository:
        yield seed(Stream(client, "device:results"), repository)


def test_findings_end_with_3_in_every_format(seeded: Seeded, at: Cli) -> None:
    answer = at("verify", "-o", "json")
    assert answer.code == 3
    assert answer.json["classes"] == seeded.expected
    assert json.loads(at("verify", "-o", "jsonl").out)["classes"] == seeded.expected
    (row,) = csv.DictReader(io.StringIO(at("verify", "-o", "csv").out))
    assert {name: int(row[f"classes.{name}"]) for name in seeded.expected} == seeded.expected
    table = at("verify")
    assert table.code == 3
    assert "11 of 66 entries are lost" in table.out
    assert "1    4711  unknown" in table.out
    assert "dvctl verify --repair" in table.err


def test_what_is_whole_ends_with_0(redis_url: str, sqlite_url: str, at: Cli) -> None:
    assert at("verify", "-o", "json").json["ok"] is False, "nothing is there to be whole"
    with closing(connect(redis_url)) as client, closing(open_repository(sqlite_url, tables.RESULTS)) as repository:
        stream = Stream(client, "device:results")
        stream.add(good(5))
        drain(stream, repository)
    answer = at("verify")
    assert answer.code == 0
    assert "All 5 entries are accounted for." in answer.out


def test_a_class_as_ids(seeded: Seeded, at: Cli) -> None:
    answer = at("verify", "--show", "lost", "-o", "ids")
    assert answer.out.split() == list(map(str, seeded.ids["lost"]))
    assert answer.code == 3
    shown = at("verify", "--show", "lost_invalid", "-o", "json").json["entries"]
    assert [each["reason"] for each in shown] == ["empty-message", "malformed-log", "malformed-log", "unknown-device"]


@pytest.mark.parametrize(
    ("wanted", "head"),
    [
        ("gone", "id,time,consumer"),
        ("conflicting", "id,time,device_id,task_identifier,row"),
        ("duplicate_rows", "id,identity"),
        ("rows_without_entry", "id"),
    ],
)
def test_what_a_class_has_to_tell_is_in_its_columns(seeded: Seeded, at: Cli, wanted: str, head: str) -> None:
    assert at("verify", "--show", wanted, "-o", "csv").out.splitlines()[0] == head


def test_no_line_is_too_long_for_a_narrow_terminal(seeded: Seeded, at: Cli) -> None:
    with closing(sqlite3.connect(seeded.repository.url.name)) as connection, connection:
        connection.execute("UPDATE devices_device SET name = ? WHERE id = 2", ("\x1b\u202e" * 60,))
    out = at("verify").out
    assert max(map(len, out.splitlines())) < 80
    assert "\x1b" not in out


def test_since_and_until(seeded: Seeded, at: Cli) -> None:
    first, last = str(seeded.ids["persisted"][0]), str(seeded.ids["persisted"][20])
    answer = at("verify", "--since", first, "--until", last, "-o", "json")
    assert (answer.code, answer.json["stream"]["entries"]) == (0, 21)


def test_counts(seeded: Seeded, at: Cli) -> None:
    answer = at("verify", "--counts", "-o", "json")
    assert (answer.code, answer.json["rows"], answer.json["ok"]) == (0, {"rows": seeded.rows}, None)


def test_deep(seeded: Seeded, at: Cli) -> None:
    answer = at("verify", "--deep", "-o", "json")
    assert answer.json["rows"]["rows_without_entry"] == 0
    assert answer.json["times_differing"] == {"timestamp": 3}


def test_repair_asks_first(seeded: Seeded, at: Cli) -> None:
    refused = at("verify", "--repair")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert at.typing("n\n")("verify", "--repair").code == 1
    planned = at("verify", "--repair", "--dry-run", "-o", "json")
    assert (planned.code, planned.json["applied"], planned.json["classes"]) == (3, False, seeded.expected)
    assert "7 entries would be inserted into devices_devicebackupresult" in planned.err


def test_repair_with_consent(seeded: Seeded, at: Cli) -> None:
    answer = at("verify", "--repair", "--yes", "-o", "json")
    assert answer.json["applied"] is True
    assert answer.json["repaired"] == {"inserted": 7, "duplicates": 0, "dead_lettered": 4, "left": 0}
    # What is pending but gone from the stream cannot be brought back.
    assert (answer.code, answer.json["pending_gone"]) == (3, 2)
    assert at("claim", "--idle", "0", "--yes").code == 0
    assert at("verify").code == 0


@pytest.mark.parametrize("suffix", ["md", "html"])
def test_report(seeded: Seeded, at: Cli, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"incident.{suffix}"
    assert at("verify", "--report", str(path)).code == 3
    text = path.read_text("utf-8")
    assert "11 of 66 entries are lost" in text
    assert "device:results" in text


@pytest.mark.parametrize(
    "words",
    [
        ["--counts", "--repair"],
        ["--show", "lost", "--watch"],
        ["--show", "nothing"],
        ["-o", "ids"],
        ["--report", "incident.pdf"],
        ["--since", "yesterday"],
    ],
)
def test_usage(at: Cli, words: list[str]) -> None:
    assert at("verify", *words).code == 2


def test_a_missing_folder_of_the_report_is_told(seeded: Seeded, at: Cli, tmp_path: Path) -> None:
    answer = at("verify", "--report", str(tmp_path / "nowhere" / "incident.md"))
    assert answer.code == 1
    assert "No such file or directory" in answer.err


def test_watch_prints_a_line_a_round(seeded: Seeded, at: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("devicevault_cli.cli.commands.verify.time.sleep", nap)
    answer = at("verify", "--watch", "--every", "5s", "-o", "jsonl")
    assert answer.code == 130
    assert [json.loads(line)["lost"] for line in answer.out.splitlines()] == [7, 7, 7]
    assert naps == [5.0, 5.0, 5.0]
