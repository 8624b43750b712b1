"""The consumer on every real Redis: outcomes, delivery counts, take-overs, suspects, owed letters."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from devicevault_cli.consumer.demo import bad_messages
from devicevault_cli.consumer.in_hand import InHand
from devicevault_cli.consumer.reader import MAX_ATTEMPTS_ALONE
from devicevault_cli.errors import LocksExhausted, RecordRejected, Unavailable
from devicevault_cli.records import Record
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.tables import RESULTS
from devicevault_cli.streams import keys
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, EntryId
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP, drain, good, letters
from tests.support.server import wait_until


@pytest.fixture
def redis_url(each_redis_url: str) -> str:
    """Every test here runs on each version of Redis."""
    return each_redis_url


@pytest.fixture
def repository(sqlite_url: str) -> Iterator[Repository]:
    opened = open_repository(sqlite_url, RESULTS)
    yield opened
    opened.close()


def set_count(stream: Stream, key: EntryId, owner: str, count: int) -> None:
    stream.call("XCLAIM", stream.key, GROUP, owner, 0, str(key), "RETRYCOUNT", count, "JUSTID", parse_justid=True)


def test_every_message_has_one_outcome(stream: Stream, repository: Repository, group: Group) -> None:
    messages = good(2500)
    bad = list(bad_messages())
    stream.add([*messages, *messages[:250], *(message for _, message in bad)])
    counters = drain(stream, repository).counters
    assert (counters.persisted, counters.duplicates, counters.dead_lettered) == (2500, 250, len(bad))
    assert counters.read == 2750 + len(bad)
    assert repository.count() == 2500
    assert sorted(letter.reason for letter in letters(stream)) == sorted(reason for reason, _ in bad)
    assert {letter.reason: letter.fields for letter in letters(stream)} == dict(bad)
    assert group.summary().total == 0
    assert group.consumers() == []


def test_a_group_started_again_persists_nothing_and_writes_no_second_letter(
    stream: Stream, repository: Repository, group: Group
) -> None:
    stream.add([*good(30), *(message for _, message in bad_messages())])
    first = drain(stream, repository).counters
    stream.call("XGROUP", "DESTROY", stream.key, GROUP)
    again = drain(stream, repository).counters
    assert (again.persisted, again.duplicates) == (0, first.persisted)
    assert len(letters(stream)) == first.dead_lettered == again.dead_lettered


def test_what_the_dead_held_is_taken_over_and_what_is_gone_is_cleared(
    stream: Stream, repository: Repository, group: Group
) -> None:
    ids = stream.add(good(150))
    GroupConsumer(group, "dead").read_new(150)
    stream.call("XDEL", stream.key, str(ids[7]), str(ids[140]))
    wait_until(lambda: all(entry.idle_ms > 100 for entry in group.pending()), what="the entries to be idle")
    counters = drain(stream, repository, claim_idle_s=0.1).counters
    assert (counters.persisted, counters.gone, counters.reclaimed) == (148, 2, 148)
    assert group.summary().total == 0


def test_what_the_living_hold_is_waited_for(
    stream: Stream, repository: Repository, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = stream.add(good(1))
    other = GroupConsumer(group, "other")
    other.read_new(1)
    looks, info = 0, Group.info

    def look(self: Group) -> Any:
        nonlocal looks
        looks += 1
        if looks == 10:
            group.acknowledge(ids)
        return info(self)

    monkeypatch.setattr(Group, "info", look)
    worker = drain(stream, repository)
    assert looks >= 10, "it ended before"
    assert worker.counters.read == 0


def test_own_entries_of_an_earlier_life_come_first_and_count_as_a_death(
    stream: Stream, repository: Repository, group: Group
) -> None:
    ids = stream.add(good(3))
    me = GroupConsumer(group, "me")
    me.read_new(3)
    taken = me.claim(ids, own=True)
    assert taken.deliveries == dict.fromkeys(ids, 1)
    assert [each.deliveries for each in group.pending()] == [2, 2, 2]
    assert drain(stream, repository).counters.persisted == 3


class Failing:
    """A repository that fails as told before it does its work."""

    def __init__(self, repository: Repository, failures: list[Exception | None]) -> None:
        self.repository = repository
        self.failures = failures

    def __getattr__(self, name: str) -> Any:
        return getattr(self.repository, name)

    def submit(self, records: list[Record]) -> Any:
        self._fail()
        return self.repository.submit(records)

    def _fail(self) -> None:
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure


def test_an_outage_puts_the_delivery_counts_back(stream: Stream, repository: Repository, group: Group) -> None:
    ids = stream.add(good(4))
    GroupConsumer(group, "me").read_new(4)
    set_count(stream, ids[2], "me", 5)
    seen: list[list[int]] = []

    class Watched(Unavailable):
        def __str__(self) -> str:
            seen.append([each.deliveries for each in group.pending()])
            return "away"

    failing = Failing(repository, [Watched() for _ in range(5)])
    counters = drain(stream, failing).counters  # type: ignore[arg-type]
    assert counters.persisted == 4
    assert counters.deferred_retries >= 3
    assert seen[-1] == [1, 1, 5, 1]


def test_a_refused_batch_is_split_until_the_culprit_stands_alone(
    stream: Stream, repository: Repository, group: Group
) -> None:
    messages = good(64)
    poison = messages[41][b"task_id"].decode()

    class Picky(Failing):
        def submit(self, records: list[Record]) -> Any:
            if any(record.task_id == poison for record in records):
                raise RecordRejected("it will not have it", sqlstate="22000")
            return self.repository.submit(records)

    stream.add(messages)
    counters = drain(stream, Picky(repository, [])).counters  # type: ignore[arg-type]
    assert (counters.persisted, counters.dead_lettered) == (63, 1)
    (letter,) = letters(stream)
    assert letter.reason == "database-rejected"
    assert "22000" in letter.detail


def test_a_full_lock_table_makes_batches_smaller(stream: Stream, repository: Repository, group: Group) -> None:
    tried: list[int] = []

    class Cramped(Failing):
        def submit(self, records: list[Record]) -> Any:
            tried.append(len(records))
            if len(records) > 10 or len(tried) < 3:
                raise LocksExhausted
            return self.repository.submit(records)

    stream.add(good(40))
    counters = drain(stream, Cramped(repository, [])).counters  # type: ignore[arg-type]
    assert (counters.persisted, counters.dead_lettered) == (40, 0)
    assert min(tried) == 10
    stream.add(good(1))
    tried.clear()
    assert drain(stream, Cramped(repository, [])).counters.persisted == 1  # type: ignore[arg-type]


def test_an_often_delivered_entry_is_processed_alone_and_persisted(
    stream: Stream, repository: Repository, group: Group
) -> None:
    ids = stream.add(good(3))
    GroupConsumer(group, "me").read_new(3)
    set_count(stream, ids[1], "me", 40)
    assert drain(stream, repository).counters.persisted == 3
    assert not stream.call("EXISTS", keys.alone(stream.key))


def test_an_entry_processed_alone_is_one_message(stream: Stream, repository: Repository, group: Group) -> None:
    ids = stream.add(good(5))
    GroupConsumer(group, "me").read_new(1)
    set_count(stream, ids[0], "me", 40)
    assert drain(stream, repository, drain=False, max_messages=3).counters.persisted == 3


def test_an_entry_processed_alone_after_the_stream_was_restarted_is_acknowledged(
    stream: Stream, repository: Repository, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = InHand.__init__

    def restarted(self: InHand) -> None:
        create(self)
        self.begin_generation()

    monkeypatch.setattr(InHand, "__init__", restarted)
    ids = stream.add(good(3))
    GroupConsumer(group, "me").read_new(2)
    set_count(stream, ids[1], "me", 40)
    assert drain(stream, repository, max_wait_s=20.0).counters.persisted == 3
    assert group.summary().total == 0


def test_after_three_deaths_alone_it_is_a_dead_letter(stream: Stream, repository: Repository, group: Group) -> None:
    ids = stream.add(good(3))
    killer = GroupConsumer(group, "me")
    killer.read_new(3)
    set_count(stream, ids[1], "me", 12)
    for _ in range(MAX_ATTEMPTS_ALONE):
        killer.begin_alone(ids[1])
    counters = drain(stream, repository).counters
    assert (counters.persisted, counters.reasons) == (2, {"max-deliveries": 1})
    assert letters(stream)[0].id == ids[1]
    assert not stream.call("EXISTS", keys.alone(stream.key))


def test_max_deliveries_zero_never_dead_letters(stream: Stream, repository: Repository, group: Group) -> None:
    ids = stream.add(good(1))
    GroupConsumer(group, "me").read_new(1)
    set_count(stream, ids[0], "me", 800)
    assert drain(stream, repository, max_deliveries=0).counters.persisted == 1


def test_a_letter_that_cannot_be_written_is_owed_and_neighbours_go_on(
    stream: Stream, repository: Repository, group: Group
) -> None:
    stream.call("SET", keys.dead(stream.key), "in the way")
    stream.add([{b"device_id": b""}, *good(1500)])
    for _ in range(100):
        assert drain(stream, repository, max_wait_s=0.5).counters.dead_lettered == 0
        if group.summary().total == 1 and repository.count() == 1500:
            break
    assert (group.summary().total, repository.count()) == (1, 1500)
    stream.call("DEL", keys.dead(stream.key))
    assert drain(stream, repository).counters.dead_lettered == 1
    assert group.summary().total == 0


def test_dropped_messages_are_recorded(stream: Stream, repository: Repository, group: Group) -> None:
    stream.add([{b"device_id": b""}, *good(1)])
    counters = drain(stream, repository, on_reject="drop").counters
    assert (counters.persisted, counters.dropped) == (1, 1)
    assert stream.call("ZCARD", keys.discarded(stream.key)) == 1
    assert letters(stream) == []


def test_max_messages_takes_no_more(stream: Stream, repository: Repository, group: Group) -> None:
    stream.add(good(300))
    worker = drain(stream, repository, drain=False, max_messages=123)
    assert worker.counters.read == 123
    assert group.summary().total == 0
    assert repository.count() == 123


def test_a_missing_group_is_created_at_the_beginning(stream: Stream, repository: Repository) -> None:
    stream.add(good(5))
    assert drain(stream, repository).counters.persisted == 5
    stream.call("XGROUP", "DESTROY", stream.key, GROUP)
    worker = drain(stream, repository, on_missing_group="fail")
    assert worker.reason == "missing-group"  # type: ignore[attr-defined]


def test_holding_takes_nothing_back(stream: Stream, group: Group) -> None:
    ids = stream.add(good(2))
    frozen, awake = GroupConsumer(group, "frozen"), GroupConsumer(group, "awake")
    frozen.read_new(2)
    awake.claim(ids[:1])
    assert frozen.renew(dict.fromkeys(ids)) == 1
    assert [each.consumer for each in group.pending(ZERO)] == ["awake", "frozen"]


def test_a_message_of_thousands_of_fields_is_packed_and_read_back(
    stream: Stream, repository: Repository, group: Group
) -> None:
    huge = {b"field-%d" % number: b"\x00\xff,:" * (number % 5) for number in range(5000)}
    stream.add([huge])
    assert drain(stream, repository).counters.reasons == {"empty-message": 1}
    assert letters(stream)[0].fields == huge


@pytest.mark.parametrize("retire_after_ms", [None, 20])
def test_names_left_behind_are_deleted_at_the_start_where_that_is_asked_for(
    stream: Stream, repository: Repository, group: Group, caplog: pytest.LogCaptureFixture, retire_after_ms: int | None
) -> None:
    caplog.set_level(logging.INFO, "dvctl.consume")
    stream.add(good(2))
    GroupConsumer(group, "holds").read_new(1)
    GroupConsumer(group, "left behind").show_life()
    wait_until(lambda: all(consumer.idle_ms >= 20 for consumer in group.consumers()), what="them to be idle")
    drain(stream, repository, retire_after_ms=retire_after_ms, max_messages=1, drain=False)
    names = {consumer.name for consumer in group.consumers()}
    assert names == {"holds", *([] if retire_after_ms else ["left behind"])}
    said = "retired 1 consumer that held nothing and had been idle for 20ms: left behind"
    assert (said in caplog.messages) == bool(retire_after_ms)
