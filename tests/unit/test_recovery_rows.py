"""Removing surplus rows, the journal, checksummed files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from devicevault_cli.errors import Damaged, DvctlError, Usage
from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes import journal
from devicevault_cli.operations.changes.change import Change
from devicevault_cli.operations.changes.undo import impossible
from devicevault_cli.operations.database import removed_rows
from devicevault_cli.operations.database.dedupe import plan_dedupe
from devicevault_cli.operations.database.restore import plan_restore_rows
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.groups.reset import target
from devicevault_cli.operations.wording import some
from devicevault_cli.repository.tables import RESULTS
from devicevault_cli.streams.model import ZERO, EntryId
from tests.support.records import execute_through
from tests.support.recovering import apply, table_at

ROW = "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log) VALUES "


def test_dedupe_removes_equal_rows_and_lists_the_others(database_url: str) -> None:
    with table_at(database_url) as table:
        execute_through(
            table,
            f"{ROW} ('t', 'a', 1, 'success', '2026-01-01 00:00:00', '[]')",
            f"{ROW} ('t', 'a', 1, 'success', '2026-01-02 00:00:00', '[]')",
            f"{ROW} ('t', 'b', 1, 'success', '2026-01-01 00:00:00', '[]')",
            f"{ROW} ('t', 'b', 1, 'failure', '2026-01-01 00:00:00', '[]')",
            f"{ROW} ('t', 'A', 1, 'success', '2026-01-01 00:00:00', '[]')",
            f"{ROW} ('t', 'a', 1, 'success', '2026-01-03 00:00:00', '[]')",
        )
        planned = apply(lambda: plan_dedupe(table), dry_run=True)
        assert (planned["removed"], planned["applied"], table.count()) == (2, False, 6)
        done = apply(lambda: plan_dedupe(table))
        assert (done["removed"], table.count()) == (2, 4)
        assert [each["task_identifier"] for each in done["conflicting"]] == ["b"]
        kept = [row["timestamp"] for row in table.fetch(range(20)).values() if row["task_identifier"] == "a"]
        assert kept == [1_767_225_600_000_000]
        head, *lines = checksummed.read(Path(done["snapshot"]))
        assert (head["table"], head["command"]) == (table.spec.name, "db dedupe")
        assert [line["row"]["task_identifier"] for line in lines] == ["a", "a"]
        assert apply(lambda: plan_dedupe(table))["removed"] == 0


def test_dedupe_keeps_one_row_of_each_contradicting_version(database_url: str) -> None:
    with table_at(database_url) as table:
        versions = ["success", "failure", "failure", "success", "failure"]
        rows = [f"{ROW} ('t', 'a', 1, '{status}', '2026-01-01 00:00:00', '[]')" for status in versions]
        execute_through(table, *rows)
        answer = apply(lambda: plan_dedupe(table))
        assert answer["removed"] == 3
        kept = table.fetch(range(20))
        assert [row["status"] for row in kept.values()] == ["success", "failure"]
        assert answer["conflicting"] == [{"task_identifier": "a", "rows": list(kept)}]


@dataclass(frozen=True, slots=True)
class Count(ChangeAnswer):
    n: int
    ids: tuple[str, ...] = ()


def counting(result: Callable[[], Count] = lambda: Count(1), size: int = 1) -> Change[Count]:
    return Change(command="test", says=(), undo=impossible("a test"), answer=Count(0), size=size, apply=result)


def test_the_journal_tells_who_did_what_and_shortens_lists() -> None:
    apply(lambda: counting(lambda: Count(1, tuple(map(str, range(100))))))
    path = journal.journal_path()
    (line,) = [json.loads(text) for text in path.read_text().splitlines()]
    assert line["command"] == "test"
    assert (line["plan"], line["result"]["n"]) == ({"n": 0, "ids": []}, 1)
    assert line["result"]["ids"]["count"] == 100
    assert line["user"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_fails_half_way_stands_in_the_journal_too() -> None:
    def fail() -> Count:
        raise Damaged("broken")

    with pytest.raises(Damaged):
        apply(lambda: counting(fail))
    assert json.loads(journal.journal_path().read_text())["result"] == {"error": "broken"}


def test_dry_runs_and_empty_plans_leave_no_line() -> None:
    assert apply(counting, dry_run=True)["applied"] is False
    assert apply(lambda: counting(size=0))["applied"] is True
    assert not journal.journal_path().exists()


def test_a_file_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    def lines() -> object:
        yield {"a": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checksummed.write(tmp_path / "x", lines())  # type: ignore[arg-type]
    assert list(tmp_path.glob("**/*x*")) == []


def test_a_file_that_exists_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert checksummed.write(path, [{"a": 1}]) == 1
    with pytest.raises(Usage):
        checksummed.write(path, [{"a": 2}])
    checksummed.write(path, [{"a": 3}], replace=True)
    assert list(checksummed.read(path)) == [{"a": 3}]


@pytest.mark.parametrize(
    ("words", "position"),
    [
        ("start", ZERO),
        ("end", None),
        ("1767225600000-5", EntryId(1767225600000, 5)),
        ("1767225600000", EntryId(1767225600000, 0)),
        ("5-1", EntryId(5, 1)),
        ("2026-01-01", EntryId(1767225600000, 0)),
        ("2026-01-01T00:00:01+00:00", EntryId(1767225601000, 0)),
        ("-2h", EntryId(2_800_000, 0)),
        ("-1d12h", EntryId(0, 0)),
    ],
)
def test_what_reset_group_goes_to(words: str, position: EntryId | None) -> None:
    assert target(words, 10_000_000) == position


@pytest.mark.parametrize("words", ["", "yesterday", "5-", "-", "2026-13-01", "-1x"])
def test_what_reset_group_cannot_go_to(words: str) -> None:
    with pytest.raises(Usage):
        target(words, 10_000_000)


def test_some_of_many() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(["a"] * 7) == "a, a, a, a, a and 2 more"
    assert some(["a"], total=9) == "a and 8 more"


def test_removed_rows_are_put_back_as_they_were(database_url: str) -> None:
    """With their ids where these are free; a second run changes nothing."""
    with table_at(database_url) as table:
        rows = [f"{ROW} ('t', 'ä', 1, 'success', '2026-01-0{day} 00:00:00.000001', '[\"é\"]')" for day in (1, 2, 3, 4)]
        execute_through(table, *rows)
        before = table.fetch(range(20))
        path = Path(apply(lambda: plan_dedupe(table))["snapshot"])
        kept, *removed = before
        assert list(table.fetch(range(20))) == [kept]
        assert apply(lambda: plan_restore_rows(table, path), dry_run=True)["restored"] == 3
        done = apply(lambda: plan_restore_rows(table, path))
        assert (done["restored"], done["renumbered"], done["undo"]) == (3, 0, "dvctl db dedupe")
        assert table.fetch(range(20)) == before
        assert apply(lambda: plan_restore_rows(table, path))["present"] == 3
        table.remove(removed[:2])
        status = f"UPDATE {table.spec.name} SET status = 'failure' WHERE id = {removed[2]}"
        execute_through(table, status)
        done = apply(lambda: plan_restore_rows(table, path))
        assert (done["restored"], done["renumbered"]) == (3, 1)
        new = {key: row for key, row in table.fetch(range(40)).items() if key not in before}
        assert [row | {"id": removed[2]} for row in new.values()] == [before[removed[2]]]


def test_rows_of_a_device_that_was_deleted_are_refused(database_url: str) -> None:
    with table_at(database_url) as table:
        execute_through(
            table,
            f"{ROW} ('t', 'a', 7, 'success', '2026-01-01 00:00:00', '[]')",
            f"{ROW} ('t', 'a', 7, 'success', '2026-01-02 00:00:00', '[]')",
        )
        path = Path(apply(lambda: plan_dedupe(table))["snapshot"])
        table.remove(list(table.fetch(range(20))))
        execute_through(table, "DELETE FROM devices_device WHERE id = 7")
        with pytest.raises(DvctlError, match="0 restored"):
            apply(lambda: plan_restore_rows(table, path))
        assert table.count() == 0


@pytest.mark.parametrize(
    "lines",
    [
        [{"dvctl": "group-snapshot"}],
        [{"dvctl": removed_rows.KIND, "version": 1, "table": "other"}],
        [{"dvctl": removed_rows.KIND, "version": 1, "table": RESULTS.name}, {"row": {"id": 1}}],
        [{"dvctl": removed_rows.KIND, "version": 1, "table": RESULTS.name}, {"other": 1}],
    ],
)
def test_a_file_of_something_else_is_no_file_of_rows(tmp_path: Path, lines: list[dict[str, object]]) -> None:
    checksummed.write(tmp_path / "x", lines)
    with pytest.raises(Damaged):
        removed_rows.read(tmp_path / "x")
