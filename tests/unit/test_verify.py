"""verify on fakeredis and SQLite: every class, every rule, every option."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import fakeredis
import pytest

from devicevault_cli.operations.changes.journal import journal_path
from devicevault_cli.operations.verify import scan
from devicevault_cli.operations.verify.classes import Classifier
from devicevault_cli.operations.verify.names import CLASSES, Listed
from devicevault_cli.operations.verify.repair import plan_repair
from devicevault_cli.operations.verify.result import VerifyResult
from devicevault_cli.operations.verify.rows import STEP, IdSet
from devicevault_cli.operations.verify.scan import Scope
from devicevault_cli.operations.verify.timeline import MOST, Timeline
from devicevault_cli.operations.verify.verify import counts, list_findings, verify
from devicevault_cli.output.report.content import next_steps
from devicevault_cli.output.report.html import html
from devicevault_cli.output.report.markdown import markdown
from devicevault_cli.output.report.text import text_lines
from devicevault_cli.pipelines import RESULTS, STORAGE
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetter, DeadLetters, write_late_letter
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import iso
from tests.support.consuming import GROUP, drain, good
from tests.support.recovering import apply
from tests.support.verifying import MINUTE, START, STORED, Seeded, seed


@pytest.fixture
def stream() -> Iterator[Stream]:
    with closing(fakeredis.FakeRedis()) as client:
        yield Stream(client, "device:results")


@pytest.fixture
def repository(sqlite_url: str) -> Iterator[Repository]:
    with closing(open_repository(sqlite_url, tables.RESULTS)) as opened:
        yield opened


@pytest.fixture
def seeded(stream: Stream, repository: Repository) -> Seeded:
    return seed(stream, repository)


def look(seeded: Seeded, scope: Scope | None = None, **options: Any) -> dict[str, Any]:
    return verify(seeded.group, seeded.pipeline, seeded.repository, scope, **options).to_dict()


def found_rows(seeded: Seeded, wanted: Listed, result: VerifyResult | None = None) -> list[dict[str, Any]]:
    found = list_findings(seeded.group, RESULTS, seeded.repository, Scope(), wanted, result or VerifyResult())
    return [row.to_dict() for row in found]


def execute(repository: Repository, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(repository.url.name)) as connection, connection:
        connection.execute(statement, values)


def test_every_class_has_exactly_what_was_seeded(seeded: Seeded) -> None:
    answer = look(seeded)
    assert answer["classes"] == seeded.expected
    assert sum(answer["classes"].values()) == answer["stream"]["entries"]
    assert answer["lost_reasons"] == dict(seeded.reasons)
    assert answer["pending_gone"] == 2
    assert answer["rows"] == {
        "rows": seeded.rows,
        "duplicate_rows": 0,
        "conflicting": 0,
        "rows_without_entry": None,
        "rows_without_entry_in_range": None,
    }
    assert answer["ok"] is False
    assert answer["lost_since"] == iso(seeded.ids["lost"][0].ms)
    assert {each["device_id"]: each["lost"] for each in answer["devices"]} == {2: 5, 3: 2, 4711: 1}
    assert [each["lost"] for each in answer["timeline"]] == [5, 2, 4]


def test_what_is_whole_is_ok(stream: Stream, repository: Repository) -> None:
    stream.add([*good(30), {b"hello": b"world"}])
    drain(stream, repository)
    answer = verify(Group(stream, GROUP), RESULTS, repository).to_dict()
    assert answer["ok"] is True
    assert (answer["classes"]["persisted"], answer["classes"]["dead"]) == (30, 1)


def test_no_stream_and_no_group(stream: Stream, repository: Repository) -> None:
    group = Group(stream, GROUP)
    nothing = verify(group, RESULTS, repository).to_dict()
    assert nothing["ok"] is False
    assert nothing["stream"] == {"entries": 0, "first_id": None, "last_id": None}
    stream.add(good(3))
    assert verify(group, RESULTS, repository).to_dict()["classes"]["undelivered"] == 3


def test_storage_skips_other_operations(stream: Stream, sqlite_url: str) -> None:
    with closing(open_repository(sqlite_url, tables.STORAGE)) as repository:
        seeded = Seeded(stream, repository, STORAGE)
        repository.check()
        stored = [dict(each) | {b"operation": b"store"} for each in good(5)]
        seeded.save(seeded.add("persisted", stored[:2]), stored[:2])
        seeded.add("lost", stored[2:])
        seeded.add("skipped", [dict(each) | {b"operation": b"restore"} for each in good(4)])
        seeded.read()
        seeded.group.acknowledge([key for ids in seeded.ids.values() for key in ids])
        seeded.add("undelivered", [dict(good(1)[0]) | {b"operation": b"restore"}])
        assert look(seeded)["classes"] == seeded.expected


def test_a_copy_is_known_by_its_first_id(seeded: Seeded) -> None:
    def copy_of(key: EntryId) -> dict[bytes, bytes]:
        return dict(good(1)[0]) | {b"_dvctl.id": str(key).encode()}

    seeded.add("dead", [copy_of(seeded.ids["dead"][0])])
    seeded.add("discarded", [copy_of(seeded.ids["discarded"][0])])
    seeded.read()
    # Everything that was undelivered is pending now; it is the copies that are looked at.
    seeded.ids["pending"] += seeded.ids.pop("undelivered")
    assert look(seeded)["classes"] == seeded.expected


def test_a_row_of_a_message_that_would_be_rejected_is_its_row(seeded: Seeded) -> None:
    """DeviceVault's own consumer takes what dvctl would not: such an entry has its row, by its identifier."""
    (message,) = good(1)
    (key,) = seeded.add("persisted", [dict(message) | {b"log": b"{"}])
    seeded.save([key], [message])
    seeded.add("lost_invalid", [dict(good(1)[0]) | {b"task_identifier": bad, b"log": b"{"}
                                for bad in (b"", b"\0", b"\xff", b"nobody")])  # fmt: skip
    seeded.delivery.read_new(1000)
    seeded.ids["pending"] += seeded.ids.pop("undelivered")
    seeded.group.acknowledge([key, *seeded.ids["lost_invalid"]])
    assert look(seeded)["classes"] == seeded.expected


