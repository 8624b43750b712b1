"""The heartbeat: entries in hand stay fresh and the consumer alive while the loop moves, and no longer than that."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from threading import Thread

import pytest

from devicevault_cli.consumer import heartbeat
from devicevault_cli.consumer.heartbeat import Heartbeat
from devicevault_cli.consumer.in_hand import InHand
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.progress import STANDSTILL_S, ConsumerProgress
from devicevault_cli.consumer.shutdown import Stop
from devicevault_cli.consumer.worker import Worker
from devicevault_cli.operations.monitoring.liveness import ALIVE_MS
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP, good
from tests.support.recovering import table_at
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


def test_a_consumer_that_waits_for_messages_is_alive(
    group: Group, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Redis 7.2 an XREADGROUP that brings nothing, each half second, leaves the idle time as it is."""
    monkeypatch.setattr(heartbeat, "SHOW_LIFE_S", 0.8)
    stop = Stop()
    resets = 0
    with table_at(sqlite_url) as table:
        worker = Worker(GroupConsumer(group, "me"), table, RESULTS, ConsumeOptions(claim_idle_s=0.6), stop)
        thread = Thread(target=worker.run)
        thread.start()
        try:
            wait_until(group.consumers, what="the consumer to be listed")
            before = 0
            while resets < 2:
                idle_ms = group.consumers()[0].idle_ms
                assert idle_ms < ALIVE_MS, "nobody says that it is alive"
                resets += idle_ms < before
                before = idle_ms
                time.sleep(0.05)
        finally:
            stop.set()
            thread.join()
    assert worker.counters.read == 0


def test_a_loop_that_does_not_read_is_shown_to_be_alive(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SHOW_LIFE_S", 0.1)
    with Heartbeat(GroupConsumer(group, "me"), InHand(), ConsumerProgress(), claim_idle_s=60):
        wait_until(lambda: [consumer.name for consumer in group.consumers()] == ["me"], what="a sign of life")


STUCK = """
import sys, threading
from devicevault_cli.consumer import shutdown

shutdown.GRACE_S = shutdown.LAST_GRACE_S = float(sys.argv[1])
stop, call = shutdown.Stop(), threading.Event()
with shutdown.ended_in_time(stop, {"raises": lambda: 1 / 0, "ends the call": call.set}[sys.argv[2]]):
    stop.set()
    call.wait(600)
call.wait(1)
"""


@pytest.mark.parametrize(("grace_s", "interrupt", "code"), [("0.1", "raises", 130), ("20", "ends the call", 0)])
def test_a_process_that_is_stuck_is_interrupted_then_ended(grace_s: str, interrupt: str, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", STUCK, grace_s, interrupt], check=False, timeout=250)
    assert ended.returncode == code
