"""The longer set for Redis Cluster and Sentinel, in rounds: `make soak-topology ROUNDS=3`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.stream import Stream
from tests.support.oracle import STREAM
from tests.support.process import Dvctl
from tests.support.producing import Topology, Work, at_work
from tests.support.redis_server import RedisServer
from tests.support.rows import read_rows
from tests.support.topologies import LONG_S, RedisCluster, SentinelGroup, cut_off_replicas

ROUNDS = int(os.environ.get("DVCTL_TEST_ROUNDS", "2"))
GOES_ON_S = 5.0
"""How long after the promotion messages are persisted again, on a machine that has nothing else to do."""
pytestmark = [pytest.mark.timeout(1800), pytest.mark.parametrize("number", range(ROUNDS))]


def goes_on(work: Work, before: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows are written soon after another server has taken over."""
    work.wait_promoted(before)
    seconds = work.wait_for_rows(5)
    with capsys.disabled():
        print(f"\n  {seconds:.1f} s after the promotion", end="")
    assert seconds < GOES_ON_S


@contextmanager
def frozen(*servers: RedisServer) -> Iterator[None]:
    for server in servers:
        server.freeze()
    try:
        yield
    finally:
        for server in servers:
            server.thaw()


def seconds_to_connect(url: str) -> float:
    begun = time.monotonic()
    with closing(connect(url, STREAM)) as client:
        Stream(client, STREAM).ping()
    return time.monotonic() - begun


@pytest.fixture(params=["redis_cluster", "sentinel_group"])
def topology(request: pytest.FixtureRequest) -> RedisCluster | SentinelGroup:
    found: RedisCluster | SentinelGroup = request.getfixturevalue(request.param)
    return found


def test_the_master_dies_again_and_again(
    topology: RedisCluster | SentinelGroup, sqlite_url: str, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    with at_work(topology, sqlite_url) as work:
        for _ in range(3):
            before = topology.master()
            before.kill9()
            goes_on(work, before, capsys)
            before.start()
            work.wait_well()


def test_the_master_is_frozen(
    topology: RedisCluster | SentinelGroup, sqlite_url: str, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """It accepts connections and answers none; when it thaws, it is a replica."""
    with at_work(topology, sqlite_url) as work:
        before = topology.master()
        with frozen(before):
            goes_on(work, before, capsys)
        work.wait_well()


def test_the_replicas_lag_when_the_master_dies(
    topology: RedisCluster | SentinelGroup,
    sqlite_url: str,
    dvctl: Dvctl,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    """What only the dead master had is lost by Redis: the rows are there, and verify counts them."""
    with at_work(topology, sqlite_url) as work:
        before = topology.master()
        with frozen(*replicas(topology, before)):
            cut_off_replicas(before)
            work.producer.wait_for_more(20, LONG_S)
            work.wait_for_rows(20)
            before.kill9()
        goes_on(work, before, capsys)
    with topology.master().client() as client:
        kept = client.xlen(STREAM)
    answer = dvctl.use(topology.url, sqlite_url).json("verify", "--deep")
    assert answer["rows"]["rows_without_entry_in_range"] == len(read_rows(sqlite_url)) - kept > 0


def replicas(topology: Topology, master: RedisServer) -> list[RedisServer]:
    if isinstance(topology, RedisCluster):
        return [topology.replica_of(master)]
    assert isinstance(topology, SentinelGroup)
    return [node for node in topology.nodes if node is not master]


def test_another_shard_is_frozen(redis_cluster: RedisCluster, sqlite_url: str, number: int) -> None:
    """It was named first in the URL; whoever connects waits for it a second at most."""
    stranger = next(node for node in redis_cluster.nodes[:3] if node is not redis_cluster.master())
    url = redis_cluster.url_of(stranger, redis_cluster.master())
    with at_work(redis_cluster, sqlite_url, url=url) as work:
        with frozen(stranger):
            assert seconds_to_connect(url) < 4  # while its replica takes over, the whole cluster is down
            work.wait_for_rows(200)
        work.wait_well()


def test_the_first_sentinel_is_frozen(
    sentinel_group: SentinelGroup, sqlite_url: str, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    first = sentinel_group.sentinels[0].process
    first.freeze()
    assert seconds_to_connect(sentinel_group.url) < 3
    with at_work(sentinel_group, sqlite_url) as work:
        before = sentinel_group.master()
        before.kill9()
        goes_on(work, before, capsys)
    first.thaw()


def test_moved_as_planned_and_resharded(redis_cluster: RedisCluster, sqlite_url: str, number: int) -> None:
    with at_work(redis_cluster, sqlite_url) as work:
        for _ in range(3):
            redis_cluster.fail_over()
            assert work.wait_for_rows(5) < GOES_ON_S
            work.wait_well()
            owner = redis_cluster.master()
            redis_cluster.migrate(next(node for node in redis_cluster.nodes if is_master(node) and node is not owner))
            assert work.wait_for_rows(5) < GOES_ON_S


def is_master(node: RedisServer) -> bool:
    with node.client(unix=True, protocol=2) as client:
        return bool(client.info("replication")["role"] == "master")