def test_letters_and_discards_of_another_group_do_not_count(seeded: Seeded) -> None:
    other = Group(seeded.stream, "other")
    other.create(seeded.stream.info().last_generated_id)  # type: ignore[union-attr]
    answer = verify(other, RESULTS, seeded.repository).to_dict()
    expected = seeded.expected
    assert answer["classes"]["dead"] == answer["classes"]["discarded"] == answer["classes"]["pending"] == 0
    assert answer["classes"]["persisted"] == expected["persisted"]
    assert answer["classes"]["lost"] == sum(
        expected[name] for name in ("lost", "dead", "discarded", "pending", "undelivered")
    )


def test_a_part_of_the_stream(seeded: Seeded) -> None:
    first, last = seeded.ids["lost"][1], seeded.ids["lost"][-1]
    answer = look(seeded, Scope(first, last))
    assert answer["classes"]["lost"] == answer["stream"]["entries"] == 6
    assert (answer["stream"]["first_id"], answer["stream"]["last_id"]) == (str(first), str(last))
    assert answer["pending_gone"] == 0


def test_what_arrives_later_is_not_judged(seeded: Seeded) -> None:
    classifier = Classifier(seeded.group, RESULTS, seeded.repository)
    before = look(seeded)["stream"]["entries"]
    seeded.add("late", good(3))
    assert sum(len(page.entries) for page in scan.scan(classifier, Scope())) == before


def test_pages_of_any_size_give_the_same(seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "ENTRIES_PER_READ", 3)
    answer = look(seeded)
    assert answer["classes"] == seeded.expected
    assert answer["pending_gone"] == 2


def test_pending_entries_of_a_trimmed_stream_are_gone(stream: Stream, repository: Repository) -> None:
    ids = stream.add(good(25))
    group = Group(stream, GROUP)
    group.create()
    seeded = Seeded(stream, repository)
    seeded.read()
    stream.call("XTRIM", stream.key, "MINID", str(ids[20]))
    answer = look(seeded)
    assert (answer["pending_gone"], answer["classes"]["pending"]) == (20, 5)
    stream.call("XTRIM", stream.key, "MAXLEN", 0)
    answer = look(seeded)
    assert (answer["pending_gone"], answer["stream"]["entries"], answer["ok"]) == (25, 0, False)


