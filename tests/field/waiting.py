"""A consumer as DeviceVault's own is: a plain client that waits in XREADGROUP on a quiet stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from tests.support.oracle import GROUP, STREAM
from tests.support.redis_server import RedisServer
from tests.support.server import wait_until


@contextmanager
def waiting(server: RedisServer, name: str, *, db: int = 0, stream: str = STREAM, group: str = GROUP) -> Iterator[None]:
    """A client that is blocked in XREADGROUP under this name until the block ends."""
    client: Any = redis.Redis.from_url(server.url_for(db=db), socket_timeout=None)
    number = client.client_id()
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            client.xreadgroup(group, name, {stream: ">"}, block=0)
        except (redis.RedisError, OSError, ValueError, AttributeError) as error:
            ended.append(error)

    thread = threading.Thread(target=wait, name=f"waiting-{name}")
    with server.client() as admin:
        thread.start()
        try:
            wait_until(lambda: _is_blocked(admin, number) or ended, what="the client to wait")
            assert not ended, ended
            yield
        finally:
            admin.client_kill_filter(_id=str(number))
            thread.join(20)
            client.close()


def _is_blocked(admin: Any, number: int) -> bool:
    (row,) = [each for each in admin.client_list() if int(each["id"]) == number]
    return "b" in row["flags"]


def quiet_consumer(server: RedisServer, name: str) -> None:
    """Make it known to the group: it got a message and acknowledged it."""
    with server.client() as client:
        key = client.xadd(STREAM, {"device_id": "1", "task_identifier": f"read by {name}"})
        client.xgroup_create(STREAM, GROUP, "0") if not client.xinfo_groups(STREAM) else None
        client.xreadgroup(GROUP, name, {STREAM: ">"})
        client.xack(STREAM, GROUP, key)


def wait_quiet(server: RedisServer, name: str) -> None:
    """Until nobody could take it for alive by its last command."""

    def quiet() -> bool:
        found = client.xinfo_consumers(STREAM, GROUP)
        return any(consumer["name"] == name.encode() and consumer["idle"] > 10_500 for consumer in found)

    with server.client() as client:
        wait_until(quiet, timeout=60, every=0.2, what=f"{name} to be idle for ten seconds")


@contextmanager
def looping(server: RedisServer, name: str, *, stream: str = STREAM, group: str = GROUP) -> Iterator[None]:
    """A client that reads and acknowledges as DeviceVault's own does, two tenths of a second at a time."""
    client: Any = redis.Redis.from_url(server.url)
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            for _, messages in client.xreadgroup(group, name, {stream: ">"}, count=10, block=200):
                for key, _ in messages:
                    client.xack(stream, group, key)

    client.xgroup_createconsumer(stream, group, name)  # before 7.2 it would be listed with its first message
    thread = threading.Thread(target=loop, name=f"looping-{name}")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        client.close()
