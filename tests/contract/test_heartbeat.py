"""The heartbeat: entries in hand stay fresh and the consumer alive while the loop moves, and no longer than that."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from devicevault_cli.consumer import heartbeat
from devicevault_cli.consumer.heartbeat import Heartbeat
from devicevault_cli.consumer.in_hand import InHand
from devicevault_cli.consumer.progress import STANDSTILL_S, ConsumerProgress
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP, good
from tests.support.server import wait_until

LONG_MS = 1_000_000


@pytest.fixture
def group(each_redis_url: str, stream_key: str) -> Iterator[Group]:
    client = connect(each_redis_url)
    group = Group(Stream(client, stream_key), GROUP)
    group.create()
    yield group
    client.close()


def read_long_ago(group: Group, consumer: str, count: int) -> list[EntryId]:
    """Entries that a consumer has read, idle for LONG_MS."""
    ids = group.stream.add(good(count))
    GroupConsumer(group, consumer).read_new(count)
    command = ("XCLAIM", group.stream.key, GROUP, consumer, 0, *map(str, ids), "IDLE", LONG_MS, "JUSTID")
    group.stream.call(*command, parse_justid=True)
    return ids


def idle(group: Group) -> list[bool]:
    """Of each pending entry, whether it is still idle for LONG_MS."""
    return [entry.idle_ms >= LONG_MS for entry in group.pending()]


def test_only_what_is_in_hand_and_still_its_own_is_renewed(group: Group) -> None:
    mine = read_long_ago(group, "me", 3)
    others = read_long_ago(group, "other", 1)
    in_hand = InHand()
    in_hand.add(dict.fromkeys([*mine[:2], *others], 1))
    with Heartbeat(GroupConsumer(group, "me"), in_hand, ConsumerProgress(), claim_idle_s=0.3):
        wait_until(lambda: not idle(group)[0], what="a renewal")
    assert idle(group) == [False, False, True, True]
    assert [entry.deliveries for entry in group.pending()] == [1, 1, 1, 1]


def test_a_loop_that_stands_still_is_not_kept_alive(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SHOW_LIFE_S", 0.1)
    in_hand, progress = InHand(), ConsumerProgress()
    in_hand.add(dict.fromkeys(read_long_ago(group, "me", 1), 1))
    group.stream.call("XGROUP", "CREATECONSUMER", group.stream.key, GROUP, "me")
    progress.moved -= STANDSTILL_S
    with Heartbeat(GroupConsumer(group, "me"), in_hand, progress, claim_idle_s=0.1):
        began = group.consumers()[0].idle_ms
        time.sleep(1)
        assert idle(group) == [True]
        assert group.consumers()[0].idle_ms >= began + 900
        progress.update()
        wait_until(lambda: idle(group) == [False], what="a renewal")


def test_a_loop_that_does_not_read_is_shown_to_be_alive(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SHOW_LIFE_S", 0.1)
    with Heartbeat(GroupConsumer(group, "me"), InHand(), ConsumerProgress(), claim_idle_s=60):
        wait_until(lambda: [consumer.name for consumer in group.consumers()] == ["me"], what="a sign of life")


STUCK = """
import sys, time
from devicevault_cli.consumer import shutdown

shutdown.GRACE_S = shutdown.LAST_GRACE_S = 0.1
stop = shutdown.Stop()
with shutdown.ended_in_time(stop):
    stop.set()
    time.sleep(float(sys.argv[1]))
time.sleep(1)
"""


@pytest.mark.parametrize(("seconds", "code"), [(600, 130), (0, 0)])
def test_a_process_that_is_stuck_is_ended(seconds: float, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", STUCK, str(seconds)], check=False, timeout=250)
    assert ended.returncode == code
