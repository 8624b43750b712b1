"""Redis refusing for a while, forgetting, or failing over: held meanwhile, and everything once of what still exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from devicevault_cli.consumer.worker import BLOCK_MS
from devicevault_cli.operations.monitoring.lag import Lag, lag_of
from devicevault_cli.repository.dialects import sqlite
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support import servers
from tests.support.daemon import Daemon, at_work, consuming
from tests.support.messages import bad, good, mixed, publish
from tests.support.oracle import GROUP, STREAM
from tests.support.process import Dvctl
from tests.support.proxy import Proxy, RedisProxy
from tests.support.redis_server import AOF, RedisServer
from tests.support.server import wait_until
from tests.support.sqlite_database import locked

pytestmark = [pytest.mark.faults]


@pytest.fixture
def daemon(each_redis_url: str, sqlite_url: str) -> Iterator[Daemon]:
    """A consumer at work on each version of Redis, which has worked off a first backlog and now blocks."""
    with at_work(each_redis_url, sqlite_url) as running:
        yield running


# --- it refuses for a while


def test_while_it_loads_its_file(
    new_redis: Callable[..., RedisServer], sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_redis(*AOF[:2], "--appendfsync", "always")
    with consuming(server.url, sqlite_url) as daemon:
        daemon.publish(mixed(2400))
        daemon.wait_settled()
        server.kill9()
        server.load_slowly()
        server.start()
        daemon.publish(good(50, seed=2))
        daemon.all_once()
    assert "it is loading its data" in caplog.text


def test_while_it_is_a_replica(each_redis_url: str, daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    """READONLY: what was published before stays where it is until this Redis is the primary again."""
    with redis.Redis.from_url(each_redis_url) as client:
        daemon.publish(good(1, seed=2))
        client.config_set("replica-serve-stale-data", "yes")
        client.replicaof("127.0.0.1", "1")
        daemon.wait_deferred()
        client.replicaof("NO", "ONE")
        client.execute_command("DEBUG", "CHANGE-REPL-ID")  # it forgets that it was one
    daemon.publish(mixed(60, seed=3))
    daemon.all_once()
    assert "use the primary's address" in caplog.text


def test_while_it_cannot_save(
    new_redis: Callable[..., RedisServer], sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """MISCONF: the snapshot fails, so Redis takes no writes; not even the producer's."""
    server = new_redis("--save", "3600 1000000")
    with server.client() as client, consuming(server.url, sqlite_url) as daemon:
        daemon.publish(mixed(40))
        daemon.wait_settled()
        in_the_way = server.directory / "dump.rdb"
        in_the_way.mkdir()
        save(client, "err")
        daemon.wait_deferred()
        in_the_way.rmdir()
        save(client, "ok")
        daemon.publish(mixed(60, seed=2))
        daemon.all_once()
    assert "cannot write to its disk" in caplog.text


def save(client: redis.Redis, outcome: str) -> None:
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == outcome, what="the end of the snapshot")


