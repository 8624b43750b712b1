"""Groups on every real Redis: whatever was done to one, destroying and restoring it changes nothing."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devicevault_cli.errors import ConsumerAlive, Damaged, StalePlan
from devicevault_cli.operations.entries.ack import plan_ack
from devicevault_cli.operations.entries.claim import ClaimFilter, plan_claim
from devicevault_cli.operations.groups.destroy import plan_destroy
from devicevault_cli.operations.groups.reset import plan_reset, target
from devicevault_cli.operations.groups.restore import plan_restore
from devicevault_cli.operations.groups.retire import plan_retire
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, EntryId
from devicevault_cli.streams.stream import Stream
from tests.support.recovering import aged_alike, apply, dump, group_on, message, pending, table_at
from tests.support.server import wait_until

CONSUMERS = ("a", "b", "ß c", "-")


def restore(group: Group, path: str) -> dict[str, Any]:
    return apply(lambda: plan_restore(lambda key, name: Group(Stream(group.stream.client, key), name), Path(path)))


def filled(group: Group, count: int, read: int, consumer: str = "a") -> list[EntryId]:
    group.create()
    ids = group.stream.add(message(number) for number in range(count))
    GroupConsumer(group, consumer).read_new(read)
    return ids


step = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 20)),
    st.tuples(st.just("read"), st.sampled_from(CONSUMERS), st.integers(1, 15)),
    st.tuples(st.just("ack"), st.integers(0, 10**6), st.integers(1, 5)),
    st.tuples(st.just("claim"), st.sampled_from(CONSUMERS), st.integers(0, 10**6)),
    st.tuples(st.just("age"), st.integers(0, 10**6), st.integers(0, 10**7)),
    st.tuples(st.just("empty consumer"), st.sampled_from(CONSUMERS)),
    st.tuples(st.just("trim"), st.integers(0, 10)),
)


def take(group: Group, what: tuple[Any, ...]) -> None:
    """One thing that may happen to a group."""
    client: Any = group.stream.client
    held = sorted(pending(group))
    key, name = group.stream.key, group.name
    match what:
        case "publish", count:
            group.stream.add(message(number) for number in range(count))
        case "read", consumer, count:
            GroupConsumer(group, consumer).read_new(count)
        case "ack", start, count if held:
            group.acknowledge(held[start % len(held) :][:count])
        case "claim", consumer, start if held:
            client.execute_command("XCLAIM", key, name, consumer, 0, str(held[start % len(held)]))
        case "age", start, idle if held:
            entry = pending(group)[held[start % len(held)]]
            client.execute_command(
                "XCLAIM", key, name, entry.consumer, 0, str(entry.id), "IDLE", idle, "JUSTID", parse_justid=True
            )
        case "empty consumer", consumer:
            client.execute_command("XGROUP", "CREATECONSUMER", key, name, consumer)
        case "trim", count:
            info = group.stream.info()
            client.xtrim(key, maxlen=max(0, (info.length if info else 0) - count), approximate=False)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(step, max_size=25))
def test_destroy_and_restore_give_back_the_very_same_group(each_redis_url: str, steps: list[tuple[Any, ...]]) -> None:
    with group_on(each_redis_url) as group:
        group.stream.client.flushdb()
        group.create()
        for what in steps:
            take(group, what)
        began, before, info = time.monotonic(), pending(group), group.info()
        names = {each.name: each.pending for each in group.consumers()}

        gone = set(before) - set(group.stream.get(before))
        done = apply(lambda: plan_destroy(group, force=True))
        assert group.info() is None
        assert done["pending_lost"] == len(before)
        answer = restore(group, done["snapshot"])

        after, again = pending(group), group.info()
        assert set(map(EntryId.parse, answer["unrestorable"])) == gone == set(before) - set(after)
        assert answer["restored"] == len(after)
        for key, entry in after.items():
            assert (entry.consumer, entry.deliveries) == (before[key].consumer, before[key].deliveries)
            assert aged_alike(before[key], entry, began)
        assert info is not None
        assert again is not None
        assert again.last_delivered_id == info.last_delivered_id
        assert again.entries_read == info.entries_read
        assert again.lag == info.lag
        assert {each.name for each in group.consumers()} == set(names)
        if not gone:
            assert {each.name: each.pending for each in group.consumers()} == names


def test_restore_onto_a_group_that_a_running_consumer_created_again(each_redis_url: str) -> None:
    with group_on(each_redis_url) as group:
        ids = filled(group, 30, 20)
        group.acknowledge(ids[:5])
        before = pending(group)
        done = apply(lambda: plan_destroy(group, force=True))
        group.create()
        GroupConsumer(group, "newcomer").read_new(8)
        group.acknowledge(ids[:2])
        restore(group, done["snapshot"])
        after = pending(group)
        assert {key: entry.consumer for key, entry in after.items() if key in before} == dict.fromkeys(before, "a")
        assert {key for key, entry in after.items() if entry.consumer == "newcomer"} == set(ids[2:5])
        assert group.info() is not None
        assert group.info().last_delivered_id == ids[19]  # type: ignore[union-attr]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=st.lists(step, max_size=15), meanwhile=st.lists(step, max_size=15))
def test_whatever_happens_to_a_group_created_again_the_snapshot_comes_back(
    each_redis_url: str, before: list[tuple[Any, ...]], meanwhile: list[tuple[Any, ...]]
) -> None:
    with group_on(each_redis_url) as group:
        group.stream.client.flushdb()
        group.create()
        for what in before:
            take(group, what)
        began, held, info = time.monotonic(), pending(group), group.info()
        done = apply(lambda: plan_destroy(group, force=True))
        group.create()
        for what in meanwhile:
            take(group, what)
        now, there = pending(group), group.stream.get(held)
        answer = restore(group, done["snapshot"])

        after, again = pending(group), group.info()
        assert set(map(EntryId.parse, answer["unrestorable"])) == set(held) - set(there)
        assert info is not None
        assert again is not None
        assert again.last_delivered_id == info.last_delivered_id
        # What is in the snapshot and still exists is as it was there; every other pending entry is left alone.
        for key, entry in after.items():
            expected = held[key] if key in held and key in there else now[key]
            assert (entry.consumer, entry.deliveries) == (expected.consumer, expected.deliveries)
            assert aged_alike(expected, entry, began)
        assert set(after) == set(there) | set(now)


def test_restoring_twice_is_restoring_once(each_redis_url: str) -> None:
    with group_on(each_redis_url) as group:
        filled(group, 10, 10)
        done = apply(lambda: plan_destroy(group, force=True))
        restore(group, done["snapshot"])
        first = {key: (each.consumer, each.deliveries) for key, each in pending(group).items()}
        restore(group, done["snapshot"])
        assert {key: (each.consumer, each.deliveries) for key, each in pending(group).items()} == first


@pytest.mark.parametrize("how", ["cut", "edited", "other"])
def test_a_damaged_snapshot_is_refused_and_changes_nothing(redis_url: str, how: str) -> None:
    with group_on(redis_url) as group:
        filled(group, 10, 10)
        path = Path(apply(lambda: plan_destroy(group, force=True))["snapshot"])
        text = path.read_text()
        cut = {"cut": text[: len(text) // 2], "edited": text.replace('"a"', '"b"', 1), "other": "{}\n"}
        path.write_text(cut[how])
        state = dump(group)
        with pytest.raises(Damaged):
            restore(group, str(path))
        assert dump(group) == state


def test_a_snapshot_is_private(redis_url: str) -> None:
    with group_on(redis_url) as group:
        filled(group, 1, 1)
        path = Path(apply(lambda: plan_destroy(group, force=True))["snapshot"])
        assert path.stat().st_mode & 0o777 == 0o600
        assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_destroy_is_refused_while_a_consumer_is_alive(each_redis_url: str) -> None:
    with group_on(each_redis_url) as group:
        filled(group, 3, 3)
        state = dump(group)
        with pytest.raises(ConsumerAlive):
            apply(lambda: plan_destroy(group))
        assert dump(group) == state


def test_a_plan_that_is_no_longer_true_is_refused(each_redis_url: str, sqlite_url: str) -> None:
    with group_on(each_redis_url) as group, table_at(sqlite_url) as table:
        ids = filled(group, 12, 10)
        for make, meanwhile in (
            (lambda: plan_destroy(group, force=True), lambda: group.acknowledge(ids[:1])),
            (
                lambda: plan_reset(group, ZERO, RESULTS, table, force=True),
                lambda: GroupConsumer(group, "b").read_new(1),
            ),
            (lambda: plan_claim(group, ClaimFilter(owner="a"), "b"), lambda: group.acknowledge(ids[1:2])),
            (lambda: plan_ack(group, ids[2:4], RESULTS, table), lambda: group.acknowledge(ids[2:3])),
            (lambda: plan_retire(group, ["a"], to="b"), lambda: group.acknowledge(ids[4:5])),
        ):
            held = len(pending(group))
            with pytest.raises(StalePlan):
                apply(make, meanwhile=meanwhile)
            assert abs(held - len(pending(group))) == 1
            assert {each.consumer for each in pending(group).values()} <= {"a", "b"}


@pytest.mark.parametrize("change", ["pending", "position"])
def test_what_changes_between_the_last_look_and_the_step_is_refused_too(
    each_redis_url: str, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The script compares once more; the snapshot of a state that is over does not stay behind."""
    from devicevault_cli.operations.groups import snapshots

    with group_on(each_redis_url) as group:
        ids = filled(group, 3, 3)
        write = snapshots.write_snapshot
        paths = []

        def write_and_lose_the_race(*arguments: Any) -> Path:
            paths.append(write(*arguments))
            if change == "pending":
                group.acknowledge(ids[:1])
            else:
                group.stream.client.xgroup_setid(group.stream.key, group.name, "0")
            return paths[0]

        monkeypatch.setattr(snapshots, "write_snapshot", write_and_lose_the_race)
        with pytest.raises(StalePlan):
            apply(lambda: plan_destroy(group, force=True))
        assert group.info() is not None
        assert not paths[0].exists()


