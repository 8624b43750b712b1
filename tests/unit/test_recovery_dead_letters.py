"""Dead letters: looking, retrying, repairing, dropping."""

from __future__ import annotations

from typing import Any

import pytest

from devicevault_cli.errors import RecordRejected, StalePlan, Unavailable, Usage
from devicevault_cli.operations.dead_letters.drop import plan_drop
from devicevault_cli.operations.dead_letters.list import list_letters
from devicevault_cli.operations.dead_letters.retry import parse_repairs, plan_retry
from devicevault_cli.operations.dead_letters.select import LetterFilter
from devicevault_cli.operations.dead_letters.show import show_letters
from devicevault_cli.operations.dead_letters.stats import letter_stats
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import keys
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.letters import DeadLetter
from devicevault_cli.streams.model import EntryId
from tests.support.consuming import drain
from tests.support.records import execute_through
from tests.support.recovering import apply, dump, message

NEW_DEVICE = "INSERT INTO devices_device (id, name, ip_address, enabled) VALUES (99, 'new', '192.0.2.9', 1)"


@pytest.fixture
def redis_url(each_redis_url: str) -> str:
    """Every test here runs on each version of Redis."""
    return each_redis_url


def dead(group: Group, table: Repository, *messages: dict[bytes, bytes]) -> list[EntryId]:
    ids = group.stream.add(messages)
    drain(group.stream, table)
    return ids


def letters(group: Group) -> dict[EntryId, DeadLetter]:
    return {each.id: each for page in DeadLetters(group.stream, group.name).pages() for each in page}


def retry(
    group: Group, table: Repository, *repairs: str, chosen: LetterFilter | None = None, dry_run: bool = False
) -> dict[str, Any]:
    of = DeadLetters(group.stream, group.name)
    fixes = parse_repairs(list(repairs))
    return apply(lambda: plan_retry(of, chosen or LetterFilter(), RESULTS, table, fixes), dry_run=dry_run)


def test_list_show_and_stats_count_by_reason(group: Group, table: Repository) -> None:
    ids = dead(group, table, message(1, device_id="abc"), message(2, device_id="99"), message(3, device_id="99"))
    of = DeadLetters(group.stream, group.name)
    answer = list_letters(of, LetterFilter(), 2)
    assert (answer.total, len(answer.entries)) == (3, 2)
    assert answer.reasons == {"unknown-device": 2, "invalid-device-id": 1}
    assert [row.id for row in list_letters(of, LetterFilter(reason="unknown-device")).entries] == ids[1:]
    assert list_letters(of, LetterFilter(ids=frozenset())).total == 0
    assert list_letters(of, LetterFilter(device=99)).total == 2
    assert list_letters(of, LetterFilter(since_ms=2**50)).total == 0
    shown = show_letters(of, [ids[0], EntryId(5, 5)])
    assert shown.entries[0].fields["device_id"] == "abc"
    assert shown.to_dict()["unknown"] == ["5-5"]
    assert letter_stats(of).devices == {"99": 2, "abc": 1}


def test_a_secret_is_shown_only_when_asked_for(group: Group, table: Repository) -> None:
    ids = dead(group, table, message(1, device_id="abc", device_config="password 7"))
    of = DeadLetters(group.stream, group.name)
    assert "password" not in str(show_letters(of, ids))
    assert "password" in str(show_letters(of, ids, reveal=True))


def test_retry_removes_a_letter_only_once_its_row_is_there(group: Group, table: Repository) -> None:
    dead(group, table, message(1, device_id="99"), message(2, device_id="abc"))
    execute_through(table, NEW_DEVICE)
    answer = retry(group, table)
    assert {key: answer[key] for key in ("retried", "persisted", "duplicates", "still_dead")} == {
        "retried": 2,
        "persisted": 1,
        "duplicates": 0,
        "still_dead": 1,
    }
    (left,) = letters(group).values()
    assert (left.reason, left.attempts) == ("invalid-device-id", 1)
    assert table.count() == 1
    index = group.stream.client.hgetall(keys.dead_ids(group.stream.key))
    assert index == {f"{left.id} {group.name}".encode(): str(left.letter_id).encode()}


def test_more_than_a_plan_works_out_comes_to_the_same(group: Group, table: Repository) -> None:
    """What stays dead is written anew behind the others, and is not tried again for that."""
    dead(group, table, *(message(number, device_id="99" if number % 10 else "98") for number in range(1200)))
    execute_through(table, NEW_DEVICE)
    plan = plan_retry(DeadLetters(group.stream, group.name), LetterFilter(), RESULTS, table, most=1000)
    assert tuple(plan.lines()) == (
        "more than 1,000 dead letters are retried; each is removed once its row is committed",
        "this cannot be undone; to keep a copy first: dvctl export FILE --dead --reveal",
    )
    done = apply(lambda: plan)
    assert (done["retried"], done["persisted"], done["still_dead"]) == (1200, 1080, 120)
    assert {each.attempts for each in letters(group).values()} == {1}
    assert table.count() == 1080


