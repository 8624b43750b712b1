"""One consumer's side of a group, on every Redis."""

from __future__ import annotations

from typing import Any

from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from tests.support.recovering import group_on, message, pending
from tests.support.server import wait_until


def test_showing_life_refreshes_the_idle_time_and_delivers_nothing(each_redis_url: str) -> None:
    with group_on(each_redis_url) as group:
        group.create()
        group.stream.add(message(number) for number in range(3))
        delivery = GroupConsumer(group, "me")
        delivery.read_new(1)
        before, info, seen = pending(group), group.info(), last_seen(group)
        wait_until(lambda: now(group) > seen + 5, what="time to pass")
        delivery.show_life()
        assert set(pending(group)) == set(before)
        assert group.info() == info
        assert last_seen(group) > seen


def now(group: Group) -> int:
    """The time of the Redis, in milliseconds."""
    seconds, micros = group.stream.client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def last_seen(group: Group) -> int:
    """When the one consumer was last active, by the time of the Redis."""
    with group.stream.client.pipeline(transaction=True) as both:
        both.time()
        both.xinfo_consumers(group.stream.key, group.name)
        (seconds, micros), (consumer,) = both.execute()
    idle: dict[Any, Any] = dict(consumer)
    return int(seconds) * 1000 + int(micros) // 1000 - int(idle["idle"] if "idle" in idle else idle[b"idle"])
