"""The installed dvctl on a terminal: `top` lives through an outage, `consume --drain` shows how far it is."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable

import redis

from tests.support import messages
from tests.support.oracle import TABLE
from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer
from tests.support.rows import select
from tests.support.screen import on_a_terminal
from tests.support.server import wait_until

ALTERNATE_SCREEN, NORMAL_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


def test_top_follows_the_group_through_an_outage(
    dvctl: Dvctl, new_redis: Callable[..., RedisServer], sqlite_url: str
) -> None:
    server = new_redis("--appendonly", "yes", "--appendfsync", "always")
    messages.publish(server.client(), messages.mixed(200, seed=5))
    dvctl.use(server.url, sqlite_url)
    with on_a_terminal(["top", "--interval", "200ms"], dvctl.environment) as screen:
        screen.wait_for("there is no group yet")
        dvctl.ok("consume", "--drain")
        screen.wait_for("0 of 272 entries, nothing behind")
        screen.wait_for("31 dead letters")
        screen.wait_for("invalid-device-id")
        server.kill9()
        screen.wait_for("cannot be reached")
        server.start()
        screen.wait_for("31 dead letters")
        screen.type("q")
        assert screen.code() == 0
        assert ALTERNATE_SCREEN in screen.raw
        assert NORMAL_SCREEN in screen.raw.rpartition(ALTERNATE_SCREEN)[2]


def test_the_keys_of_top(dvctl: Dvctl, redis_url: str) -> None:
    dvctl.use(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        messages.publish(client, messages.good(3, seed=5))
        for name in ("devicevault", "other"):
            client.xgroup_create("device:results", name, "0")
    with on_a_terminal(["top", "--interval", "200ms"], dvctl.environment) as screen:
        screen.wait_for("PROBLEM: no consumer is running, 3 entries behind")
        screen.wait_for("q quit  p pause  g group  s pipeline  ? help")
        screen.type("g")
        screen.wait_for("other of device:results (results)")
        screen.type("s")
        screen.wait_for("devicevault-storage of storage:results (storage)")
        screen.wait_for("there is no stream yet")
        screen.type("s")
        screen.wait_for("other of device:results (results)")
        screen.type("p")
        screen.wait_for("paused, ")
        screen.type("?")
        screen.wait_for("next group of the stream")
        screen.type("q")
        assert screen.code() == 0


def test_top_ends_by_a_signal_as_by_its_key(dvctl: Dvctl, redis_url: str) -> None:
    dvctl.use(redis_url)
    with on_a_terminal(["top"], dvctl.environment) as screen:
        screen.wait_for("there is no stream yet")
        screen.popen.send_signal(signal.SIGINT)
        assert screen.code() == 130
        assert NORMAL_SCREEN in screen.raw
        assert b"Traceback" not in screen.raw


def test_top_needs_a_terminal_and_a_redis(dvctl: Dvctl, redis_url: str) -> None:
    answer = dvctl.use(redis_url).run("top")
    assert (answer.code, answer.stdout) == (2, "")
    assert "needs a terminal" in answer.stderr
    assert "is less than 200 ms" in dvctl.run("top", "--interval", "10ms").stderr
    with on_a_terminal(["top", "--redis-url", "redis://127.0.0.1:1/0"], dvctl.environment) as screen:
        assert screen.code() == 69
        assert ALTERNATE_SCREEN not in screen.raw


def test_a_drain_shows_how_far_it_is(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    messages.publish(redis_server.client(), messages.good(3000, seed=6))
    dvctl.use(redis_server.url, sqlite_url)
    with on_a_terminal(["consume", "--drain", "--rate", "1000"], dvctl.environment) as screen:
        screen.wait_for("/3000")
        screen.wait_for("lag ")
        screen.wait_for("stopped by")
        assert screen.code() == 0
        assert "consuming ━" not in screen.text, "the bar is gone at the end"
        assert "━".encode() in screen.raw
        assert not re.search("\x1b\\[(?:[39][1-7]|38[;\\d]+)m[━╸╺\\d]".encode(), screen.raw), "a bar has no colour"


def test_a_daemon_has_no_bar(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    messages.publish(redis_server.client(), messages.good(500, seed=6))
    dvctl.use(redis_server.url, sqlite_url)
    with on_a_terminal(["consume", "--rate", "1000"], dvctl.environment) as screen:
        screen.wait_for("consuming device:results")
        wait_until(lambda: select(sqlite_url, f"SELECT count(*) FROM {TABLE}") == [(500,)], what="the rows")
        screen.watch(0.5)
        screen.popen.send_signal(signal.SIGTERM)
        assert screen.code() == 0
        assert json.loads(dvctl.ok("status", "-o", "json").stdout)["table"]["rows"] == 500
        assert "━".encode() not in screen.raw


def test_hostile_names_move_nothing_on_the_screen_of_top(dvctl: Dvctl, redis_url: str) -> None:
    evil = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e"
    dvctl.use(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        for status in (evil, "failure"):
            client.xadd("device:results", {"device_id": evil, "status": status, "task_identifier": evil, "log": "[]"})
        client.xgroup_create("device:results", "devicevault", "0")
        client.xreadgroup("devicevault", evil, {"device:results": ">"}, count=1)
    with on_a_terminal(["top", "--interval", "200ms"], dvctl.environment) as screen:
        screen.wait_for("pending   1,")
        screen.watch(0.5)
        screen.type("q")
        assert screen.code() == 0
        assert b"]0;title" in screen.raw  # shown, and inert
        assert not [attack for attack in (b"\x1b]", b"\x07", b"\x1b[2J", "\u202e".encode()) if attack in screen.raw]