def test_a_full_disk_stops_before_anything_is_destroyed(each_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    from devicevault_cli.errors import DvctlError

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with group_on(each_redis_url) as group:
        filled(group, 5, 5)
        state = dump(group)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DvctlError, match="No space"):
            apply(lambda: plan_destroy(group, force=True))
        assert dump(group) == state


@pytest.mark.parametrize(
    ("to", "redelivered", "skipped", "next_index"),
    [("start", 6, 0, 0), ("end", 0, 4, None), ("id 3", 3, 0, 3), ("id 8", 0, 2, 8), ("id 6", 0, 0, 6)],
)
def test_reset_delivers_the_first_entry_at_or_after_the_target(
    each_redis_url: str, sqlite_url: str, to: str, redelivered: int, skipped: int, next_index: int | None
) -> None:
    with group_on(each_redis_url) as group, table_at(sqlite_url) as table:
        ids = filled(group, 10, 6)
        words = str(ids[int(to[3:])]) if to.startswith("id") else to
        answer = apply(lambda: plan_reset(group, target(words, 0), RESULTS, table, force=True))
        assert (answer["redelivered"], answer["skipped"]) == (redelivered, skipped)
        assert answer["would_insert"] == redelivered
        assert answer["pending"] == redelivered
        entries = GroupConsumer(group, "z").read_new(1)
        assert [entry.id for entry in entries] == ([] if next_index is None else [ids[next_index]])


