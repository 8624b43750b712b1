"""Sixteen streams on the shards of a Redis Cluster: processes that die, a slot that moves, a master that is killed."""

from __future__ import annotations

import threading
import time
from typing import Any
from zlib import crc32

import pytest
import redis

from tests.support.process import Dvctl
from tests.support.rows import select
from tests.support.server import wait_until
from tests.support.topologies import LONG_S, RedisCluster

pytestmark = [pytest.mark.faults, pytest.mark.slow]

RANGE = "device:results:{0..15}"
NAMES = [f"device:results:{{{number}}}" for number in range(16)]
GROUP = "devicevault"


class Producer:
    """Publishes until the block ends, each message again until Redis has confirmed it."""

    def __init__(self, cluster: RedisCluster, start: int = 0) -> None:
        self.sent: set[str] = set()
        self._start = start
        self._ports = [node.port for node in cluster.nodes]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer")

    def __enter__(self) -> Producer:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        nodes = [redis.cluster.ClusterNode("127.0.0.1", port) for port in self._ports]
        number, client = self._start, None
        while not self._ended.wait(0.005):
            try:
                client = client or redis.RedisCluster(startup_nodes=nodes, socket_timeout=2, socket_connect_timeout=2)
                self._publish(client, number)
                number += 1
            except (redis.RedisError, OSError):
                client = None
                time.sleep(0.1)

    def publish_more(self, count: int, url: str) -> None:
        """Wait for so many messages more, and for their rows."""
        wanted = len(self.sent) + count
        wait_until(lambda: len(self.sent) >= wanted, timeout=LONG_S, what="messages")
        present = set(self.sent)
        wait_until(lambda: set(identities(url)) >= present, timeout=LONG_S, what="rows")

    def _publish(self, client: Any, number: int) -> None:
        device = str(number % 50 + 1)
        fields = {"device_id": device, "status": "success", "log": "[]", "task_identifier": f"job-{number}"}
        client.xadd(NAMES[crc32(device.encode()) % len(NAMES)], fields)
        self.sent.add(f"job-{number}")


def identities(url: str) -> list[str]:
    return [name for (name,) in select(url, "SELECT task_identifier FROM devices_devicebackupresult")]


def test_everything_once(redis_cluster: RedisCluster, dvctl: Dvctl, postgres_url: str) -> None:
    many = dvctl.use(redis_cluster.url, postgres_url, DEVICEVAULT_RESULTS_STREAM=RANGE).on_its_own_host()
    processes = [many.start("consume", "--claim-idle", "2s") for _ in range(4)]
    for running in processes:
        running.wait_for("consuming 16 streams")

    with Producer(redis_cluster) as first:
        first.publish_more(100, postgres_url)
        processes[0].kill9()
        first.publish_more(100, postgres_url)
        redis_cluster.key = NAMES[7]
        before = redis_cluster.master()
        redis_cluster.migrate(next(node for node in redis_cluster.nodes[:3] if node is not before))
        first.publish_more(100, postgres_url)
    wait_until(lambda: set(identities(postgres_url)) >= first.sent, timeout=LONG_S, what="a row for each message")
    wait_until(redis_cluster.well, timeout=LONG_S, what="the replicas to be in step")
    master = redis_cluster.master()
    master.kill9()  # while nobody publishes: what Redis confirms and has not replicated yet is lost
    wait_until(lambda: redis_cluster.promoted(master), timeout=LONG_S, what="the replica to take over")
    with Producer(redis_cluster, start=100_000) as second:
        second.publish_more(100, postgres_url)
    wanted = first.sent | second.sent
    wait_until(lambda: set(identities(postgres_url)) >= wanted, timeout=LONG_S, what="a row for each message")
    rows = identities(postgres_url)
    assert len(rows) == len(set(rows))
    wait_until(lambda: many.json("pending")["total"] == 0, timeout=LONG_S, what="every acknowledgement")
    document = many.json("verify")
    assert (document["ok"], len(document["streams"])) == (True, 16)
    for running in processes[1:]:
        assert running.sigterm(60).code == 0, running.stderr[-3000:]