def test_rate_is_kept(seeded: Seeded) -> None:
    naps: list[float] = []
    classifier = Classifier(seeded.group, RESULTS, seeded.repository)
    pages = list(scan.scan(classifier, Scope(rate=10), naps.append))
    assert max(naps) == pytest.approx(sum(len(page.entries) for page in pages) / 10, abs=1.0), "the clock stands still"


# --- against the living ----------------------------------------------------------------------------------------------


Move = Callable[[Seeded], None]


def to_row(seeded: Seeded) -> None:
    drain(seeded.stream, seeded.repository, claim_idle_s=0.0)


def to_letter(seeded: Seeded) -> None:
    for key in seeded.group.pending_ids(seeded.ids["pending"]):
        seeded.delivery.dead_letter(key, key, "max-deliveries", "")


def to_discard(seeded: Seeded) -> None:
    for key in seeded.group.pending_ids(seeded.ids["pending"]):
        seeded.delivery.discard(key, "")


def to_start(seeded: Seeded) -> None:
    seeded.group.acknowledge(seeded.ids["pending"])
    seeded.stream.call("XGROUP", "SETID", seeded.stream.key, GROUP, "0")


def to_nothing(seeded: Seeded) -> None:
    seeded.stream.call("XGROUP", "DESTROY", seeded.stream.key, GROUP)


