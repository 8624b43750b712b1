"""`tail` and `top` beside a stream that restarts: they say so, and go on with what there is now."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer
from tests.support.screen import on_a_terminal

STREAM = "device:results"


def message(name: str) -> dict[Any, Any]:
    return {"task_id": "t", "task_identifier": name, "device_id": "1", "status": "success"}


@pytest.mark.parametrize("ids", [("1-1", "2-1"), ("*", "*")])
def test_tail_begins_again_where_the_stream_does(
    ids: tuple[str, str], dvctl: Dvctl, each_redis_server: RedisServer
) -> None:
    """Field case 10: blind and without a word before."""
    with each_redis_server.client() as client:
        for number in range(3):
            client.xadd(STREAM, message(f"old-{number}"))
        last = client.xinfo_stream(STREAM)["last-generated-id"].decode()
        following = dvctl.use(each_redis_server.url).start("tail", "-o", "jsonl")
        following.wait_for("old-2")
        transaction = client.pipeline(transaction=True)
        transaction.delete(STREAM)
        for number, key in enumerate(ids):
            transaction.xadd(STREAM, message(f"new-{number}"), id=key)
        transaction.execute()
        following.wait_for("new-1")
        if ids[0] != "*" or each_redis_server.kind.version >= "7":
            following.wait_for(f"its last id went from {last}")
        client.xadd(STREAM, message("newest"), id="*")
        following.wait_for("newest")
        shown = [line["task_identifier"] for line in following.sigterm().jsonl()]
        assert shown == ["old-0", "old-1", "old-2", "new-0", "new-1", "newest"], "each once"


def test_tail_waits_for_a_stream_that_is_gone(dvctl: Dvctl, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.xadd(STREAM, message("old"))
        following = dvctl.use(redis_server.url).start("tail", "-o", "jsonl")
        following.wait_for("old")
        client.delete(STREAM)
        following.wait_for("is gone")
        client.xadd(STREAM, message("new"), id="1-1")
        following.wait_for('"new"')
        assert following.stderr.count("is gone") == 1
        following.sigterm()


def test_tail_goes_on_after_a_last_id_that_was_set(dvctl: Dvctl, redis_server: RedisServer) -> None:
    """Nothing else changed, so that nothing is shown twice."""
    with redis_server.client() as client:
        client.xadd(STREAM, message("old"), id="5-1")
        client.execute_command("XSETID", STREAM, "100-0")
        following = dvctl.use(redis_server.url).start("tail", "-o", "jsonl")
        following.wait_for("old")
        client.execute_command("XSETID", STREAM, "5-1")
        following.wait_for("its last id went from 100-0 to 5-1")
        client.xadd(STREAM, message("new"), id="6-1")
        following.wait_for('"new"')
        shown = [line["task_identifier"] for line in following.sigterm().jsonl()]
        assert shown == ["old", "new"] if redis_server.kind.version >= "7" else shown[-1] == "new"


def test_top_says_what_happened(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    with redis_server.client() as client:
        for number in range(5):
            client.xadd(STREAM, message(f"old-{number}"))
        dvctl.use(redis_server.url, sqlite_url)
        with on_a_terminal(["top", "--interval", "200ms"], dvctl.environment) as screen:
            screen.wait_for("there is no group yet")
            client.delete(STREAM)
            screen.wait_for("INCIDENT")
            client.set(STREAM, "x")
            screen.wait_for("another type of value")
            client.delete(STREAM)
            client.xadd(STREAM, message("new"), id="1-1")
            dvctl.ok("consume", "--drain")
            screen.wait_for("0 of 1 entries")
            screen.type("q")
            assert screen.code() == 0
