"""Replay, export, trim: what is done with chosen entries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from devicevault_cli.errors import Damaged, StalePlan, Usage
from devicevault_cli.operations.entries.export import ExportAnswer, export_entries
from devicevault_cli.operations.entries.trim import Keep, plan_trim
from devicevault_cli.operations.replay.replay import ReplayOptions, plan_replay
from devicevault_cli.operations.replay.republish import plan_republish
from devicevault_cli.operations.replay.selection import Selection, from_file, from_stream
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from tests.support.consuming import drain
from tests.support.recovering import apply, dump, message, read_messages, table_at


def replay(
    group: Group, table: Repository, selection: Selection, dry_run: bool = False, **options: bool
) -> dict[str, Any]:
    source = from_stream(group.stream, selection)
    return apply(lambda: plan_replay(source, RESULTS, table, ReplayOptions(**options)), dry_run=dry_run)


# --- replay


def test_replay_keeps_the_entries_own_time_and_touches_no_group(group: Group, table: Repository) -> None:
    ids = group.stream.add(message(number) for number in range(5))
    before = dump(group)
    answer = replay(group, table, Selection(ids=ids[:3]))
    assert (answer["selected"], answer["inserted"], answer["applied"]) == (3, 3, True)
    assert dump(group) == before
    assert [row["timestamp"] for row in table.fetch(range(10)).values()] == [
        each.ms * 1000 + each.seq for each in ids[:3]
    ]
    again = replay(group, table, Selection())
    assert (again["selected"], again["inserted"], again["duplicates"]) == (5, 2, 3)


def test_no_ids_are_no_entries(group: Group, table: Repository) -> None:
    group.stream.add([message(1)])
    assert replay(group, table, Selection(ids=[]))["selected"] == 0
    assert table.count() == 0


def test_the_plan_counts_what_then_happens(group: Group, table: Repository) -> None:
    group.stream.add(
        [message(1), message(1), message(2, device_id="99"), message(3, device_id="abc"), message(4, log="{")]
    )
    planned = replay(group, table, Selection(), dry_run=True)
    assert (planned["applied"], table.count()) == (False, 0)
    done = replay(group, table, Selection())
    assert {**planned, "applied": True} == done
    assert done["rejected"] == {"unknown-device": 1, "invalid-device-id": 1, "malformed-log": 1}


def test_more_than_a_plan_works_out_comes_to_the_same(group: Group, table: Repository) -> None:
    ids = group.stream.add([*(message(number) for number in range(2500)), message(0), message(1, device_id="abc")])
    source = from_stream(group.stream, Selection(ids=ids))
    plan = plan_replay(source, RESULTS, table, ReplayOptions(), most=10)
    assert tuple(plan.lines()) == (
        "more than 10 entries are replayed; each is looked up in the transaction that saves it",
        "this cannot be undone: dvctl does not delete rows",
    )
    done = apply(lambda: plan)
    assert (done["selected"], done["inserted"], done["duplicates"]) == (2502, 2500, 1)
    assert (done["rejected"], done["applied"]) == ({"invalid-device-id": 1}, True)
    few = plan_replay(source, RESULTS, table, ReplayOptions(), most=2502)
    assert few.says[0].startswith("2,502 entries would be replayed: 0 inserted, 2,501 have their row already")


def test_a_rate_holds_for_entries_whatever_becomes_of_them(
    group: Group, table: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("devicevault_cli.operations.replay.replay.time.sleep", waits.append)
    group.stream.add(message(number, device_id="1" if number % 2 else "abc") for number in range(40))
    apply(lambda: plan_replay(from_stream(group.stream, Selection()), RESULTS, table, ReplayOptions(rate=20)))
    assert len(waits) > 3, "a quarter of a second's at once"
    assert 1.5 < max(waits) <= 2.1, "all 40 take two seconds, by the clock that stood still here"


def test_missing_leaves_out_what_has_its_row(group: Group, table: Repository) -> None:
    ids = group.stream.add(message(number) for number in range(4))
    replay(group, table, Selection(ids=ids[1:3]))
    answer = replay(group, table, Selection(), missing=True)
    assert (answer["selected"], answer["inserted"], answer["duplicates"]) == (2, 2, 0)


def test_overwrite_lets_the_entry_replace_a_conflicting_row(group: Group, database_url: str) -> None:
    with table_at(database_url) as table:
        group.stream.add([message(1, status="failure", initiated_at="2026-01-12T04:47:00Z"), message(1, device_id="7")])
        assert replay(group, table, Selection())["conflicting"] == 1
        (key,) = table.fetch(range(100))
        answer = replay(group, table, Selection(status="success"), overwrite=True)
        assert (answer["duplicates"], answer["overwritten"]) == (1, 1)
        rows = table.fetch(range(100))
        assert list(rows) == [key]
        assert (rows[key]["device_id"], rows[key]["status"], rows[key]["initiated_at"]) == (7, "success", None)


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (Selection(device=2), [1]),
        (Selection(status="failure"), [2]),
        (Selection(task="t3"), [3]),
        (Selection(task="job-0"), [0]),
        (Selection(end=EntryId(0, 1)), []),
    ],
)
def test_entries_are_chosen_by_what_they_say(group: Group, selection: Selection, numbers: list[int]) -> None:
    ids = group.stream.add([message(0), message(1, device_id="2"), message(2, status=""), message(3)])
    found = [entry.id for page in from_stream(group.stream, selection)() for entry in page]
    assert found == [ids[number] for number in numbers]


def test_republished_copies_know_their_first_id_and_end_a_loop(group: Group, table: Repository) -> None:
    (key,) = group.stream.add([message(1)])
    for copy in (1, 2):
        answer = apply(lambda: plan_republish(group.stream, from_stream(group.stream, Selection()), most=2))
        assert answer["republished"] >= 1, copy
    last = group.stream.last(1)[0]
    assert last.fields[b"_dvctl.id"] == str(key).encode()
    refused = apply(lambda: plan_republish(group.stream, from_stream(group.stream, Selection(ids=[last.id])), most=2))
    assert (refused["republished"], refused["refused"]) == (0, 1)
    only_last = from_stream(group.stream, Selection(ids=[last.id]))
    planned = apply(lambda: plan_republish(group.stream, only_last, most=2), dry_run=True)
    assert planned == {**refused, "applied": False}
    consumer = drain(group.stream, table)
    assert (consumer.counters.persisted, table.count()) == (1, 1)
    assert table.latest_timestamp() == key.ms * 1000 + key.seq


# --- export


def test_an_export_replays_and_publishes(group: Group, table: Repository, tmp_path: Path) -> None:
    group.stream.add([message(1, device_config="secret", log='["ü"]'), {**message(2), b"odd": b"\xff\x00"}])
    path = tmp_path / "x.jsonl"
    answer = export_entries(path, from_stream(group.stream, Selection())())
    assert answer == ExportAnswer(2, str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert "secret" not in path.read_text()
    entries = [entry for page in from_file(path, Selection())() for entry in page]
    assert entries[1].fields[b"odd"] == b"\xff\x00"
    done = apply(lambda: plan_replay(from_file(path, Selection()), RESULTS, table, ReplayOptions()))
    assert done["inserted"] == 2
    assert [each[b"task_identifier"] for each in read_messages(path)] == [b"job-1", b"job-2"]
    with pytest.raises(Usage):
        export_entries(path, [])


def test_secrets_are_exported_when_asked_for(group: Group, tmp_path: Path) -> None:
    group.stream.add([message(1, device_config="secret")])
    export_entries(tmp_path / "x", from_stream(group.stream, Selection())(), reveal=True)
    assert json.loads((tmp_path / "x").read_text().splitlines()[0])["fields"]["device_config"] == "secret"


@pytest.mark.parametrize("damage", ["cut", "edited"])
def test_a_damaged_export_is_refused(group: Group, tmp_path: Path, damage: str) -> None:
    group.stream.add([message(1), message(2)])
    path = tmp_path / "x.jsonl"
    export_entries(path, from_stream(group.stream, Selection())())
    text = path.read_text()
    path.write_text(text.splitlines()[0] + "\n" if damage == "cut" else text.replace("job-2", "job-3"))
    with pytest.raises(Damaged):
        from_file(path, Selection())
    with pytest.raises(Damaged):
        read_messages(path)


# --- trim


def trim(
    group: Group, table: Repository, keep: Keep | None = None, *ignored: str, dry_run: bool = False
) -> dict[str, Any]:
    letters = DeadLetters(group.stream, group.name)
    return apply(lambda: plan_trim(group.stream, letters, RESULTS, table, keep or Keep(), ignored), dry_run=dry_run)


def test_trim_goes_no_further_than_the_slowest_group(group: Group, table: Repository) -> None:
    ids = group.stream.add(message(number) for number in range(10))
    drain(group.stream, table)
    other = Group(group.stream, "audit")
    other.create()
    GroupConsumer(other, "x").read_new(4)
    other.acknowledge(ids[:2])
    planned = trim(group, table, dry_run=True)
    assert (planned["floor"], planned["would_remove"], planned["removed"]) == (str(ids[2]), 2, 0)
    assert planned["blocked_by"] == [{"by": "group audit", "id": str(ids[2]), "why": "pending"}]
    assert trim(group, table)["removed"] == 2
    assert trim(group, table, None, "audit")["removed"] == 8
    info = group.stream.info()
    assert info is not None
    assert info.length == 0


def test_trim_keeps_what_the_table_lacks(group: Group, table: Repository) -> None:
    ids = group.stream.add([message(0), message(1, device_id="abc"), message(2), message(3)])
    drain(group.stream, table)
    table.remove([row for row, values in table.fetch(range(10)).items() if values["task_identifier"] == "job-2"])
    answer = trim(group, table)
    assert (answer["floor"], answer["removed"]) == (str(ids[2]), 2)
    assert answer["blocked_by"][0]["by"] == f"table {RESULTS.table}"


@pytest.mark.parametrize(("keep", "left"), [(Keep(newest=4), 4), (Keep(since=EntryId(0, 0)), 10), (Keep(newest=0), 0)])
def test_trim_keeps_what_it_is_told_to(group: Group, table: Repository, keep: Keep, left: int) -> None:
    group.stream.add(message(number) for number in range(10))
    drain(group.stream, table)
    answer = trim(group, table, keep)
    assert answer["removed"] == answer["would_remove"] == 10 - left


def test_trim_is_refused_when_a_group_went_back_meanwhile(group: Group, table: Repository) -> None:
    group.stream.add(message(number) for number in range(10))
    drain(group.stream, table)
    letters = DeadLetters(group.stream, group.name)
    before = group.stream.info()
    with pytest.raises(StalePlan):
        apply(
            lambda: plan_trim(group.stream, letters, RESULTS, table, Keep()),
            meanwhile=lambda: Group(group.stream, "late").create(),
        )
    assert group.stream.info() == before


def test_a_stream_that_is_not_there_has_nothing_to_trim(group: Group, table: Repository) -> None:
    group.stream.client.flushdb()
    assert trim(group, table)["removed"] == 0
