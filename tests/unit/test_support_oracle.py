"""The oracles catch what they exist to catch: every kind of fault is committed here on purpose."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis
from redis.typing import EncodableT, FieldT

from tests.support import oracle
from tests.support.messages import Message, Sent, bad, good, mixed, odd, publish, storage
from tests.support.rows import micros

INSERT = (
    "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)


class World:
    """A consumer of a few lines, whose mistakes the tests make one at a time."""

    def __init__(self, redis_url: str, database_url: str, messages: list[Message]) -> None:
        self.redis_url, self.database_url = redis_url, database_url
        self.client = redis.Redis.from_url(redis_url)
        self.database = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
        self.sent = publish(self.client, messages)
        self.client.xgroup_create(oracle.STREAM, oracle.GROUP, "0")

    def deliver(self, count: int = 1000) -> None:
        self.client.xreadgroup(oracle.GROUP, "test", {oracle.STREAM: ">"}, count=count)

    def insert(self, one: Sent) -> None:
        get = {name.decode(): value.decode() for name, value in one.message.fields.items()}
        values = (get["task_id"], get["task_identifier"], get["device_id"], get["status"])
        self.database.execute(INSERT, (*values, "2026-01-01 00:00:00", get["log"]))

    def bury(self, one: Sent, reason: str | None = None) -> None:
        about: dict[FieldT, EncodableT] = {"_dvctl.id": one.id, "_dvctl.group": oracle.GROUP}
        about["_dvctl.reason"] = reason or one.message.reason or ""
        self.client.xadd("{device:results}:dead", about)

    def acknowledge(self, one: Sent) -> None:
        self.client.xack(oracle.STREAM, oracle.GROUP, one.id)

    def settle(self, *sent: Sent) -> None:
        for one in sent:
            self.bury(one) if one.message.reason else self.insert(one)
            self.acknowledge(one)

    def problems(self) -> set[str]:
        found = oracle.everything(self.redis_url, self.database_url, self.sent).problems()
        return {name.partition(" ")[0] for name in found}


@pytest.fixture
def world(redis_url: str, sqlite_url: str) -> Iterator[World]:
    made = World(redis_url, sqlite_url, [*good(3), Message({b"hello": b"world"}, "empty-message")])
    with closing(made.client), closing(made.database):
        yield made


def test_a_world_in_order_passes(world: World) -> None:
    world.deliver()
    world.settle(*world.sent)
    found = oracle.assert_everything(world.redis_url, world.database_url, world.sent)
    assert (found.published, found.rows, found.dead) == (4, 3, 1)


def acknowledged_without_a_row(world: World) -> None:
    world.settle(*world.sent[1:])
    world.acknowledge(world.sent[0])


def two_rows(world: World) -> None:
    world.settle(*world.sent)
    world.insert(world.sent[0])


def still_pending(world: World) -> None:
    world.settle(*world.sent)
    world.client.xclaim(oracle.STREAM, oracle.GROUP, "other", 0, [world.sent[0].id], force=True)


def good_one_is_dead(world: World) -> None:
    world.settle(*world.sent[1:])
    world.bury(world.sent[0], "malformed-log")
    world.acknowledge(world.sent[0])


def other_reason(world: World) -> None:
    world.settle(*world.sent[:3])
    world.bury(world.sent[3], "malformed-log")
    world.acknowledge(world.sent[3])


def two_letters(world: World) -> None:
    world.settle(*world.sent)
    world.bury(world.sent[3])


def row_of_nobody(world: World) -> None:
    world.settle(*world.sent)
    world.insert(Sent("0-1", good(1, seed=99)[0]))


def bad_one_vanished(world: World) -> None:
    world.settle(*world.sent[:3])
    world.acknowledge(world.sent[3])


@pytest.mark.parametrize(
    ("mistake", "problem"),
    [
        (acknowledged_without_a_row, "lost"),
        (two_rows, "duplicates"),
        (still_pending, "pending"),
        (good_one_is_dead, "wrongly_dead"),
        (other_reason, "wrong_reason"),
        (two_letters, "doubled_letters"),
        (row_of_nobody, "strangers"),
        (bad_one_vanished, "lost"),
    ],
)
def test_each_mistake_is_found_and_nothing_else(world: World, mistake: Callable[[World], None], problem: str) -> None:
    world.deliver()
    mistake(world)
    assert world.problems() == {problem}


def test_what_was_never_delivered_is_found(world: World) -> None:
    world.deliver(count=3)
    world.settle(*world.sent)
    assert world.problems() == {"undelivered"}


def test_nothing_published_proves_nothing(world: World) -> None:
    with pytest.raises(AssertionError, match="prove nothing"):
        oracle.assert_everything(world.redis_url, world.database_url, [])


def test_held_allows_delivery_and_catches_acknowledgements_and_letters(world: World) -> None:
    with oracle.held(world.redis_url):
        world.deliver()
    with pytest.raises(AssertionError), oracle.held(world.redis_url):
        world.acknowledge(world.sent[0])
    with pytest.raises(AssertionError), oracle.held(world.redis_url):
        world.bury(world.sent[1], "max-deliveries")


def test_untouched_catches_a_delivery_and_a_row(world: World) -> None:
    with oracle.untouched(world.redis_url, world.database_url):
        world.client.xrange(oracle.STREAM)
    with pytest.raises(AssertionError, match="device:results"), oracle.untouched(world.redis_url):
        world.deliver(1)
    with pytest.raises(AssertionError, match="table"), oracle.untouched(world.redis_url, world.database_url):
        world.insert(world.sent[0])


def test_an_identity_without_an_identifier_is_what_the_row_holds() -> None:
    fields = {b"device_id": b"7", b"task_id": b"t", b"task_identifier": b"", b"log": b"", b"_dvctl.id": b"5-1001"}
    assert oracle.identity_of("9-0", fields) == (7, "t", 5001, "failure", "[]")


def test_timestamps_of_every_database_are_the_same_number() -> None:
    assert micros("2026-01-01 00:00:00.000001") == micros("2026-01-01T01:00:00.000001+01:00") == 1767225600000001


def test_messages_come_from_their_seed() -> None:
    assert mixed(50, seed=3) == mixed(50, seed=3) != mixed(50, seed=4)
    assert len({one.fields[b"task_identifier"] for one in good(500)}) == 500
    assert {one.fields[b"task_identifier"] for one in storage(9)} == {one.fields[b"task_identifier"] for one in good(9)}
    assert all(one.reason is None for one in odd())
    reasons = {one.reason for one in bad()}
    assert reasons == {
        "empty-message",
        "invalid-encoding",
        "nul-character",
        "missing-device-id",
        "invalid-device-id",
        "value-too-long",
        "malformed-log",
        "unknown-device",
    }