def test_while_the_cluster_is_down(
    new_redis: Callable[..., RedisServer], sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """CLUSTERDOWN: nobody serves the slot for a while."""
    server = new_redis("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        wait_until(lambda: b"cluster_state:ok" in cluster_info(client), what="the cluster to be well")
        slot = key_slot(STREAM.encode())
        with consuming(server.url, sqlite_url) as daemon:
            daemon.publish(mixed(40))
            daemon.wait_settled()
            client.execute_command("CLUSTER", "DELSLOTS", slot)
            daemon.wait_deferred()
            client.execute_command("CLUSTER", "ADDSLOTS", slot)
            daemon.publish(mixed(60, seed=2))
            daemon.all_once()
    assert "Hash slot not served" in caplog.text


def cluster_info(client: Any) -> bytes:
    answer = client.execute_command("CLUSTER INFO")
    return answer if isinstance(answer, bytes) else f"cluster_state:{answer['cluster_state']}".encode()


@pytest.mark.parametrize("error", ["TRYAGAIN Multiple keys request during rehashing of slot", "BUSY Redis is busy"])
def test_an_answer_that_asks_for_patience(
    redis_url: str, sqlite_url: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a cluster says while a slot moves; for want of a second node, the proxy says it."""
    with RedisProxy(redis_url) as proxy, consuming(redis_url, sqlite_url, through=proxy.url) as daemon:
        daemon.publish(mixed(40))
        daemon.wait_settled()
        proxy.error = f"-{error}\r\n".encode()
        daemon.hold(mixed(60, seed=2))
        proxy.error = b""
        daemon.all_once()
    assert error.partition(" ")[2] in caplog.text


def test_packets_are_swallowed(redis_url: str, sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody resets the connection; the silence itself ends it. The real time is ten seconds."""
    with (
        RedisProxy(redis_url) as proxy,
        consuming(redis_url, sqlite_url, through=proxy.url, socket_timeout=1.5) as daemon,
    ):
        daemon.publish(mixed(40))
        daemon.wait_settled()
        proxy.blackhole()
        daemon.hold(mixed(60, seed=2), times=2)
        proxy.heal()
        daemon.all_once()
    assert "does not answer" in caplog.text


def test_the_socket_waits_longer_than_any_read_blocks() -> None:
    """Else a read that only waits would look like one whose answer was lost."""
    with closing(connect("redis://127.0.0.1:1/0")) as client:
        options = client.connection_pool.connection_kwargs
    assert options["socket_timeout"] > 5 >= BLOCK_MS / 1000
    assert options["socket_keepalive"]
    assert options["retry"].get_retries() == 0, "a read that is repeated strands what the first one delivered"


@servers.two_redis(0)
def test_while_its_memory_is_full(
    each_redis_server: RedisServer, daemon: Daemon, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No letter can be written and acknowledging works: bad messages stay pending, good ones go on."""
    bad_ones = bad(seed=5)
    with each_redis_server.client() as client:
        with locked(sqlite_url):
            daemon.publish([*bad_ones, *good(50, seed=5)])
            client.config_set("maxmemory", "1")
        try:
            wait_until(lambda: daemon.worker.counters.persisted >= 90, what="the good ones to be persisted")
            wait_until(lambda: "its dead letter cannot be written" in caplog.text, what="a letter to be tried")
            wait_until(
                lambda: client.xpending(STREAM, GROUP)["pending"] == len(bad_ones), what="the bad ones to be held"
            )
            wait_until(lambda: "its dead letter cannot be written" in caplog.text, what="a letter to be tried")
        finally:
            client.config_set("maxmemory", "0")
    daemon.all_once()


# --- it forgets


def destroyed_group(client: redis.Redis) -> None:
    client.xgroup_destroy(STREAM, GROUP)


def deleted_stream(client: redis.Redis) -> None:
    client.delete(STREAM)


def flushed(client: redis.Redis) -> None:
    client.flushall()


@pytest.mark.parametrize("forget", [destroyed_group, deleted_stream, flushed])
def test_what_it_forgets_while_a_read_blocks(
    each_redis_url: str,
    sqlite_url: str,
    daemon: Daemon,
    forget: Callable[[redis.Redis], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Created again at 0, loudly; rows that are there stay single, and a letter is not written twice."""
    with redis.Redis.from_url(each_redis_url) as client:
        blocked = lambda: any("b" in each["flags"] for each in client.client_list())  # noqa: E731
        wait_until(blocked, what="a read that blocks")
        caplog.clear()
        forget(client)
    daemon.sent = (
        daemon.sent if forget is destroyed_group else [one for one in daemon.sent if one.message.reason is None]
    )
    daemon.publish(mixed(60, seed=2))
    daemon.all_once()
    assert "created consumer group" in caplog.text


@servers.two_redis(1)
def test_a_group_destroyed_while_a_batch_is_in_hand(
    each_redis_url: str, sqlite_url: str, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XACK then answers 0 without a word: the entries come again, and their rows are found."""
    monkeypatch.setattr(sqlite, "BUSY_S", 0.1)
    with redis.Redis.from_url(each_redis_url) as client:
        with locked(sqlite_url):
            daemon.publish(mixed(60, seed=2))
            daemon.wait_deferred()
            client.xgroup_destroy(STREAM, GROUP)
            daemon.wait_deferred(1)
        daemon.all_once()
        assert daemon.worker.counters.duplicates >= 60, "what was there before, at least"


def test_failover_to_a_replica_that_lags(new_redis: Callable[..., RedisServer], dvctl: Dvctl, sqlite_url: str) -> None:
    """Acknowledgements revert and the newest entries vanish: the rows stay single, and only what Redis lost is lost."""
    primary = new_redis()
    with Proxy(primary.url) as link, Proxy(primary.url) as address:
        replica = new_redis("--replicaof", "127.0.0.1", str(link.port))
        with consuming(primary.url, sqlite_url, through=address.url) as daemon:
            daemon.publish(mixed(100))
            wait_until(lambda: replica_has(replica, len(daemon.sent)), what="the replica to have the entries")
            daemon.wait_settled()
            link.blackhole()
            daemon.publish(vanishing := good(30, seed=2))
            daemon.wait_settled()
        primary.kill9()
        with replica.client() as promoted:
            promoted.replicaof("NO", "ONE")
            address.forward_to(replica.url)
            assert promoted.xlen(STREAM) == len(daemon.sent) - len(vanishing)
        with consuming(replica.url, sqlite_url, through=address.url, claim_idle_s=0.1) as heir:
            heir.sent = daemon.sent
            heir.publish(mixed(20, seed=3))
            heir.all_once()
    verdict = dvctl.use(replica.url, sqlite_url).json("verify", "--deep")
    assert verdict["rows"]["rows_without_entry_in_range"] == len(vanishing), "what Redis lost has its rows"


def replica_has(replica: RedisServer, entries: int) -> bool:
    with replica.client() as client:
        return bool(client.xlen(STREAM) == entries)


# --- it evicts, trims, and counts wrongly


@pytest.fixture
def dropping(each_redis_server: RedisServer) -> Iterator[str]:
    """A Redis that may evict whole streams."""
    with each_redis_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield each_redis_server.url
        client.config_set("maxmemory-policy", "noeviction")


def test_a_redis_that_may_evict_the_stream(dvctl: Dvctl, dropping: str, sqlite_url: str) -> None:
    dvctl.use(dropping, sqlite_url)
    assert "may evict the whole stream" in dvctl.ok("consume", "--drain").stderr
    assert finding(dvctl, "redis-eviction")["status"] == "problem"


def finding(dvctl: Dvctl, name: str) -> dict[str, Any]:
    """What one check of `doctor` says."""
    return next(each for each in dvctl.run("doctor", "-o", "json").json()["checks"] if each["name"] == name)


@pytest.mark.parametrize("read_on", [False, True], ids=["at once", "after reading on"])
def test_what_was_trimmed_before_delivery_is_reported(
    dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str, read_on: bool
) -> None:
    """Redis 6.2 does not know how many entries there ever were, and from 7.2 on a gap that was passed counts as read.

    There dvctl says so instead of 0.
    """
    dvctl.use(each_redis_server.url, sqlite_url)
    with each_redis_server.client() as client:
        publish(client, good(10))
        dvctl.ok("consume", "--max-messages", "2")
        client.xtrim(STREAM, maxlen=4, approximate=False)
        if read_on:
            dvctl.ok("consume", "--drain")
    (group,) = dvctl.json("status")["groups"]
    told = finding(dvctl, "trimmed-unread")
    release = each_redis_server.kind.release
    if release < (7,) or (read_on and release >= (7, 2)):
        assert (group["trimmed_unread"], told["status"]) == (None, "unknown")
    else:
        assert (group["trimmed_unread"], told["status"]) == (4, "problem")
        assert "4 entries" in told["detail"]
    assert group["lag"] == (0 if read_on else 4)


def steps() -> dict[str, Callable[[Any], object]]:
    """What makes Redis's own lag NULL or wrong, each after ten entries of which two were read."""
    return {
        "nothing": lambda client: None,
        "an unread entry deleted": lambda client: client.xdel(STREAM, client.xrange(STREAM)[5][0]),
        "a read entry deleted": lambda client: client.xdel(STREAM, client.xrange(STREAM)[0][0]),
        "the last entry deleted": lambda client: client.xdel(STREAM, client.xrange(STREAM)[9][0]),
        "trimmed unread": lambda client: client.xtrim(STREAM, maxlen=4, approximate=False),
        "trimmed unread, and read to the end": lambda client: (
            client.xtrim(STREAM, maxlen=4, approximate=False),
            client.xreadgroup(GROUP, "me", {STREAM: ">"}),
        ),
        "trimmed unread, read to the end, and three more": lambda client: (
            client.xtrim(STREAM, maxlen=4, approximate=False),
            client.xreadgroup(GROUP, "me", {STREAM: ">"}),
            publish(client, good(3, seed=2)),
        ),
        "trimmed to nothing": lambda client: client.xtrim(STREAM, maxlen=0, approximate=False),
        "the position set": lambda client: client.xgroup_setid(STREAM, GROUP, client.xrange(STREAM)[6][0]),
        "the position set to the end": lambda client: client.xgroup_setid(STREAM, GROUP, "$"),
        "all deleted": lambda client: client.xdel(STREAM, *(key for key, _ in client.xrange(STREAM))),
    }


@pytest.mark.parametrize("step", steps())
def test_the_lag_is_right_or_unknown(each_redis_server: RedisServer, step: str) -> None:
    """Against a count of what stands above the position; Redis's own figure is used only where it is right."""
    with each_redis_server.client() as client:
        publish(client, good(10))
        client.xgroup_create(STREAM, GROUP, "0")
        client.xreadgroup(GROUP, "me", {STREAM: ">"}, count=2)
        steps()[step](client)
        right = undelivered(client)
    lag = lag_at(each_redis_server.url)
    assert lag.entries == right
    if each_redis_server.kind.release < (7,):
        assert lag.source == "counted", "6.2 has no figure of its own"
    if step == "nothing":
        assert lag.source == ("redis" if each_redis_server.kind.release >= (7,) else "counted")
    if step == "an unread entry deleted":
        assert lag_at(each_redis_server.url, limit=3)[:2] == (None, "unknown"), "too many to count, and no false 0"


def undelivered(client: Any) -> int:
    position = client.xinfo_groups(STREAM)[0]["last-delivered-id"]
    return len(client.xrange(STREAM, b"(" + position, "+"))


def lag_at(url: str, limit: int = 100) -> Lag:
    with closing(connect(url)) as client:
        stream = Stream(client, STREAM)
        info, group = stream.info(), Group(stream, GROUP).info()
        assert info and group
        return lag_of(stream, info, group, limit)
