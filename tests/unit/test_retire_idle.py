"""Deleting consumers that hold nothing, on fakeredis: its Lua answers otherwise than a server in places."""

from __future__ import annotations

import time

import fakeredis

from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP, good


def test_only_idle_consumers_that_hold_nothing_go() -> None:
    stream = Stream(fakeredis.FakeRedis(version=(7,)), "device:results")
    group = Group(stream, GROUP)
    group.create()
    stream.add(good(1))
    GroupConsumer(group, "holds").read_new(1)
    for name in ("empty", "me"):
        stream.client.xgroup_createconsumer(stream.key, GROUP, name)
    time.sleep(0.02)
    assert group.delete_idle(60_000, "me") == []
    assert group.delete_idle(5, "me") == ["empty"]
    assert {consumer.name for consumer in group.consumers()} == {"holds", "me"}
