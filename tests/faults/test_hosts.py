"""Consumers on hosts of their own, one of which is cut off; and hosts of one name."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from devicevault_cli.errors import ExitCode
from tests.support.hosts import Hosts
from tests.support.messages import Sent, good, publish
from tests.support.oracle import GROUP, STREAM, assert_everything, position
from tests.support.postgres_server import PostgresServer
from tests.support.process import END_S, Dvctl, Running
from tests.support.redis_server import RedisServer
from tests.support.server import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow]

CLAIM_IDLE_S = 3
WORKS_WITHIN_S = 6.0
"""After it is healed, a consumer that was cut off reads again: it asks Redis every 5 s at the latest."""


class Site:
    """Hosts that reach one Redis and one PostgreSQL over their network; the test itself does so over loopback."""

    def __init__(self, hosts: Hosts, redis_server: RedisServer, postgres: PostgresServer) -> None:
        self.hosts = hosts
        self.redis_url, self.database_url = redis_server.url, postgres.database()
        self.client = redis_server.client()
        self.sent: list[Sent] = []

    def use(self, dvctl: Dvctl) -> None:
        """Let dvctl on the hosts reach the servers."""
        dvctl.use(*(url.replace("127.0.0.1", self.hosts.address) for url in (self.redis_url, self.database_url)))

    def publish(self, count: int) -> None:
        self.sent += publish(self.client, good(count, start=len(self.sent)))

    def consumers(self) -> dict[str, dict[str, Any]]:
        with suppress(redis.ResponseError):
            return {found["name"].decode(): found for found in self.client.xinfo_consumers(STREAM, GROUP)}
        return {}

    def wait_drained(self) -> None:
        wait_until(lambda: position(self.client) == (0, False), timeout=END_S, what="the backlog to be worked off")

    def assert_everything(self) -> None:
        assert_everything(self.redis_url, self.database_url, self.sent)


@pytest.fixture
def site_of(
    new_redis: Callable[..., RedisServer], new_postgres: Callable[..., PostgresServer]
) -> Iterator[Callable[[int], Site]]:
    """A site with so many hosts."""
    made: list[Hosts] = []

    def build(count: int) -> Site:
        hosts = Hosts(count)
        made.append(hosts)
        postgres = new_postgres(f"listen_addresses=127.0.0.1,{hosts.address}")
        with (postgres.data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {hosts.network} trust\n")
        postgres.execute("SELECT pg_reload_conf()")
        site = Site(hosts, new_redis("--bind", "127.0.0.1", hosts.address, "--protected-mode", "no"), postgres)
        site.client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        return site

    yield build
    for hosts in made:
        hosts.remove()


def freeze_with_entries(site: Site, name: str, consumer: Running) -> None:
    """Stop a consumer while it has entries in hand."""

    def holds() -> bool:
        site.publish(200)
        consumer.freeze()
        if site.consumers()[name]["pending"]:
            return True
        consumer.thaw()
        return False

    wait_until(holds, what=f"{name} to have entries in hand")


def cut_one_off(dvctl: Dvctl, site: Site, seconds: float) -> float:
    """One consumer a host, messages all the time, the last host cut off for a while. -> seconds until it read again"""
    site.use(dvctl)
    last = site.hosts.count - 1
    words = ("consume", "--claim-idle", f"{CLAIM_IDLE_S}s", "--batch-size", "50")
    running = [site.hosts.start(dvctl, host, *words) for host in range(site.hosts.count)]
    wait_until(lambda: len(site.consumers()) == site.hosts.count, what="every consumer to be there")
    name = next(name for name in site.consumers() if f"host{last}-" in name)

    freeze_with_entries(site, name, running[last])
    site.hosts.cut(last)
    running[last].thaw()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        site.publish(20)
        time.sleep(0.2)
    assert site.consumers()[name]["idle"] > 1000 * min(seconds, 60) / 2, "it was cut off"
    site.wait_drained()  # by the others, with what the one that is cut off has in hand
    site.hosts.heal(last)
    healed = time.monotonic()
    wait_until(lambda: site.consumers().get(name, {"idle": END_S * 1000})["idle"] < 1000, timeout=END_S, what=name)
    took = time.monotonic() - healed
    site.publish(500)
    site.wait_drained()
    assert [each.sigterm().code for each in running] == [0] * len(running)
    site.assert_everything()
    return took


def test_one_of_three_is_cut_off_for_eight_seconds(dvctl: Dvctl, site_of: Callable[[int], Site]) -> None:
    cut_one_off(dvctl, site_of(3), 8.0)


@pytest.mark.long
def test_one_of_eight_is_cut_off_for_ninety_seconds(dvctl: Dvctl, site_of: Callable[[int], Site]) -> None:
    assert cut_one_off(dvctl, site_of(8), 90.0) <= WORKS_WITHIN_S


def name_of(running: Running) -> str:
    """The name under which a consumer consumes, once it does."""
    running.wait_for(" in group ")
    return str(re.findall(r"consuming \S+ as (\S+) in group", running.stderr)[-1])


def test_hosts_of_one_name_take_different_names_and_a_dead_one_leaves_its_own(
    dvctl: Dvctl, site_of: Callable[[int], Site]
) -> None:
    site = site_of(3)
    hosts = site.hosts
    site.use(dvctl)
    first = hosts.start(dvctl, 0, "consume", name="web")
    assert name_of(first) == "web-0"
    second = hosts.start(dvctl, 1, "consume", name="web")
    second.wait_for("another process consumes as web-0")
    assert name_of(second) == "web-1"
    site.publish(500)
    site.wait_drained()

    fixed = hosts.start(dvctl, 1, "consume", "--consumer", "web-0", name="web").wait()
    assert fixed.code == ExitCode.FAILED
    assert "consumer web-0 of group devicevault is alive already" in fixed.stderr

    hosts.cut(0)
    first.kill9()
    assert [row for row in site.client.client_list() if row["name"].startswith("dvctl:consume:web-0>")], "not noticed"
    restarted = hosts.start(dvctl, 2, "consume", name="web")
    assert name_of(restarted) == "web-0"
    assert "another process" not in restarted.stderr
    site.publish(500)
    site.wait_drained()
    assert [each.sigterm().code for each in (second, restarted)] == [0, 0]
    site.assert_everything()


def test_hosts_of_one_name_that_start_at_once_end_up_with_different_names(
    dvctl: Dvctl, site_of: Callable[[int], Site]
) -> None:
    site = site_of(3)
    site.use(dvctl)
    running = [site.hosts.start(dvctl, host, "consume", name="web") for host in range(3)]
    assert len({name_of(each) for each in running}) == 3
    site.publish(500)
    site.wait_drained()
    assert [each.sigterm().code for each in running] == [0, 0, 0]
    site.assert_everything()
