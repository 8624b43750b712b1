"""Celery's queues on a Redis broker, as a plain client sees them: lists, newest message first, and sets of bindings."""

from __future__ import annotations

import redis

from tests.support.amqp_queues import QUEUES

_SEPARATOR = "\x06\x16"


def declare(client: redis.Redis, *queues: str) -> None:
    """Bind queues (DeviceVault's, unless named) as Celery does; the lists themselves begin with their first message."""
    for queue in queues or QUEUES:
        for key in (f"_kombu.binding.{queue}", f"_kombu.binding_permanent.{queue}"):
            client.sadd(key, f"{queue}{_SEPARATOR}{_SEPARATOR}{queue}")


def bindings(client: redis.Redis) -> dict[str, list[str]]:
    """The sets of bindings of DeviceVault's queues, as the samples name them."""
    found = {}
    for queue in QUEUES:
        for key in (f"_kombu.binding.{queue}", f"_kombu.binding_permanent.{queue}"):
            if members := client.smembers(key):
                found[key] = sorted(_text(member) for member in members)
    return found


def length(client: redis.Redis, queue: str) -> int:
    """How many messages wait in it."""
    return int(client.llen(queue))


def unacknowledged(client: redis.Redis) -> int:
    """How many messages workers have taken and not acknowledged; they come back after the visibility time-out."""
    return int(client.hlen("unacked"))


def messages(client: redis.Redis, queue: str, *, keep: bool = False) -> list[bytes]:
    """Take what waits in it, in order; `keep`: leave it there."""
    found = [_bytes(raw) for raw in reversed(client.lrange(queue, 0, -1))]
    if not keep and found:
        client.ltrim(queue, 0, -len(found) - 1)
    return found


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
