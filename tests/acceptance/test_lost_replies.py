"""Replies of Redis that never arrive: a running daemon with a long --claim-idle still strands nothing."""

from __future__ import annotations

import pytest

from tests.acceptance.test_consume_process import DEAD, STREAM, add, assert_everything_once, message, settled
from tests.support.process import END_S, Dvctl
from tests.support.proxy import DatabaseProxy, RedisProxy
from tests.support.redis_server import RedisServer
from tests.support.server import wait_until


@pytest.mark.parametrize("command", ["XREADGROUP", "XACK"])
@pytest.mark.parametrize("then", ["cut", "silence"])
def test_a_lost_reply_strands_nothing(
    dvctl: Dvctl, redis_server: RedisServer, postgres_url: str, command: str, then: str
) -> None:
    client = redis_server.client()
    add(client, range(500))
    with RedisProxy(redis_server.url) as proxy:
        dvctl.use(proxy.url, postgres_url)
        loss = proxy.lose_reply(command, nth=3, then=then)  # type: ignore[arg-type]
        daemon = dvctl.start("consume", "--claim-idle", "10m", "--batch-size", "50")
        loss.wait()
        wait_until(settled(client), timeout=END_S, what="the lost deliveries to be found again")
        assert daemon.sigterm().code == 0
    assert_everything_once(client, postgres_url)
    assert not client.exists(DEAD)


@pytest.mark.parametrize("then", ["cut", "silence"])
def test_a_lost_reply_of_the_dead_letter_script_writes_no_second_letter(
    dvctl: Dvctl, redis_server: RedisServer, postgres_url: str, then: str
) -> None:
    client = redis_server.client()
    for number in range(5):
        client.xadd(STREAM, message(number, device_id="none"))
    with RedisProxy(redis_server.url) as proxy:
        dvctl.use(proxy.url, postgres_url)
        loss = proxy.lose_reply("EVAL", nth=2, then=then, containing=b"dvctl.reason")  # type: ignore[arg-type]
        daemon = dvctl.start("consume", "--claim-idle", "10m")
        loss.wait()
        wait_until(settled(client), timeout=END_S, what="the letters to be written")
        assert daemon.sigterm().code == 0
    assert client.xlen(DEAD) == 5
    assert_everything_once(client, postgres_url)


def test_a_lost_answer_to_commit_doubles_nothing(dvctl: Dvctl, redis_server: RedisServer, postgres_url: str) -> None:
    """Whether the rows are there nobody can say, so it is tried again under the lock, which finds them."""
    client = redis_server.client()
    add(client, range(500))
    with DatabaseProxy(postgres_url) as proxy:
        dvctl.use(redis_server.url, proxy.url)
        loss = proxy.lose_reply(b"COMMIT", nth=12)
        daemon = dvctl.start("consume", "--claim-idle", "10m", "--batch-size", "50", "-o", "json")
        loss.wait()
        wait_until(settled(client), timeout=END_S, what="the batch to be tried again")
        answer = daemon.sigterm()
    assert answer.code == 0
    assert answer.json()["duplicates"] > 0, "the rows were there"
    assert_everything_once(client, postgres_url)
    assert not client.exists(DEAD)
