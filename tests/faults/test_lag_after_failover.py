"""The lag after a fail-over or a restart: Redis before 7.4 keeps a figure that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import redis

from devicevault_cli.operations.monitoring.lag import Lag, lag_of, trimmed_unread
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support.oracle import GROUP, STREAM
from tests.support.redis_server import AOF, RedisKind, RedisServer, redis_kinds
from tests.support.server import wait_until

pytestmark = [pytest.mark.faults]

KINDS = [pytest.param(kind, id=kind.name) for kind in redis_kinds() if kind.release >= (7,)]
LEFT, ALL = 10, 50


def add_and_read(client: redis.Redis, reads: int) -> None:
    """Read ten entries at a time."""
    for _ in range(reads):
        answer: Any = client.xreadgroup(GROUP, "me", {STREAM: ">"}, count=10)
        client.xack(STREAM, GROUP, *[key for key, _ in answer[0][1]])


def look(url: str, limit: int) -> tuple[Lag, int | None, int | None]:
    """The lag, trusting Redis's figure beyond the first entry; what was trimmed unread; and the figure itself."""
    with closing(connect(url)) as client:
        stream = Stream(client, STREAM)
        info, group = stream.info(), Group(stream, GROUP).info()
        assert info and group
        lag = lag_of(stream, info, group, limit, check_bytes=0)
        return lag, trimmed_unread(stream, info, group, lag), group.lag


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> RedisKind:
    found: RedisKind = request.param
    return found


@pytest.fixture
def primary(new_redis: Callable[..., RedisServer], kind: RedisKind) -> RedisServer:
    """Two fifths of the entries have been read, and the append-only file begins there."""
    server = new_redis(*AOF, kind=kind)
    with server.client(protocol=2) as client:
        client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        for number in range(ALL):
            client.xadd(STREAM, {"number": number})
        add_and_read(client, 2)
        client.bgrewriteaof()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], what="the new file")
    return server


def test_on_a_replica_that_took_over(
    new_redis: Callable[..., RedisServer], primary: RedisServer, kind: RedisKind
) -> None:
    follows = ("--replicaof", "127.0.0.1", str(primary.port), "--repl-diskless-sync-delay", "0")
    replica = new_redis(*follows, kind=kind)
    with primary.client(protocol=2) as client, replica.client(protocol=2) as promoted:
        wait_until(lambda: promoted.info("replication")["master_link_status"] == "up", what="the replica to follow")
        add_and_read(client, 2)
        assert look(primary.url, ALL)[:2] == (Lag(LEFT, "redis", look(primary.url, ALL)[0].oldest), 0)
        wait_until(lambda: client.wait(1, 1000), what="the replica to have it all")
        primary.kill9()
        promoted.replicaof("NO", "ONE")
        check(replica.url, kind)
        promoted.xtrim(STREAM, maxlen=20, approximate=False)
        unread = look(replica.url, ALL)[1]
        assert unread in (None, 0), "what was trimmed had been read"


def test_after_a_restart_from_the_append_only_file(primary: RedisServer, kind: RedisKind) -> None:
    with primary.client(protocol=2) as client:
        add_and_read(client, 2)
    primary.restart(kill=False)
    check(primary.url, kind)


def check(url: str, kind: RedisKind) -> None:
    lag, _, figure = look(url, ALL)
    assert lag.entries == LEFT
    if kind.release >= (7, 4):
        assert (lag.source, figure) == ("redis", LEFT)
    else:
        assert figure != LEFT, "this version gives the right figure"
        assert lag.source == "counted"
        assert look(url, 3)[0].source == "unknown", "too many to count"
