"""Figures that are true: what is undelivered is what exists, who is alive is who waits, and a position is a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from tests.field.waiting import quiet_consumer, wait_quiet, waiting
from tests.support import servers
from tests.support.messages import good, publish
from tests.support.oracle import GROUP, STREAM
from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer
from tests.support.server import wait_until

DRAIN = ("consume", "--drain", "--max-wait", "20s", "-o", "json")


@pytest.fixture
def client(each_redis_server: RedisServer) -> Iterator[Any]:
    with each_redis_server.client() as client:
        yield client


def last_id(client: Any) -> bytes:
    key: bytes = client.xrevrange(STREAM, count=1)[0][0]
    return key


def ahead(client: Any) -> None:
    """XSETID: the last id that Redis gave out is no entry's."""
    client.execute_command("XSETID", STREAM, f"{int(last_id(client).split(b'-')[0]) + 60_000}-0")


def delete_all_undelivered(client: Any) -> None:
    client.xreadgroup(GROUP, "other", {STREAM: ">"}, count=1)
    client.xack(STREAM, GROUP, client.xrange(STREAM)[0][0])
    client.xdel(STREAM, *(key for key, _ in client.xrange(STREAM)[1:]))


def delete_newest_and_set_ahead(client: Any) -> None:
    ahead(client)
    client.xdel(STREAM, last_id(client))


LEFT_AT_THE_END: dict[str, Callable[[Any], object]] = {
    "the newest is deleted": lambda client: client.xdel(STREAM, last_id(client)),
    "the last id is set ahead": ahead,
    "all that is undelivered is deleted": delete_all_undelivered,
    "trimmed to nothing": lambda client: client.xtrim(STREAM, maxlen=0, approximate=False),
    "deleted, and the last id set ahead": delete_newest_and_set_ahead,
}


@pytest.mark.parametrize("way", LEFT_AT_THE_END)
def test_a_drain_ends_at_the_last_entry_that_exists(
    dvctl: Dvctl, each_redis_server: RedisServer, client: Any, sqlite_url: str, way: str
) -> None:
    publish(client, good(3))
    client.xgroup_create(STREAM, GROUP, "0")
    LEFT_AT_THE_END[way](client)
    dvctl.use(each_redis_server.url, sqlite_url)
    told = dvctl.ok(*DRAIN).json()
    assert told["stopped_by"] == "drained"
    answer = dvctl.json("status")
    assert (answer["groups"][0]["lag"], answer["groups"][0]["lag_s"]) == (0, 0)
    entries = client.xrange(STREAM)
    assert answer["stream"]["last_id"] == (entries[-1][0].decode() if entries else None)


def test_a_deletion_ends_a_drain_that_waits(
    dvctl: Dvctl, each_redis_server: RedisServer, client: Any, sqlite_url: str
) -> None:
    """It waits for what another consumer holds; what comes meanwhile is deleted in the moment in which it comes."""
    publish(client, good(3))
    client.xgroup_create(STREAM, GROUP, "0")
    ((_, ((held, _),)),) = client.xreadgroup(GROUP, "other", {STREAM: ">"}, count=1)
    drain = dvctl.use(each_redis_server.url, sqlite_url).start(*DRAIN)
    wait_until(lambda: client.xpending(STREAM, GROUP)["pending"] == 1 and delivered_all(client), what="the rest")
    client.eval("redis.call('XDEL', KEYS[1], redis.call('XADD', KEYS[1], '*', 'device_id', '1'))", 1, STREAM)
    client.xack(STREAM, GROUP, held)
    assert drain.wait().code == 0


def delivered_all(client: Any) -> bool:
    return bool(client.xinfo_groups(STREAM)[0]["last-delivered-id"] == last_id(client))


def test_the_end_of_a_reset_is_the_last_entry(
    dvctl: Dvctl, each_redis_server: RedisServer, client: Any, sqlite_url: str
) -> None:
    publish(client, good(3))
    client.xgroup_create(STREAM, GROUP, "0")
    ahead(client)
    dvctl.use(each_redis_server.url, sqlite_url)
    answer = dvctl.json("reset-group", "--to", "end", "--yes")
    # Beyond the last entry something may still arrive, once the last id is set back.
    assert answer["to"] == last_id(client).decode()
    client.execute_command("XSETID", STREAM, last_id(client))
    publish(client, good(1, seed=2))
    assert dvctl.json("status")["groups"][0]["lag"] == 1
    assert dvctl.ok(*DRAIN).json()["persisted"] == 1