@pytest.mark.parametrize("when", ["before the first look", "between the looks"])
@pytest.mark.parametrize("move", [to_row, to_letter, to_discard, to_start, to_nothing])
def test_what_moves_during_the_scan_is_not_called_lost(
    seeded: Seeded, move: Move, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was known before the scan is stale by the time an entry is judged: the second look finds it."""
    classifier = Classifier(seeded.group, RESULTS, seeded.repository)
    entries = list(seeded.stream.get(seeded.ids["pending"]).values())
    if when == "before the first look":
        move(seeded)
    else:
        look_again = Classifier._delivered_now

        def after_the_move(classifier: Classifier, ids: list[EntryId]) -> Any:
            move(seeded)
            return look_again(classifier, ids)

        monkeypatch.setattr(Classifier, "_delivered_now", after_the_move)
    assert {entry.entry_class for entry in classifier.page(entries, ())}.isdisjoint(("lost", "lost_invalid"))


def test_what_became_pending_after_the_pending_list_was_read_is_pending(seeded: Seeded) -> None:
    classifier = Classifier(seeded.group, RESULTS, seeded.repository)
    entries = list(seeded.stream.get(seeded.ids["pending"]).values())
    assert {entry.entry_class for entry in classifier.page(entries, ())} == {"pending"}


def test_a_group_that_was_moved_back_still_holds_what_is_pending(seeded: Seeded) -> None:
    seeded.stream.call("XGROUP", "SETID", seeded.stream.key, GROUP, "0")
    expected = seeded.expected
    answer = look(seeded)
    assert answer["classes"]["pending"] == expected["pending"]
    assert answer["classes"]["undelivered"] == sum(expected[name] for name in ("undelivered", "lost", "lost_invalid"))


def test_what_is_acknowledged_and_trimmed_meanwhile_is_not_gone(seeded: Seeded) -> None:
    candidates = [each for page in seeded.group.pending_pages() for each in page if each.id in seeded.ids["gone"]]
    assert len(scan._still_gone(seeded.group, candidates)) == 2
    seeded.group.acknowledge(seeded.ids["gone"][:1])
    assert [each.id for each in scan._still_gone(seeded.group, candidates)] == seeded.ids["gone"][1:]


# --- rows ------------------------------------------------------------------------------------------------------------


def test_duplicate_and_conflicting_rows(seeded: Seeded) -> None:
    execute(
        seeded.repository,
        "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"
        " SELECT task_id, task_identifier, device_id, status, timestamp, log FROM devices_devicebackupresult"
        " WHERE id IN (5, 6, 22)",
    )
    execute(seeded.repository, "UPDATE devices_devicebackupresult SET status = 'failure' WHERE id = 7")
    answer = look(seeded)
    assert answer["rows"]["duplicate_rows"] == 3
    assert answer["rows"]["conflicting"] == 1
    assert sorted(each["ids"][0] for each in answer["duplicates"]) == [5, 6, 22]
    assert [each["row"] for each in answer["examples"] if each["class"] == "conflicting"] == [7]
    rows = found_rows(seeded, "duplicate_rows")
    assert len(rows) == 3
    assert answer["classes"] == seeded.expected


def test_duplicate_rows_alone_are_a_finding(stream: Stream, repository: Repository) -> None:
    stream.add(good(2))
    drain(stream, repository)
    columns = "task_id, task_identifier, device_id, status, timestamp, log"
    execute(
        repository,
        f"INSERT INTO devices_devicebackupresult ({columns}) SELECT {columns} FROM devices_devicebackupresult LIMIT 1",
    )
    answer = verify(Group(stream, GROUP), RESULTS, repository).to_dict()
    assert answer["ok"] is False
    assert [each.command for each in next_steps(answer)] == ["dvctl db dedupe --dry-run"]


def test_deep_compares_columns_and_finds_rows_without_entry(seeded: Seeded) -> None:
    answer = look(seeded, deep=True)
    assert answer["rows"]["rows_without_entry"] == 0
    # Three entries repeat identities of others, a minute later: their own time is not the row's.
    assert answer["columns_differing"] == {}
    assert answer["times_differing"] == {"timestamp": 3}
    execute(seeded.repository, "UPDATE devices_devicebackupresult SET log = '[1]' WHERE id = 8")
    execute(seeded.repository, "UPDATE devices_devicebackupresult SET task_identifier = 'nobody' WHERE id = 9")
    answer = look(seeded, deep=True)
    assert answer["columns_differing"] == {"log": 1}
    assert answer["rows"]["rows_without_entry"] == 1
    found = found_rows(seeded, "rows_without_entry")
    assert found == [{"id": 9}]


def test_rows_of_trimmed_entries_are_not_of_the_range(seeded: Seeded) -> None:
    """What is older than the first entry was trimmed, and what is newer than the last is told as an incident."""
    info = seeded.stream.info()
    assert info and info.first_id and info.last_id
    for row, ms in enumerate((info.first_id.ms, info.last_id.ms, info.first_id.ms - 1, info.last_id.ms + 1), start=6):
        at = iso(ms).replace("T", " ").removesuffix("+00:00").removesuffix("Z")
        change = f"SET task_identifier = 'n{row}', timestamp = '{at}' WHERE id = {row}"
        execute(seeded.repository, f"UPDATE devices_devicebackupresult {change}")
    rows = look(seeded, deep=True)["rows"]
    assert (rows["rows_without_entry"], rows["rows_without_entry_in_range"]) == (4, 2)


def test_a_set_of_ids_grows() -> None:
    ids = IdSet()
    chosen = [1, 7, 8, 8 * STEP - 1, 8 * STEP, 100 * STEP + 3]
    for each in chosen:
        ids.add(each)
    assert [each for each in range(9) if each in ids] == [1, 7, 8]
    assert all(each in ids for each in chosen)
    assert not any(each + 2 in ids for each in chosen)
    ids.close()


# --- lists, counts, reports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CLASSES, "gone"])
def test_a_class_is_listed_whole(seeded: Seeded, name: Listed) -> None:
    rows = found_rows(seeded, name, result := VerifyResult())
    assert sorted(row["id"] for row in rows) == sorted(map(str, seeded.ids.get(name, [])))
    assert (result.lost, result.gone) == (11, 2)


def test_counts_prove_nothing_and_say_so(seeded: Seeded) -> None:
    answer = counts(seeded.group, seeded.repository).to_dict()
    assert answer["ok"] is None
    assert answer["stream"]["entries"] == sum(seeded.expected.values())
    assert answer["classes"] == {"dead": 4, "discarded": 6, "pending": 11, "undelivered": 10}
    assert answer["difference"] == sum(seeded.expected.values()) - seeded.rows - 31


def test_a_timeline_is_bounded_and_keeps_the_sum() -> None:
    timeline = Timeline()
    for number in range(5000):
        timeline.add(START + number * 7 * MINUTE)
    assert len(timeline.counts) <= MOST
    assert timeline.counts.total() == 5000


@pytest.mark.parametrize("minutes", [[0], [0, 1], range(10), range(11), range(0, 100, 7), [0, 30_000_000]])
def test_a_terminal_shows_ten_lines_of_losses_at_most(seeded: Seeded, minutes: Sequence[int]) -> None:
    timeline = Timeline()
    for number in minutes:
        timeline.add(START + number * MINUTE)
    answer = look(seeded) | {
        "timeline": [span.to_dict() for span in timeline.rows()],
        "timeline_span_s": timeline.span_ms // 1000,
    }
    shown = [line for line in text_lines(answer) if "Z #" in line]
    assert 1 <= len(shown) <= 10
    assert sum(int(line.split()[-1]) for line in shown) == len(minutes)
    assert shown[0].split()[0] == iso(START)[:16] + "Z"


def test_reports_name_the_numbers_and_let_nothing_in(seeded: Seeded) -> None:
    evil = "<script>alert(1)</script>|x"
    seeded.add("lost", [dict(good(1)[0]) | {b"task_identifier": evil.encode()}])
    seeded.read()
    seeded.group.acknowledge([*seeded.ids["lost"], *seeded.ids["undelivered"]])
    answer = look(seeded)
    lost = answer["classes"]["lost"]
    assert lost == 17
    about = {"stream": "device:results"}
    steps = next_steps(answer)
    for text in (html(answer, about, steps), markdown(answer, about, steps)):
        assert f"{lost + 4} of {answer['stream']['entries']} entries are lost" in text
        assert "dvctl verify --repair" in text
        assert evil not in text
        assert "malformed" in text
    assert "<rect" in html(answer, about, [])


# --- repair ----------------------------------------------------------------------------------------------------------


def repair(seeded: Seeded, **options: Any) -> dict[str, Any]:
    return apply(lambda: plan_repair(seeded.group, RESULTS, seeded.repository, Scope()), **options)


def test_a_dry_run_changes_nothing(seeded: Seeded) -> None:
    before = look(seeded)
    answer = repair(seeded, dry_run=True)
    assert answer["applied"] is False
    after = look(seeded)
    assert (after["classes"], after["rows"]) == (before["classes"], before["rows"])


def test_repair_brings_back_what_can_be_and_a_second_verify_is_clean(seeded: Seeded) -> None:
    answer = repair(seeded)
    expected = seeded.expected
    assert answer["applied"] is True
    assert answer["repaired"] == {"inserted": 7, "duplicates": 0, "dead_lettered": 4, "left": 0}
    after = look(seeded)
    assert after["classes"] == answer["classes"]
    assert after["classes"] == expected | {
        "lost": 0,
        "lost_invalid": 0,
        "persisted": expected["persisted"] + 7,
        "dead": expected["dead"] + 4,
    }
    assert after["rows"]["rows"] == seeded.rows + 7
    reasons = {letter.id: letter.reason for page in letters_of(seeded) for letter in page}
    assert [reasons[key] for key in seeded.ids["lost_invalid"]] == [
        "empty-message",
        "malformed-log",
        "malformed-log",
        "unknown-device",
    ]
    assert repair(seeded)["repaired"] == {"inserted": 0, "duplicates": 0, "dead_lettered": 0, "left": 0}
    assert json.loads(journal_path().read_text().splitlines()[-1])["command"] == "verify --repair"


def letters_of(seeded: Seeded) -> Iterator[list[DeadLetter]]:
    return DeadLetters(seeded.stream, GROUP).pages()


def test_a_late_letter_is_written_once_and_only_while_nobody_holds_the_entry(seeded: Seeded) -> None:
    lost, held = seeded.ids["lost_invalid"][0], seeded.ids["pending"][0]
    assert write_late_letter(seeded.group, lost, lost, "empty-message", "")
    assert write_late_letter(seeded.group, lost, lost, "empty-message", "")
    assert not write_late_letter(seeded.group, held, held, "empty-message", "")
    seeded.group.acknowledge(seeded.ids["gone"])
    assert not write_late_letter(seeded.group, seeded.ids["gone"][0], seeded.ids["gone"][0], "empty-message", "")
    found = [letter for page in letters_of(seeded) for letter in page]
    assert [letter.fields for letter in found if letter.id == lost] == [{b"hello": b"world"} | STORED]
    assert held not in {letter.id for letter in found}
