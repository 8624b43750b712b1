"""Stream entries as a client without `decode_responses` gets them: in bytes."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import redis

Entries: TypeAlias = list[tuple[bytes, dict[bytes, bytes]]]
"""Entry id and fields."""


def entries(client: redis.Redis, stream: str, *, start: str = "-", count: int | None = None) -> Entries:
    """XRANGE: the entries of a stream, oldest first."""
    return cast(Entries, client.xrange(stream, start, "+", count=count))


def read_new(
    client: redis.Redis, stream: str, group: str, consumer: str, count: int, block: int | None = None
) -> Entries:
    """XREADGROUP: new entries for a consumer of the group; empty if there are none within `block` ms."""
    reply = cast(Any, client.xreadgroup(group, consumer, {stream: ">"}, count=count, block=block))
    return cast(Entries, reply[0][1]) if reply else []
