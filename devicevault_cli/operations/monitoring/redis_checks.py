"""Checks of `dvctl doctor` on Redis: version, persistence, eviction, rights, and the keys beside the stream."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from devicevault_cli.errors import Refused, UnknownCommand
from devicevault_cli.operations.monitoring.checks import Check, Finding, problem
from devicevault_cli.plural import number
from devicevault_cli.streams import keys
from devicevault_cli.streams.clients import clients_of, is_unnamed, user_of
from devicevault_cli.streams.connect import place, topology_of
from devicevault_cli.streams.stream import Stream


def redis_checks(stream: Stream) -> Iterator[tuple[str, Check]]:
    if topology_of(stream.client) is not None:
        yield "redis-server", lambda: _server(stream)
    yield "redis-version", lambda: _version(stream)
    yield "redis-persistence", lambda: _persistence(stream)
    yield "redis-eviction", lambda: _eviction(stream)
    yield "redis-clients", lambda: _clients(stream)
    yield "redis-scripts", lambda: _scripts(stream)


def _server(stream: Stream) -> Finding:
    """On a cluster or behind Sentinels: which server was found, and whether another could take over from it."""
    about = stream.server_info("replication")
    replicas = int(about.get("connected_slaves", "0"))
    found = f"{place(stream.client)}, {number(replicas, 'replica')}"
    if not replicas:
        return Finding("warning", f"{found}: nothing can take over from it", "add a replica, or wait until it is back")
    if "min_slaves_good_slaves" not in about:
        detail = f"{found}; a fail-over can lose entries that Redis has confirmed (min-replicas-to-write is 0)"
        return Finding("warning", detail, "set min-replicas-to-write 1 and min-replicas-max-lag 10, on replicas too")
    return Finding("ok", f"{found}; min-replicas-to-write is set")


def _version(stream: Stream) -> Finding:
    about = stream.server_info("server")
    if "valkey_version" in about:
        # Every Valkey has the commands of Redis 7.2, which it reports as its redis_version.
        return Finding("ok", f"Valkey {about['valkey_version']}")
    version = about.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < (6, 2):
        return Finding("problem", f"Redis {version} lacks commands that dvctl needs", "upgrade to Redis 6.2 or newer")
    return Finding("ok", f"Redis {version}")


def _persistence(stream: Stream) -> Finding:
    about = stream.server_info("persistence")
    if about.get("aof_enabled") == "1":
        return Finding("ok", "the append-only file is on")
    fix = "set appendonly yes"
    if about.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding("problem", "the last snapshot failed, and there is no append-only file", fix)
    return Finding("warning", "no append-only file: a crash of Redis loses everything since its last snapshot", fix)


def _eviction(stream: Stream) -> Finding:
    policy = stream.eviction_policy()
    if not policy:
        return Finding("unknown", "Redis does not tell its eviction policy")
    if policy.startswith("allkeys"):
        return Finding("problem", f"maxmemory-policy {policy} may evict the stream", "set maxmemory-policy noeviction")
    return Finding("ok", f"maxmemory-policy {policy}")


def _clients(stream: Stream) -> Finding:
    fix = f"as an administrator: ACL SETUSER {user_of(stream.client)} +client|setname +client|list"
    if clients_of(stream) is None:
        return Finding("warning", "CLIENT LIST is not permitted: waiting consumers cannot be detected", fix)
    if is_unnamed(stream.client):
        detail = "CLIENT SETNAME is not permitted: dvctl's waiting consumers are taken for DeviceVault's"
        return Finding("warning", detail, fix)
    return Finding("ok", "CLIENT LIST and CLIENT SETNAME are permitted")


def _scripts(stream: Stream) -> Finding:
    try:
        stream.check_scripts()
    except UnknownCommand as error:
        return problem(error)._replace(detail=f"scripts cannot run: {error}")
    except Refused as error:  # as it should be for a read-only user, who may run doctor too
        detail = f"this user cannot consume, which needs scripts: {error}"
        return problem(error)._replace(status="warning", detail=detail)
    return Finding("ok", "scripts (EVAL) are allowed")


def side_keys(stream: Stream) -> Finding:
    """Whether the stream and the keys beside it have the right types and never expire."""
    types = {
        stream.key: "stream",
        keys.dead(stream.key): "stream",
        keys.dead_ids(stream.key): "hash",
        keys.discarded(stream.key): "zset",
        keys.alone(stream.key): "hash",
        keys.seen(stream.key): "hash",
        keys.incidents(stream.key): "hash",
    }
    replies = stream.call_many(command for key in types for command in (("TYPE", key), ("PTTL", key)))
    found = list(zip(types.items(), map(_text, replies[::2]), map(int, replies[1::2]), strict=True))
    wrong = [(key, there, wanted) for (key, wanted), there, _ in found if there not in ("none", wanted)]
    if wrong:
        detail = "; ".join(f"{key} holds a {there}, not a {wanted}" for key, there, wanted in wrong)
        fixes = (f"redis-cli RENAME {shlex.quote(key)} {shlex.quote(f'{key}:old')}" for key, *_ in wrong)
        return Finding("problem", detail, "; ".join(fixes))
    expiring = [(key, ttl_ms) for (key, _), _, ttl_ms in found if ttl_ms >= 0]
    if expiring:
        detail = "; ".join(f"{key} expires in {ttl_ms / 1000:,.0f} s" for key, ttl_ms in expiring)
        fixes = (f"redis-cli PERSIST {shlex.quote(key)}" for key, _ in expiring)
        return Finding("problem", f"{detail}: Redis then deletes the key with all its contents", "; ".join(fixes))
    return Finding("ok", "every key beside the stream has the right type, and none expires")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
