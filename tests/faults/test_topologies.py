"""Redis Cluster and Sentinel: a consumer at work while a master dies, is moved as planned, or its slot moves."""

from __future__ import annotations

import pytest

from tests.support.producing import at_work
from tests.support.topologies import RedisCluster, SentinelGroup

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def test_the_master_of_a_cluster_dies(redis_cluster: RedisCluster, sqlite_url: str) -> None:
    """It comes back as a replica, which is nobody's master."""
    with at_work(redis_cluster, sqlite_url) as work:
        before = redis_cluster.master()
        before.kill9()
        work.wait_promoted(before)
        work.wait_for_rows()
        before.start()
        work.wait_well()


def test_a_cluster_is_changed_as_planned(redis_cluster: RedisCluster, sqlite_url: str) -> None:
    """A replica takes over from its healthy master, then the slot goes to another shard."""
    with at_work(redis_cluster, sqlite_url) as work:
        redis_cluster.fail_over()
        work.wait_for_rows()
        redis_cluster.migrate(next(node for node in redis_cluster.nodes[1:3] if node is not redis_cluster.master()))
        work.wait_for_rows()


def test_the_master_under_sentinels_dies(sentinel_group: SentinelGroup, sqlite_url: str) -> None:
    """Another is promoted, then moved as planned; the first Sentinel that is asked is dead, too."""
    sentinel_group.sentinels[0].process.kill9()
    with at_work(sentinel_group, sqlite_url) as work:
        before = sentinel_group.master()
        before.kill9()
        work.wait_promoted(before)
        work.wait_for_rows()


def test_sentinels_move_a_master_that_is_well(sentinel_group: SentinelGroup, sqlite_url: str) -> None:
    """What clients write to the old master meanwhile is lost by Redis, and by nobody else."""
    with at_work(sentinel_group, sqlite_url, all_kept=False) as work:
        sentinel_group.fail_over()
        work.wait_for_rows()
