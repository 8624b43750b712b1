"""dvctl snapshots show: what a snapshot of a group, of some entries, or of removed rows holds."""

from __future__ import annotations

import csv
import io
import json
import shlex
import unicodedata
from pathlib import Path

import pytest

from devicevault_cli.directories import snapshot_directory
from devicevault_cli.operations.changes.journal import journal_path
from devicevault_cli.operations.database import removed_rows
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.output.snapshot_page import snapshot_lines
from devicevault_cli.output.view import View
from devicevault_cli.repository.model import Row
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from tests.cli.conftest import Answer, Cli
from tests.support.recovering import message

HOSTILE = 'a\x1b[2J\u202e"b\x7f'
SECRET = "hunter2"


@pytest.fixture
def held(group: Group) -> list[EntryId]:
    """Seven entries: four held by `a`, three by `b`; `idle` holds none."""
    ids = group.stream.add(message(number) for number in range(7))
    group.create()
    GroupConsumer(group, "a").read_new(4)
    GroupConsumer(group, "b").read_new(3)
    group.stream.client.execute_command("XGROUP", "CREATECONSUMER", group.stream.key, group.name, "idle")
    return ids


def saved(at: Cli, *words: str) -> str:
    answer = at(*words, "-o", "json")
    assert answer.code == 0, answer.err
    return str(answer.json["snapshot"])


def shown(at: Cli, *words: str) -> Answer:
    answer = at("snapshots", "show", *words)
    assert answer.code == 0, answer.err
    return answer


def destroyed(at: Cli, group: Group) -> str:
    return saved(at, "destroy-group", "--force", "--confirm", group.name)


def rows_file(table: Repository, *logs: str) -> str:
    """A file of db dedupe with one row for each log."""
    common: Row = {"task_id": "t", "task_identifier": "job", "device_id": 1, "status": HOSTILE, "initiated_at": None}
    common |= {"timestamp": 1_767_225_600_000_001, "collection_duration_ms": 5, "overall_duration_ms": None}
    rows: list[Row] = [{"id": number, **common, "log": log} for number, log in enumerate(logs, 1)]
    return str(removed_rows.write(table, "db dedupe", reversed(rows))[0])


# --- what is shown


def test_a_group_is_shown_with_consumers_entries_and_user(
    at: Cli, group: Group, held: list[EntryId], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "eve")
    file = destroyed(at, group)
    answer = shown(at, file, "-o", "json").json
    (listed,) = at("snapshots", "-o", "json").json["snapshots"]
    same = ("at", "command", "stream", "group", "table", "size", "whole", "problem", "restore", "file")
    assert {name: answer[name] for name in same} == {name: listed[name] for name in same}
    assert (answer["user"], answer["position"], answer["total"]) == ("eve", str(held[-1]), 7)
    assert answer["consumers"] == [
        {"name": name, "pending": pending} for name, pending in (("a", 4), ("b", 3), ("idle", 0))
    ]
    assert [(entry["id"], entry["consumer"], entry["deliveries"]) for entry in answer["entries"]] == [
        (str(key), owner, 1) for key, owner in zip(held, "aaaabbb", strict=True)
    ]
    assert all(0 <= entry["idle_ms"] < 60_000 for entry in answer["entries"])
    assert (answer["rows"], answer["next_from"]) == ([], None)
    journal_path().unlink()
    assert shown(at, file, "-o", "json").json["user"] is None


def test_some_entries_have_no_position_and_what_the_command_made_is_named(
    at: Cli, group: Group, held: list[EntryId]
) -> None:
    answer = shown(at, saved(at, "claim", "--from", "a", "--to", "heir", "--yes"), "-o", "json").json
    assert (answer["command"], answer["position"], answer["created"]) == ("claim", None, ["heir"])
    assert answer["consumers"] == [{"name": "a", "pending": 4}]
    retired = shown(at, saved(at, "consumers", "retire", "b", "idle", "--to", "heir", "--force", "--yes"), "-o", "json")
    assert retired.json["consumers"] == [{"name": "b", "pending": 3}, {"name": "idle", "pending": 0}]
    before = saved(at, "reset-group", "--to", "start", "--force", "--yes")
    group.acknowledge(held[:2])
    restored = shown(at, saved(at, "restore-group", before, "--yes"), "-o", "json").json
    assert (restored["command"], restored["newly_pending"], restored["total"]) == ("restore-group", 2, 5)