def test_reset_is_undone_by_its_snapshot(each_redis_url: str, sqlite_url: str) -> None:
    with group_on(each_redis_url) as group, table_at(sqlite_url) as table:
        filled(group, 10, 6)
        before = group.info()
        answer = apply(lambda: plan_reset(group, ZERO, RESULTS, table, force=True))
        assert answer["undo"] == f"dvctl restore-group {answer['snapshot']}"
        restore(group, answer["snapshot"])
        assert group.info() == before


def test_retiring_keeps_counts_and_idle_times_and_drops_nothing(each_redis_url: str) -> None:
    with group_on(each_redis_url) as group:
        group.create()
        group.stream.add(message(number) for number in range(1500))
        for name in ("ghost-1", "ghost-2", "empty"):
            GroupConsumer(group, name).read_new(700 if name != "empty" else 0)
        client: Any = group.stream.client
        some_id = str(next(iter(pending(group))))
        client.execute_command(
            "XCLAIM",
            group.stream.key,
            group.name,
            "ghost-1",
            0,
            some_id,
            "IDLE",
            5000,
            "RETRYCOUNT",
            7,
            "JUSTID",
            parse_justid=True,
        )
        began, before = time.monotonic(), pending(group)
        answer = apply(lambda: plan_retire(group, ["ghost-1", "ghost-2", "empty"], to="heir"))
        after = pending(group)
        assert answer["moved"] == len(before) == len(after)
        assert [each.name for each in group.consumers()] == ["heir"]
        assert {key: each.deliveries for key, each in after.items()} == {
            key: each.deliveries for key, each in before.items()
        }
        assert all(aged_alike(before[key], after[key], began) for key in before)


