"""Two nodes of a Galera cluster, a consumer at each: GET_LOCK is one node's, only the unique index is the cluster's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from devicevault_cli.errors import ExitCode
from tests.support import servers
from tests.support.galera import GaleraCluster, galera_provider
from tests.support.mariadb_server import mariadb_kind
from tests.support.messages import good, publish
from tests.support.oracle import TABLE, assert_everything
from tests.support.process import Dvctl, Running
from tests.support.rows import read_rows
from tests.support.server import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow]

COUNT = 3_000


@pytest.fixture(scope="module")
def galera() -> Iterator[GaleraCluster]:
    provider = galera_provider()
    if provider is None:
        servers.unavailable(servers.NO_GALERA)
    made = GaleraCluster(servers.available(mariadb_kind(), servers.NO_MARIADB, required=False), provider)
    try:
        servers.used.add("Galera")
        yield made.start()
    finally:
        made.remove()


@pytest.fixture
def urls(galera: GaleraCluster) -> list[str]:
    """The same fresh database, at each node."""
    name = galera.database()
    return [node.url_for(name) for node in galera.nodes]


def start_both(dvctl: Dvctl, urls: list[str], *words: str) -> list[Running]:
    """A consumer at each node, each of a group of its own: every message is offered to both."""
    groups = ("devicevault", "second")
    return [
        dvctl.start("consume", "--batch-size", "100", "--group", group, "--database-url", url, *words)
        for group, url in zip(groups, urls, strict=True)
    ]


def test_without_the_index_nothing_is_written_and_with_it_everything_once(
    dvctl: Dvctl, redis_url: str, urls: list[str]
) -> None:
    dvctl.on_its_own_host().use(redis_url, urls[1])
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, good(COUNT))
    refused = dvctl.run("consume", "--drain")
    assert refused.code == ExitCode.CONFIG
    assert "Galera" in refused.stderr
    assert "dvctl db index" in refused.stderr
    assert dvctl.run("replay", "--missing", "--yes").code == ExitCode.CONFIG
    found = {check["name"]: check for check in dvctl.run("doctor", "-o", "json").json()["checks"]}
    assert (found["unique-index"]["status"], found["unique-index"]["fix"]) == ("problem", "run `dvctl db index`")
    assert found["database-rights"]["status"] == "ok"
    created = dvctl.json("db", "index", "--yes", "--database-url", urls[0])
    assert (created["created"], created["undo"].split()[:2]) == (True, ["ALTER", "TABLE"])

    for consumer in start_both(dvctl, urls, "--drain"):
        consumer.wait()
    assert_everything(redis_url, urls[0], sent)
    assert len(read_rows(urls[1])) == COUNT


@pytest.mark.long
def test_a_node_alone_takes_no_writes_and_nothing_is_lost(
    dvctl: Dvctl, redis_url: str, urls: list[str], galera: GaleraCluster
) -> None:
    """The other one is killed: of two, one is no majority, and answers 1047 until it is told that it is the cluster."""
    dvctl.on_its_own_host().use(redis_url, urls[0])
    dvctl.ok("db", "index", "--yes")
    with redis.Redis.from_url(redis_url) as client:
        sent = publish(client, good(COUNT))
        both = start_both(dvctl, urls, "--rate", "500")
        wait_until(lambda: len(read_rows(urls[0])) > COUNT // 10, what="both to be at work")
        galera.nodes[1].kill9()
        for consumer in both:
            consumer.wait_for("next try in", times=2)
        galera.nodes[0].execute("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'")
        galera.nodes[1].start()
        for name in ("devicevault", "second"):
            wait_until(lambda name=name: _is_drained(client, name), what=f"{name} to be drained")  # type: ignore[misc]
        assert [consumer.sigterm().code for consumer in both] == [0, 0]
    assert "1047" in both[0].stderr
    assert_everything(redis_url, urls[0], sent)
    assert len(galera.nodes[1].execute(f"SELECT id FROM {TABLE}", database=urls[1].rpartition("/")[2])) == COUNT


def _is_drained(client: redis.Redis, name: str) -> bool:
    (group,) = [found for found in client.xinfo_groups("device:results") if found["name"] == name.encode()]
    return (group["lag"], group["pending"]) == (0, 0)