# --- Redis's own lag


def lag(dvctl: Dvctl) -> tuple[int, str]:
    """The lag of `status`, which `check` has to tell as well."""
    (group,) = dvctl.json("status")["groups"]
    told = dvctl.run("check", "--format", "prometheus").stdout
    assert f'dvctl_check_lag{{stream="{STREAM}",group="{GROUP}"}} {group["lag"]}\n' in told, told
    return group["lag"], group["lag_source"]


@servers.two_redis(1)
def test_no_entries_read_makes_the_lag_wrong(dvctl: Dvctl, each_redis_server: RedisServer, client: Any) -> None:
    """ENTRIESREAD is whatever somebody says; Redis takes it at its word."""
    publish(client, good(10))
    keys = [key for key, _ in client.xrange(STREAM)]
    dvctl.use(each_redis_server.url)
    for said in (100, 1, 4, 5, 7, 9, 10, 0) if client.info()["redis_version"] >= "7" else (None,):
        how = () if said is None else ("ENTRIESREAD", said)
        client.xgroup_destroy(STREAM, GROUP)
        client.execute_command("XGROUP", "CREATE", STREAM, GROUP, keys[4], *how)
        assert lag(dvctl)[0] == 5, f"created with {said}"
        client.execute_command("XGROUP", "SETID", STREAM, GROUP, keys[6], *how)
        assert lag(dvctl)[0] == 3, f"set with {said}"
        client.execute_command("XGROUP", "SETID", STREAM, GROUP, keys[9], *how)
        assert lag(dvctl)[0] == 0, f"at the end with {said}"
    (group,) = dvctl.json("status")["groups"]
    assert group["trimmed_unread"] in (0, None), "nothing ever left the stream"


def test_a_long_backlog_is_told_right_too(dvctl: Dvctl, each_redis_server: RedisServer, client: Any) -> None:
    publish(client, good(3000, size=10))
    keys = [key for key, _ in client.xrange(STREAM)]
    dvctl.use(each_redis_server.url)
    seven = client.info()["redis_version"] >= "7"
    client.execute_command("XGROUP", "CREATE", STREAM, GROUP, keys[999], *(("ENTRIESREAD", 2000) if seven else ()))
    assert lag(dvctl) == (2000, "counted")
    if seven:
        client.execute_command("XGROUP", "SETID", STREAM, GROUP, keys[999], "ENTRIESREAD", 1000)
        assert lag(dvctl) == (2000, "redis")


# --- consumers that wait


def check_of(dvctl: Dvctl, name: str) -> dict[str, Any]:
    checks = dvctl.run("doctor", "-o", "json").json()["checks"]
    return next(check for check in checks if check["name"] == name)


@servers.two_redis(1)
def test_devicevaults_waiting_consumer_is_alive(
    dvctl: Dvctl, each_redis_server: RedisServer, client: Any, sqlite_url: str
) -> None:
    server, name = each_redis_server, "consumer-4711"
    dvctl.use(server.url, sqlite_url)
    quiet_consumer(server, name)
    snapshot = dvctl.json("reset-group", "--to", "start", "--force", "--yes")["snapshot"]
    client.xgroup_setid(STREAM, GROUP, "$")
    with waiting(server, name):
        wait_quiet(server, name)
        found = check_of(dvctl, "devicevault-consumer")
        assert found["status"] == "problem", found
        assert name in found["detail"]
        (consumer,) = dvctl.json("status")["consumers"]
        assert (consumer["name"], consumer["alive"]) == (name, True)
        assert dvctl.json("consumers", "list")["consumers"][0]["alive"] is True
        for line in (
            ("reset-group", "--to", "start", "--yes"),
            ("destroy-group", "--confirm", GROUP),
            ("restore-group", snapshot, "--yes"),
            ("consumers", "retire", name, "--yes"),
        ):
            refused = dvctl.run(*line)
            assert refused.code == 1, (line, refused)
            assert name in refused.stderr
            assert "--force" in refused.stderr
            assert dvctl.run(*line, "--dry-run").code == 0
        assert name in dvctl.ok("consume", "--drain").stderr
        not_permitted_to_look(dvctl, server, client)
        assert dvctl.ok("restore-group", snapshot, "--yes", "--force")
        assert dvctl.json("consumers", "retire", name, "--yes", "--force")["retired"] == [name]