def test_without_an_heir_it_is_the_next_consumer_of_this_host(
    each_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where HOST-0 consumes elsewhere, a new consumer here is HOST-1: HOST-0 would stay as a ghost."""
    from devicevault_cli.operations.groups.consumer_name import lowest_free

    monkeypatch.setattr(socket, "gethostname", lambda: f"host-{os.getpid()}")
    with group_on(each_redis_url) as group:
        filled(group, 4, 4)
        name, taken = lowest_free(group.stream.key, group.name)
        heir = apply(lambda: plan_retire(group, ["a"]), dry_run=True)["to"]
        taken.close()
        assert heir.rpartition("-")[0] == name.rpartition("-")[0]
        assert int(heir.rpartition("-")[2]) > int(name.rpartition("-")[2])


def test_dead_for_alone_decides_and_is_asked_again_in_redis(each_redis_url: str) -> None:
    with group_on(each_redis_url) as group:
        for _ in range(10):
            group.stream.client.flushdb()
            filled(group, 10, 5, "ghost")
            assert apply(lambda: plan_retire(group, dead_for_ms=3_600_000))["retired"] == []
            wait_until(lambda: group.consumers()[0].idle_ms >= 500, what="it to look dead")
            shown: list[float] = []

            def show_life() -> None:
                shown.append(time.monotonic())  # noqa: B023
                GroupConsumer(group, "ghost").show_life()

            spared = apply(lambda: plan_retire(group, dead_for_ms=500, to="heir"), meanwhile=show_life)
            if time.monotonic() - shown[0] < 0.5:
                break  # else it may really have looked dead again, on a machine that stood still
        assert (spared["retired"], spared["spared"], spared["moved"]) == ([], ["ghost"], 0)
        answer = apply(lambda: plan_retire(group, dead_for_ms=0, to="heir"))
        assert (answer["retired"], answer["moved"]) == (["ghost"], 5)


def test_release_leaves_owner_and_count_and_makes_entries_old(each_redis_url: str) -> None:
    with group_on(each_redis_url) as group:
        ids = filled(group, 4, 4)
        answer = apply(lambda: plan_claim(group, ClaimFilter(ids=ids[:2]), None, claim_idle_ms=60_000))
        assert answer["released"] == [str(each) for each in ids[:2]]
        held = pending(group)
        assert {each.consumer for each in held.values()} == {"a"}
        assert all(each.deliveries == 1 for each in held.values())
        assert [held[key].idle_ms > 60_000 for key in ids] == [True, True, False, False]


def test_claiming_what_is_gone_clears_it(each_redis_url: str) -> None:
    with group_on(each_redis_url) as group:
        ids = filled(group, 4, 4)
        group.stream.client.xdel(group.stream.key, str(ids[1]))
        answer = apply(lambda: plan_claim(group, ClaimFilter(), "b"))
        assert answer["gone"] == [str(ids[1])]
        assert set(pending(group)) == {ids[0], ids[2], ids[3]}


def test_ack_by_hand_is_recorded_as_discarded(each_redis_url: str, sqlite_url: str) -> None:
    from devicevault_cli.streams.dead_letters import DeadLetters

    with group_on(each_redis_url) as group, table_at(sqlite_url) as table:
        ids = filled(group, 4, 3)
        answer = apply(lambda: plan_ack(group, [ids[0], ids[3]], RESULTS, table))
        assert answer["acked"] == [str(ids[0])]
        assert answer["unknown"] == [str(ids[3])]
        assert DeadLetters(group.stream, group.name).discarded_ids() == {ids[0]}
        assert set(pending(group)) == {ids[1], ids[2]}


def test_ack_by_hand_leaves_what_was_delivered_after_the_plan(each_redis_url: str, sqlite_url: str) -> None:
    """The plan said it was unknown, so nobody was told what would be given up with it."""
    with group_on(each_redis_url) as group, table_at(sqlite_url) as table:
        ids = filled(group, 4, 1)
        answer = apply(
            lambda: plan_ack(group, ids[:2], RESULTS, table), meanwhile=lambda: GroupConsumer(group, "b").read_new(1)
        )
        assert (answer["acked"], answer["unknown"]) == ([str(ids[0])], [str(ids[1])])
        assert set(pending(group)) == {ids[1]}


@pytest.mark.parametrize("to", ["b", None])
def test_a_dry_run_of_claim_names_what_would_happen(each_redis_url: str, to: str | None) -> None:
    with group_on(each_redis_url) as group:
        ids = filled(group, 4, 4)
        group.stream.client.xdel(group.stream.key, str(ids[1]))
        planned = apply(lambda: plan_claim(group, ClaimFilter(), to), dry_run=True)
        done = apply(lambda: plan_claim(group, ClaimFilter(), to))
        assert done.pop("undo") == f"dvctl restore-group {done.pop('snapshot')}"
        assert planned == {**done, "applied": False}
        assert planned["gone"] == [str(ids[1])]


def test_a_dry_run_says_what_would_be_refused(each_redis_url: str, sqlite_url: str) -> None:
    with group_on(each_redis_url) as group, table_at(sqlite_url) as table:
        filled(group, 3, 3)
        for make in (lambda: plan_destroy(group), lambda: plan_reset(group, ZERO, RESULTS, table)):
            assert "is alive" in apply(make, dry_run=True)["refused"]
        assert apply(lambda: plan_destroy(group, force=True), dry_run=True)["refused"] is None


def test_entries_read_stays_away_from_a_stream_that_is_another_one(each_redis_url: str) -> None:
    """Deleted and filled again, more entries wait than entries-read would leave: the lag would be a lie."""
    with group_on(each_redis_url) as group:
        filled(group, 10, 6)
        done = apply(lambda: plan_destroy(group, force=True))
        group.stream.client.delete(group.stream.key)
        group.stream.add(message(number) for number in range(20))
        answer = restore(group, done["snapshot"])
        info = group.info()
        assert len(answer["unrestorable"]) == 6
        assert info is not None
        assert info.entries_read in (None, 0)
        assert info.lag in (None, 20)


def test_dry_runs_change_nothing(each_redis_url: str, sqlite_url: str) -> None:
    with group_on(each_redis_url) as group, table_at(sqlite_url) as table:
        ids = filled(group, 20, 10)
        done = apply(lambda: plan_destroy(group, force=True))
        restore(group, done["snapshot"])
        state = dump(group)
        for make in (
            lambda: plan_destroy(group),
            lambda: plan_reset(group, ZERO, RESULTS, table),
            lambda: plan_claim(group, ClaimFilter(), "b"),
            lambda: plan_claim(group, ClaimFilter(), None),
            lambda: plan_ack(group, ids, RESULTS, table),
            lambda: plan_retire(group, ["a"], to="b"),
            lambda: plan_restore(
                lambda key, name: Group(Stream(group.stream.client, key), name), Path(done["snapshot"])
            ),
        ):
            assert apply(make, dry_run=True)["applied"] is False
            assert dump(group) == state


def test_consumers_that_hold_nothing_are_deleted_once_they_were_idle_so_long(each_redis_url: str) -> None:
    with group_on(each_redis_url) as group:
        filled(group, 3, 2, "holds")
        for name in ("empty", "ß c", "me"):
            GroupConsumer(group, name).show_life()
        assert group.delete_idle(60_000, "me") == []
        wait_until(lambda: all(consumer.idle_ms >= 20 for consumer in group.consumers()), what="them to be idle")
        assert sorted(group.delete_idle(20, "me")) == ["empty", "ß c"]
        assert sorted(consumer.name for consumer in group.consumers()) == ["holds", "me"]
        assert group.summary().consumers == {"holds": 2}