def test_rows_are_shown_inert_and_without_passwords(at: Cli, table: Repository) -> None:
    file = rows_file(table, json.dumps([f"push https://u:{SECRET}@git.example/x failed"]), f'["{HOSTILE}"]', "[]")
    answer = shown(at, file, "-o", "json")
    first, second, _ = answer.json["rows"]
    assert (answer.json["table"], answer.json["total"], answer.json["entries"]) == (table.spec.name, 3, [])
    assert answer.json["database"].startswith("SQLite file")
    assert first["timestamp"] == "2026-01-01T00:00:00.000001Z"
    assert json.loads(first["log"]) == ["push https://u:***@git.example/x failed"]
    assert second["log"] == f'["{HOSTILE}"]'
    assert list(first) == ["id", *table.spec.columns]
    outputs = [answer.out, *(shown(at, file, "-o", output).out for output in ("table", "jsonl", "csv"))]
    outputs += ["\n".join(snapshot_lines(answer.json, View(140, coloured=False)))]
    for output in outputs:
        assert SECRET not in output
        assert not {"Cc", "Cf"} & {unicodedata.category(character) for character in output if character != "\n"}
    assert "LOG" in outputs[-1]
    assert [row["id"] for row in csv.DictReader(io.StringIO(outputs[3]))] == ["1", "2", "3"]
    assert SECRET in Path(file).read_text(), "db restore puts the row back as it was"


# --- pages and ids


@pytest.mark.parametrize("kind", ["group", "rows"])
def test_the_hint_leads_through_all_pages(
    at: Cli, group: Group, table: Repository, held: list[EntryId], kind: str
) -> None:
    file = destroyed(at, group) if kind == "group" else rows_file(table, *["[]"] * 7)
    key, wanted = ("entries", [str(entry) for entry in held]) if kind == "group" else ("rows", list(range(1, 8)))
    words = [file, "-n", "3"]
    found = []
    for page in (3, 3, 1):
        answer = shown(at, *words, "-o", "json")
        assert len(answer.json[key]) == page
        found += [item["id"] for item in answer.json[key]]
        _, more, line = answer.err.partition("for the next page: ")
        words = shlex.split(line)[3:]
        assert bool(more) == (page == 3 and len(found) < 7)
    assert found == wanted
    assert sorted(shown(at, file, "-o", "ids").out.split()) == sorted(map(str, wanted))
    assert shown(at, file, "-o", "ids", "-n", "2").out.split() == [str(item) for item in wanted[:2]]
    assert len(shown(at, file, "--from", str(wanted[5]), "-o", "ids").out.split()) == 2
    assert at("snapshots", "show", file, "--from", "x").code == 2


def test_an_empty_csv_has_its_head(at: Cli, group: Group) -> None:
    group.create()
    head = shown(at, destroyed(at, group), "-o", "csv").out
    assert head == "id,time,consumer,deliveries,delivered_at,idle_ms\n"


# --- which file


def test_a_bare_name_is_looked_up_and_a_missing_one_names_the_newest(
    at: Cli, group: Group, table: Repository, held: list[EntryId], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = at("snapshots", "show")
    assert (nothing.code, "missing argument FILE; snapshots: none" in nothing.err) == (2, True)
    rows, file = rows_file(table, "[]"), destroyed(at, group)
    assert Path(file).parent == snapshot_directory()
    assert shown(at, Path(file).name, "-o", "json").json["file"] == file
    answer = at("snapshots", "show")
    assert answer.code == 2
    assert f"missing argument FILE; snapshots: {file}, {rows}" in answer.err
    assert "dvctl snapshots show --help" in answer.err
    answer = at("snapshots", "show", f"{Path(rows).name}x")
    assert (answer.code, f"did you mean {rows}" in answer.err) == (2, True)
    Path(file).rename(tmp_path / "moved")
    moved = shown(at, "moved", "-o", "json").json
    assert moved["restore"] == f"dvctl restore-group {tmp_path / 'moved'}", "a path that works everywhere"


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: content[:-30], "has no checksum at its end"),
        (lambda content: content.replace(b'"a"', b'"x"'), "does not match its checksum"),
        (lambda content: b"", "has no checksum at its end"),
    ],
    ids=["cut", "edited", "empty"],
)
@pytest.mark.parametrize("output", ["table", "json", "ids"])
def test_a_damaged_file_is_1_and_says_what_is_wrong(
    at: Cli, group: Group, held: list[EntryId], damage: object, why: str, output: str
) -> None:
    file = Path(destroyed(at, group))
    assert callable(damage)
    file.write_bytes(damage(file.read_bytes()))
    answer = at("snapshots", "show", str(file), "-o", output)
    assert (answer.code, answer.out) == (1, "")
    assert f"{file} {why}" in answer.err


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([{"id": "1-0", "fields": {}}], "is no snapshot of dvctl"),
        ([{"dvctl": "removed-rows", "version": 1, "table": "nope"}], "is not a file of rows"),
        ([{"dvctl": "removed-rows", "version": 1}], "is not a file of rows"),
        (
            [
                {"dvctl": "group-snapshot", "version": 2, "stream": "s", "group": "g", "position": None}
                | {"entries_read": None},
                {"entry": ["1-0", 5, 0, 1]},
            ],
            "does not hold what a snapshot",
        ),
    ],
    ids=["export", "other table", "no table", "no such consumer"],
)
def test_a_file_of_something_else_is_refused(at: Cli, tmp_path: Path, lines: list[object], why: str) -> None:
    path = tmp_path / "file.jsonl"
    checksummed.write(path, lines)  # type: ignore[arg-type]
    answer = at("snapshots", "show", str(path))
    assert (answer.code, answer.out) == (1, "")
    assert why in answer.err
