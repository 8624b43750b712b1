"""What dvctl says of a Redis Cluster and of Sentinels: wrong URLs, names, logins, and what it has found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from devicevault_cli.streams.topology import slot_of
from tests.cli.conftest import Cli
from tests.field.test_redis_says import said
from tests.support import servers
from tests.support.redis_server import RedisServer
from tests.support.server import wait_until
from tests.support.topologies import SERVICE, SLOTS, SentinelGroup

SECRET = "S3cr3t"
STREAM = "device:results"


@pytest.fixture
def node(new_redis: Callable[..., RedisServer]) -> Callable[..., RedisServer]:
    """Start a cluster of one node, which does not know its own address: `node(tls=..., password=...)`."""

    def start(**options: object) -> RedisServer:
        encrypted = ("--tls-cluster", "yes") if "tls" in options else ()
        server = new_redis("--cluster-enabled", "yes", *encrypted, **options)
        with server.client(unix=True, protocol=2) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
            wait_until(lambda: _state(client), what="the cluster to be well")
        return server

    return start


def _state(client: object) -> bool:
    answer = client.execute_command("CLUSTER", "INFO")  # type: ignore[attr-defined]
    return "'cluster_state': 'ok'" in str(answer) or "cluster_state:ok" in str(answer)


@pytest.fixture
def watched() -> Iterator[Callable[..., SentinelGroup]]:
    """Start a master without replicas under one Sentinel."""
    made: list[SentinelGroup] = []

    def start(**options: object) -> SentinelGroup:
        made.append(SentinelGroup(servers.redis_to_break(None, tls=False), 0, sentinels=1, **options))
        return made[-1].start()

    yield start
    for group in made:
        group.remove()


def cluster_url(server: RedisServer) -> str:
    return server.url.replace("://", "+cluster://")


def test_a_cluster_with_tls_and_a_password(
    cli: Cli, node: Callable[..., RedisServer], sqlite_url: str, certificates: Path
) -> None:
    """Its node tells no host of its own: it is the one that was asked."""
    url = cluster_url(node(tls=certificates, password=SECRET))
    at = cli.at(url, sqlite_url)
    assert at("publish", "--count", "2").code == 0
    assert at("consume", "--drain", "-o", "json").json["persisted"] == 2
    for wrong in (url.replace(SECRET, "wrong"), url.replace(f":{SECRET}@", "")):
        said(cli.at(wrong, sqlite_url)("status"), 77, "refuses the login")


def test_what_the_url_of_a_cluster_means(cli: Cli, node: Callable[..., RedisServer], sqlite_url: str) -> None:
    server = node()
    at = cli.at(cluster_url(server), sqlite_url)
    assert f"Redis Cluster that serves the stream; asked: 127.0.0.1:{server.port}" in " ".join(at("config").out.split())
    assert at("publish").code == 0
    checks = {check["name"]: check for check in at("doctor", "-o", "json").json["checks"]}
    assert f"127.0.0.1:{server.port} (Redis Cluster), 0 replicas" in checks["redis-server"]["detail"]
    assert checks["redis-server"]["status"] == "warning"


def test_no_cluster_and_no_slot(cli: Cli, node: Callable[..., RedisServer], redis_server: RedisServer) -> None:
    for words in (["status"], ["consume"]):
        said(cli.at(cluster_url(redis_server), "sqlite:////x")(*words), 78, "not a Redis Cluster node", "redis://")
    server = node()
    with server.client() as client:
        client.execute_command("CLUSTER", "DELSLOTS", slot_of(STREAM))
    said(cli.at(cluster_url(server))("status"), 69, "serves slot")
    server.kill9()
    said(cli.at(cluster_url(server))("status"), 69, "nodes of a Redis Cluster", "cannot be reached")


@pytest.mark.parametrize("name", ["a}b", "{}x", "a{}{b}"])
def test_names_whose_keys_would_leave_the_slot(cli: Cli, name: str, redis_url: str) -> None:
    said(cli.at("redis+cluster://127.0.0.1:1")("status", "--stream", name), 78, "another hash slot", "braces")
    assert cli.at(redis_url)("status", "--stream", name).code == 0, "on a single Redis it may be"


def test_names_that_stay_in_one_slot(cli: Cli, node: Callable[..., RedisServer], sqlite_url: str) -> None:
    at = cli.at(cluster_url(node()), sqlite_url)
    for name in ("device:results", "{a}b", "a{b}c", "a{b"):
        assert at("publish", "--device", "999999", "--stream", name).code == 0
        assert at("consume", "--drain", "--stream", name, "-o", "json").json["dead_lettered"] == 1


def test_a_user_with_the_documented_rights(cli: Cli, node: Callable[..., RedisServer], sqlite_url: str) -> None:
    """Those of a consumer, and one more on a cluster."""
    server = node()
    assert cli.at(cluster_url(server), sqlite_url)("publish").code == 0
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    rights = re.search(r"ACL SETUSER dvctl-consumer on >PASSWORD (.*?)```", page, re.DOTALL)
    assert rights
    words = re.findall(r"\([^)]*\)|\S+", rights[1])
    at = cli.at(cluster_url(server).replace("://", f"://dvctl-consumer:{SECRET}@"), sqlite_url)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "dvctl-consumer", "on", f">{SECRET}", *words)
        said(at("consume", "--drain"), 77, "+cluster|slots")
        client.execute_command("ACL", "SETUSER", "dvctl-consumer", "+cluster|slots")
    assert at("consume", "--drain", "-o", "json").json["persisted"] == 1


def test_sentinels_with_logins(cli: Cli, watched: Callable[..., SentinelGroup], sqlite_url: str) -> None:
    group = watched(password=SECRET, sentinel_password=f"{SECRET}2")
    at = cli.at(group.url, sqlite_url)
    assert at("publish").code == 0
    assert at("consume", "--drain", "-o", "json").json["persisted"] == 1
    shown = at("config")
    assert SECRET not in shown.out
    assert "the master main that the Sentinels name" in " ".join(shown.out.split())
    checks = {check["name"]: check for check in at("doctor", "-o", "json").json["checks"]}
    assert f"127.0.0.1:{group.nodes[0].port} (master main)" in checks["redis-server"]["detail"]
    for wrong in (group.url.replace(f"{SECRET}2", "wrong"), group.url.partition("?")[0]):
        said(cli.at(wrong, sqlite_url)("status", "-v"), 77, "Sentinel", "sentinel_password")
    said(cli.at(group.url.replace(f":{SECRET}@", ":wrong@"), sqlite_url)("status"), 77, "refuses the login")


def test_what_is_no_sentinel_or_knows_no_such_master(
    cli: Cli, watched: Callable[..., SentinelGroup], redis_server: RedisServer, sqlite_url: str
) -> None:
    group = watched()
    at = cli.at(group.url_of(*group.sentinels, service="other"), sqlite_url)
    for words in (["status"], ["consume"]):
        said(at(*words), 78, "knows no master other", "SENTINEL MASTERS")
    said(cli.at(f"redis+sentinel://127.0.0.1:{redis_server.port}/{SERVICE}")("status"), 78, "not a Sentinel")
    said(cli.at(f"redis+cluster://127.0.0.1:{group.sentinels[0].port}")("status"), 78, "not a Redis Cluster node")
    group.nodes[0].kill9()
    wait_until(
        lambda: "names no master" in cli.at(group.url, sqlite_url)("status").err, what="the Sentinel to notice it"
    )
    group.sentinels[0].process.kill9()
    said(cli.at(group.url, sqlite_url)("status"), 69, "Sentinels of main", "cannot be reached")


def test_the_database_number_behind_sentinels(cli: Cli, watched: Callable[..., SentinelGroup], sqlite_url: str) -> None:
    group = watched()
    assert cli.at(group.url_of(*group.sentinels, db=3), sqlite_url)("publish").code == 0
    with redis.Redis.from_url(group.nodes[0].url_for(db=3)) as client:
        assert client.xlen(STREAM) == 1
