"""A consumer that is not dvctl, whatever its name: DEVICEVAULT_RESULTS_CONSUMER names DeviceVault's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from devicevault_cli.times import iso
from tests.field.test_true_figures import check_of
from tests.field.waiting import looping, quiet_consumer, wait_quiet, waiting
from tests.support import servers
from tests.support.messages import good, publish, storage
from tests.support.oracle import GROUP, STREAM
from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer
from tests.support.server import wait_until

ADVICE = "stop it, or run `dvctl db index`"
DRAIN = ("consume", "--drain", "--max-wait", "20s")


@pytest.fixture
def client(each_redis_server: RedisServer) -> Iterator[Any]:
    with each_redis_server.client() as client:
        publish(client, good(2))
        client.xgroup_create(STREAM, GROUP, "0")
        yield client


@pytest.fixture
def ready(dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str) -> Dvctl:
    return dvctl.use(each_redis_server.url, sqlite_url)


def test_one_that_works_is_named_by_all(ready: Dvctl, each_redis_server: RedisServer, client: Any) -> None:
    client.xgroup_setid(STREAM, GROUP, "0")
    with looping(each_redis_server, "results-reader"):
        publish(client, good(1, seed=2))  # before 7.2 only a message makes it active
        found = check_of(ready, "devicevault-consumer")
        assert found["status"] == "problem", found
        assert "consumer results-reader is alive in this group and is not `dvctl consume`" in found["detail"]
        for line in (("reset-group", "--to", "start", "--yes"), ("destroy-group", "--confirm", GROUP)):
            refused = ready.run(*line)
            assert (refused.code, "results-reader" in refused.stderr) == (1, True), refused
        told = ready.ok(*DRAIN).stderr
        assert "warning consumer results-reader is alive in this group" in told
        assert ADVICE in told


@servers.two_redis(0)
def test_one_that_waits_is_named_by_all(ready: Dvctl, each_redis_server: RedisServer, client: Any) -> None:
    quiet_consumer(each_redis_server, "results-reader")
    client.xgroup_setid(STREAM, GROUP, "$")
    with waiting(each_redis_server, "results-reader"):
        wait_quiet(each_redis_server, "results-reader")
        found = check_of(ready, "devicevault-consumer")
        assert (found["status"], "results-reader" in found["detail"]) == ("problem", True), found
        for line in (("reset-group", "--to", "start", "--yes"), ("destroy-group", "--confirm", GROUP)):
            refused = ready.run(*line)
            assert (refused.code, "results-reader" in refused.stderr) == (1, True), refused
        running = ready.start("consume")
        running.wait_for(f"consumer results-reader is alive in this group and is not `dvctl consume`; {ADVICE}")
        assert running.sigterm().code == 0


def settled(client: Any) -> bool:
    """Whether the group has read everything and nothing is pending."""
    [group] = client.xinfo_groups(STREAM)
    stream = client.xinfo_stream(STREAM)
    return not group["pending"] and bool(group["last-delivered-id"] == stream["last-generated-id"])


def test_dvctls_own_are_none_of_them(ready: Dvctl, each_redis_server: RedisServer, client: Any) -> None:
    """One of another host, one that was killed a moment ago, and DeviceVault's consumer of the other stream."""
    client.xgroup_create("storage:results", "devicevault-storage", "0", mkstream=True)
    host, killed = ready.start("consume", "--consumer", "far-away"), ready.start("consume", "--consumer", "killed")
    for running in (host, killed):
        running.wait_for("consuming")
    wait_until(lambda: len(client.xinfo_consumers(STREAM, GROUP)) == 2, what="both to read")
    wait_until(lambda: settled(client), what="neither to hold an entry")
    with looping(each_redis_server, "storage-reader", stream="storage:results", group="devicevault-storage"):
        publish(client, storage(1), stream="storage:results")
        killed.kill9()
        found = check_of(ready, "devicevault-consumer")
        assert (found["status"], found["detail"]) == ("ok", "not running"), found
        assert "alive in this group" not in ready.ok(*DRAIN).stderr
    assert host.sigterm().code == 0


def test_one_that_may_be_an_older_dvctl_is_no_alarm(ready: Dvctl, each_redis_server: RedisServer, client: Any) -> None:
    """Before 1.0 dvctl did not name its connections; its consumers are called HOST-N."""
    with looping(each_redis_server, "vm7-0"):
        publish(client, good(1, seed=2))
        found = check_of(ready, "devicevault-consumer")
        assert (found["status"], "vm7-0" in found["detail"]) == ("unknown", True), found
        told = ready.ok(*DRAIN).stderr
        assert ADVICE not in told
        assert "info    consumer vm7-0 is alive in this group" in told


def test_without_client_list_it_is_unknown(ready: Dvctl, each_redis_server: RedisServer, client: Any) -> None:
    client.execute_command("ACL", "SETUSER", "blind", "on", ">blind", "~*", "+@all", "-client")
    try:
        with looping(each_redis_server, "results-reader"):
            ready.use(each_redis_server.url_for("blind", "blind"))
            assert check_of(ready, "devicevault-consumer")["status"] == "unknown"
            assert ADVICE not in ready.ok(*DRAIN).stderr
    finally:
        client.execute_command("ACL", "DELUSER", "blind")


def test_a_unique_index_makes_it_harmless(ready: Dvctl, each_redis_server: RedisServer, client: Any) -> None:
    ready.ok("db", "index", "--yes")
    with looping(each_redis_server, "results-reader"):
        publish(client, good(1, seed=2))
        assert "alive in this group" not in ready.ok(*DRAIN).stderr


def test_doctor_says_what_devicevault_left_behind(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    """It reads only new messages: what one process held stays with its name, while the next one runs."""
    dvctl.use(redis_url, sqlite_url)
    with redis.Redis.from_url(redis_url) as client:
        publish(client, good(6))
        client.xgroup_create(STREAM, GROUP, "0")
        (oldest, _), *_ = client.xrange(STREAM)
        assert check_of(dvctl, "devicevault-pending")["status"] == "ok"
        for name, count in (("consumer-12", 3), ("consumer-34", 1), ("results-reader", 1)):
            client.xreadgroup(GROUP, name, {STREAM: ">"}, count=count)
        assert check_of(dvctl, "devicevault-pending")["status"] == "ok", "active within ten seconds"
        dvctl.ok("claim", "--release", "--idle", "0", "--yes")
        wait_until(lambda: all(one["idle"] > 10_500 for one in client.xinfo_consumers(STREAM, GROUP)), timeout=60)
        found = check_of(dvctl, "devicevault-pending")
        assert found["status"] == "problem", found
        assert f"consumer-12 holds 3 entries, the oldest from {iso(int(oldest.split(b'-')[0]))}" in found["detail"]
        assert "consumer-34 holds 1 entry" in found["detail"]
        assert "results-reader" not in found["detail"]
        assert "dvctl consumers retire consumer-12 consumer-34" in found["fix"]
        retire = found["fix"].partition("`dvctl consumers ")[2].partition("`")[0].split()
        assert dvctl.json("consumers", *retire, "--yes")["moved"] == 4
        assert check_of(dvctl, "devicevault-pending")["status"] == "ok"
        assert dvctl.json("consume", "--drain", "--claim-idle", "100ms")["persisted"] == 6