def not_permitted_to_look(dvctl: Dvctl, server: RedisServer, client: Any) -> None:
    """Without CLIENT LIST nobody says "not running"."""
    client.execute_command("ACL", "SETUSER", "blind", "on", ">blind", "~*", "+@all", "-client")
    try:
        url = server.url_for("blind", "blind")
        answer = dvctl.run("doctor", "-o", "json", env={"DEVICEVAULT_REDIS_URL": url})
        found = {check["name"]: check for check in answer.json()["checks"]}
        assert found["devicevault-consumer"]["status"] == "unknown"
        assert "CLIENT LIST is not permitted" in found["devicevault-consumer"]["detail"]
        assert "+client|list" in found["redis-clients"]["fix"]
        (consumer,) = dvctl.json("status", env={"DEVICEVAULT_REDIS_URL": url})["consumers"]
        assert consumer["alive"] is None
    finally:
        client.execute_command("ACL", "DELUSER", "blind")


@servers.two_redis(2)
def test_one_client_that_waits_may_be_one_of_several(
    dvctl: Dvctl, each_redis_server: RedisServer, sqlite_url: str
) -> None:
    """Redis does not tell which consumer a client is, so all that it may be are named, and none is called dead."""
    server = each_redis_server
    dvctl.use(server.url, sqlite_url)
    for name in ("other-app", "consumer-1"):
        quiet_consumer(server, name)
    with waiting(server, "consumer-1"):
        wait_quiet(server, "other-app")
        wait_quiet(server, "consumer-1")
        with server.client() as client:
            tells = any("inactive" in one for one in client.xinfo_consumers(STREAM, GROUP))
        refused = dvctl.run("reset-group", "--to", "start", "--yes")
        assert (refused.code, "consumer-1" in refused.stderr) == (1, True), refused
        alive = {one["name"]: one["alive"] for one in dvctl.json("status")["consumers"]}
        found = check_of(dvctl, "devicevault-consumer")
        if tells:
            assert alive["consumer-1"] in (True, None), "from 7.2 on waiting refreshes the idle time as it begins"
            assert found["status"] in ("problem", "unknown")
        else:
            assert alive == {"other-app": None, "consumer-1": None}
            assert "other-app" in refused.stderr
            assert found["status"] == "unknown"
            assert "other-app" in found["detail"]


@servers.two_redis(0)
def test_who_waits_elsewhere_is_not_counted(
    dvctl: Dvctl, each_redis_server: RedisServer, client: Any, sqlite_url: str
) -> None:
    """In another database of the same Redis, and as `dvctl consume`."""
    dvctl.use(each_redis_server.url, sqlite_url)
    publish(client, good(1))
    with redis.Redis.from_url(each_redis_server.url_for(db=3)) as other:
        other.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    with waiting(each_redis_server, "consumer-7", db=3):
        consuming = dvctl.start("consume")
        consuming.wait_for("consuming")
        wait_until(lambda: client.xinfo_groups(STREAM)[0]["pending"] == 0, what="it to read")
        wait_until(lambda: named_clients(client), what="its connection to have a name")
        assert check_of(dvctl, "devicevault-consumer")["status"] == "ok"
        assert check_of(dvctl, "devicevault-consumer")["detail"] == "not running"
        assert consuming.sigterm().code == 0
        assert dvctl.ok("reset-group", "--to", "start", "--yes")


def named_clients(client: Any) -> list[str]:
    return [row["name"] for row in client.client_list() if row["name"].startswith("dvctl:consume:")]


def test_dvctl_works_where_client_is_not_permitted(
    dvctl: Dvctl, each_redis_server: RedisServer, client: Any, sqlite_url: str
) -> None:
    publish(client, good(2))
    client.execute_command("ACL", "SETUSER", "blind", "on", ">blind", "~*", "+@all", "-client")
    try:
        dvctl.use(each_redis_server.url_for("blind", "blind"), sqlite_url)
        assert dvctl.ok(*DRAIN).json()["persisted"] == 2
        client.xreadgroup(GROUP, "old", {STREAM: ">"})
        assert dvctl.ok("destroy-group", "--force", "--confirm", GROUP)
    finally:
        client.execute_command("ACL", "DELUSER", "blind")