def test_a_repair_keeps_the_original_where_it_fails_and_notes_it_where_it_helps(
    group: Group, table: Repository
) -> None:
    (key,) = dead(group, table, message(1, device_id="abc"))
    assert retry(group, table, "device_id=99")["still_dead"] == 1
    letter = letters(group)[key]
    assert (letter.fields[b"device_id"], letter.fields[b"_dvctl.original.device_id"]) == (b"99", b"abc")
    assert (letter.reason, letter.attempts) == ("unknown-device", 1)
    assert retry(group, table, "device_id=98")["still_dead"] == 1
    assert letters(group)[key].fields[b"_dvctl.original.device_id"] == b"abc"
    assert retry(group, table, "device_id=12")["persisted"] == 1
    assert not letters(group)
    assert DeadLetters(group.stream, group.name).discarded_ids() == {key}


def test_a_retry_without_repair_discards_nothing(group: Group, table: Repository) -> None:
    dead(group, table, message(1, device_id="99"))
    execute_through(table, NEW_DEVICE)
    retry(group, table)
    assert DeadLetters(group.stream, group.name).discarded_ids() == set()


def test_a_packed_letter_can_be_repaired(group: Group, table: Repository) -> None:
    extra = {f"extra-{number}": "x" for number in range(4000)}
    (key,) = dead(group, table, message(1, device_id="abc", **extra))
    assert retry(group, table, "device_id=99")["still_dead"] == 1
    letter = letters(group)[key]
    assert len(letter.fields) == 4 + 4000 + 1
    assert letter.fields[b"device_id"] == b"99"
    assert retry(group, table, "device_id=5")["persisted"] == 1


def test_an_outage_keeps_every_letter(group: Group, table: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    dead(group, table, message(1, device_id="abc"))

    def away(records: object) -> None:
        raise Unavailable("the database is away")

    monkeypatch.setattr(type(table), "submit", lambda self, records: away(records))
    with pytest.raises(Unavailable):
        retry(group, table, "device_id=12")
    (letter,) = letters(group).values()
    assert letter.attempts == 0


def test_a_row_that_the_database_refuses_stays_dead(
    group: Group, table: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(group, table, message(1, device_id="abc"))

    def refuse(self: Repository, records: object) -> None:
        raise RecordRejected("no", sqlstate="22000")

    monkeypatch.setattr(type(table), "submit", refuse)
    assert retry(group, table, "device_id=12")["reasons"] == {"database-rejected": 1}
    (letter,) = letters(group).values()
    assert "22000" in letter.detail


def test_retrying_again_after_a_crash_between_row_and_letter(group: Group, table: Repository) -> None:
    (key,) = dead(group, table, message(1, device_id="99"))
    execute_through(table, NEW_DEVICE)
    letter = letters(group)[key]
    decision = RESULTS.decode(key.ms, key.seq, letter.fields, table.device_id_max)
    table.save([decision.record])  # type: ignore[union-attr]
    assert retry(group, table)["duplicates"] == 1
    assert not letters(group)
    assert table.count() == 1


def test_drop_is_recorded_as_discarded(group: Group, table: Repository) -> None:
    ids = dead(group, table, message(1, device_id="abc"), message(2, device_id="99"))
    of = DeadLetters(group.stream, group.name)
    answer = apply(lambda: plan_drop(of, LetterFilter(reason="unknown-device")))
    assert answer["dropped"] == 1
    assert set(letters(group)) == {ids[0]}
    assert of.discarded_ids() == {ids[1]}


def test_dry_runs_change_nothing_and_stale_plans_are_refused(group: Group, table: Repository) -> None:
    ids = dead(group, table, message(1, device_id="abc"), message(2, device_id="99"))
    of = DeadLetters(group.stream, group.name)
    state = dump(group)
    assert retry(group, table, "device_id=12", dry_run=True)["persisted"] == 2
    assert apply(lambda: plan_drop(of, LetterFilter()), dry_run=True)["applied"] is False
    assert (dump(group), table.count()) == (state, 0)
    with pytest.raises(StalePlan):
        apply(
            lambda: plan_drop(of, LetterFilter()),
            meanwhile=lambda: apply(lambda: plan_drop(of, LetterFilter(ids=frozenset(ids[:1])))),
        )
    assert set(letters(group)) == {ids[1]}


@pytest.mark.parametrize("text", ["device_id", "=1", "", "_dvctl.id=1-1"])
def test_repairs_must_name_a_field(text: str) -> None:
    with pytest.raises(Usage):
        parse_repairs([text])
