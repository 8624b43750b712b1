"""Yardstick: Redis alone. XREADGROUP and XACK (`drain`), or XRANGE from end to end (`scan`).

`python -m tests.bench.drain REDIS_URL drain|scan [BATCH]`
"""

from __future__ import annotations

import sys
import time

import redis

from tests.bench.measure import tell
from tests.bench.messages import BATCH, GROUP, STREAM
from tests.support.entries import entries, read_new


def main(redis_url: str, how: str, batch: str = str(BATCH)) -> None:
    """Read all messages."""
    client = redis.Redis.from_url(redis_url)
    started = time.perf_counter()
    done = drain(client, int(batch)) if how == "drain" else scan(client, int(batch))
    tell(done, time.perf_counter() - started)


def drain(client: redis.Redis, batch: int) -> int:
    """-> messages"""
    done = 0
    while page := read_new(client, STREAM, GROUP, "drain", count=batch):
        ids = [key for key, _ in page]
        client.xack(STREAM, GROUP, *ids)
        done += len(ids)
    return done


def scan(client: redis.Redis, batch: int) -> int:
    """-> messages"""
    done, start = 0, "-"
    while page := entries(client, STREAM, start=start, count=batch):
        done += len(page)
        start = f"({page[-1][0].decode()}"
    return done


if __name__ == "__main__":
    main(*sys.argv[1:])