@pytest.mark.parametrize(
    ("rights", "status", "says"),
    [
        (["+client|setname", "+client|list"], "ok", "are permitted"),
        (["+client|list"], "warning", "CLIENT SETNAME is not permitted"),
        (["+client|setname"], "warning", "CLIENT LIST is not permitted"),
    ],
)
def test_doctor_says_what_a_missing_right_on_clients_costs(
    dvctl: Dvctl, each_redis_server: RedisServer, client: Any, rights: list[str], status: str, says: str
) -> None:
    client.execute_command("ACL", "SETUSER", "partly", "on", ">partly", "~*", "+@all", "-client", *rights)
    try:
        dvctl.use(each_redis_server.url_for("partly", "partly"))
        found = check_of(dvctl, "redis-clients")
        assert (found["status"], says in found["detail"]) == (status, True), found
        assert ("ACL SETUSER partly" in found["fix"]) == (status != "ok")
    finally:
        client.execute_command("ACL", "DELUSER", "partly")


# --- names


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("consumer", "dvctl-consumer-0"),
        ("storage-consumer", "dvctl-storage-consumer-0"),
        ("vm", "vm-0"),
        ("b\u00fcro 7\n", "b%C3%BCro%207%0A-0"),
        ("", "localhost-0"),
    ],
)
def test_a_host_of_any_name_is_not_taken_for_devicevault(
    dvctl: Dvctl, redis_url: str, sqlite_url: str, tmp_path: Path, host: str, name: str
) -> None:
    patched = tmp_path / "patched"
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(f"import socket\nsocket.gethostname = lambda: {host!r}\n")
    path = os.pathsep.join(filter(None, [str(patched), os.environ.get("PYTHONPATH")]))
    group = f"group-{uuid4()}"  # another test process may hold the name in the usual one
    dvctl.use(redis_url, sqlite_url, PYTHONPATH=path, DEVICEVAULT_RESULTS_GROUP=group)
    with redis.Redis.from_url(redis_url) as client:
        publish(client, good(2))
        consuming = dvctl.start("consume")
        consuming.wait_for(f" as {name} in group")
        wait_until(lambda: client.xinfo_groups(STREAM) and client.xinfo_consumers(STREAM, group), what="it to read")
        assert check_of(dvctl, "devicevault-consumer")["status"] == "ok"
        again = dvctl.start("consume")
        again.wait_for(" in group")
        assert [one.sigterm().code for one in (consuming, again)] == [0, 0]
    assert "DeviceVault's own" not in consuming.stderr + again.stderr


def test_a_name_that_looks_like_devicevaults_is_ones_own(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    """DEVICEVAULT_RESULTS_CONSUMER may say so."""
    dvctl.use(redis_url, sqlite_url, DEVICEVAULT_RESULTS_CONSUMER="consumer-5")
    with redis.Redis.from_url(redis_url) as client:
        publish(client, good(2))
        consuming = dvctl.start("consume")
        wait_until(lambda: client.exists(STREAM) and client.xinfo_groups(STREAM), what="the group")
        wait_until(lambda: client.xinfo_consumers(STREAM, GROUP) and named_clients(client), what="the consumer")
        found = check_of(dvctl, "devicevault-consumer")
        assert (found["status"], found["detail"]) == ("ok", "not running")
        answer = consuming.sigterm()
    assert "DeviceVault's own" not in answer.stderr


# --- positions


def test_a_position_is_shown_to_people_as_a_time(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    dvctl.use(redis_url, sqlite_url)
    with redis.Redis.from_url(redis_url) as client:
        publish(client, good(3))
        client.xgroup_create(STREAM, GROUP, "0")
        to = ("reset-group", "--to", "2026-01-12T04:47:00.442Z", "--yes")
        shown = "2026-01-12T04:47:00.441Z, end of that millisecond"
        people = dvctl.ok(*to)
        snapshot = dvctl.json(*to[:2], "start", "--yes")["snapshot"]
        told = [" ".join(people.stdout.split()), people.stderr, dvctl.run("restore-group", snapshot, "--yes").stderr]
        told.append(dvctl.run("destroy-group", "--dry-run").stderr)
        told.append(" ".join(dvctl.run("doctor").stdout.split()))
        for text in told:
            assert shown in text, text
        assert not [text for text in told if "18446744073709551615" in text]
        position = client.xinfo_groups(STREAM)[0]["last-delivered-id"].decode()
        assert position == "1768193220441-18446744073709551615"
        assert dvctl.json("status")["groups"][0]["last_delivered_id"] == position
        assert json.loads(dvctl.run(*to, "-o", "json").stdout)["to"] == position
