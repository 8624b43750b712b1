"""Sixteen streams of one pipeline: latency at 400 messages a second, cost of a message, memory with large ones."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any
from zlib import crc32

from tests.bench.ground import Ground
from tests.bench.measure import DVCTL, Figure, Run, dvctl, pairs, quantile
from tests.bench.messages import GROUP, STREAM, message
from tests.bench.throughput import CONSUME, drained, stored
from tests.support.server import wait_until

STREAMS = 16
RANGE = f"{STREAM}:{{0..{STREAMS - 1}}}"
COUNT, RATE, WARM = 2000, 400, 200
BACKLOG = 40_000
LARGE, LARGE_SIZE = 640, 1_000_000
MOST_MS, MOST_MB = 50.0, 250.0


def figures(ground: Ground) -> Iterator[Figure]:
    """Latency against one stream at the same rate; processor time a message against one stream; peak memory."""
    many, one = delays(ground, RANGE), delays(ground, STREAM)
    for name, share in (("median", 0.5), ("p99", 0.99)):
        first, second = quantile(many, share), quantile(one, share)
        met = first < MOST_MS if name == "p99" else None
        target = f"< {MOST_MS:g} ms" if name == "p99" else ""
        yield Figure(f"16 streams at 400/s, {name}", first, "ms", "one stream", second, first / second, target, met)
    ours, theirs, ratio = pairs(lambda: cost(ground, RANGE), lambda: cost(ground, STREAM), 3)
    yield Figure("16 streams, processor time a message", ours, "us", "one stream", theirs, ratio)
    peak = drained_of(ground, RANGE, LARGE, LARGE_SIZE).peak_mb
    yield Figure("16 streams, peak memory, 1 MB messages", peak, "MB", target=f"< {MOST_MB:g}", met=peak < MOST_MB)


def names(streams: str) -> list[str]:
    return [f"{STREAM}:{{{number}}}" for number in range(STREAMS)] if streams == RANGE else [STREAM]


def stream_of(number: int, keys: list[str]) -> str:
    """As a producer chooses it: by the device."""
    return keys[crc32(message(number)["device_id"].encode()) % len(keys)]


def prepare(ground: Ground, keys: list[str]) -> None:
    ground.client.flushall()
    for key in keys:
        ground.client.xgroup_create(key, GROUP, "0", mkstream=True)


def drained_of(ground: Ground, streams: str, count: int, size: int = 2048) -> Run:
    """`dvctl consume --drain` of a backlog that is spread over the streams."""
    keys = names(streams)
    prepare(ground, keys)
    page = max(1, min(500, 4_000_000 // size))
    for start in range(0, count, page):
        with ground.client.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + page, count)):
                fields: Any = message(number, size)
                pipe.xadd(stream_of(number, keys), fields)
            pipe.execute()
    with ground.table() as url:
        if streams == STREAM:
            return drained(ground, url, count)
        run = dvctl(*CONSUME, "--stream", streams, redis_url=ground.url, database_url=url)
        assert run.said["persisted"] == count, run.said
        return run


def cost(ground: Ground, streams: str) -> float:
    """-> microseconds of the process a message, its start included"""
    return drained_of(ground, streams, BACKLOG).cpu_s * 1e6 / BACKLOG


def delays(ground: Ground, streams: str) -> list[float]:
    """Milliseconds from just before XADD to the commit, a value a message."""
    keys = names(streams)
    prepare(ground, keys)
    with ground.table() as url:
        command: list[str | Path] = [
            DVCTL,
            "consume",
            "--stream",
            streams,
            "--redis-url",
            ground.url,
            "--database-url",
            url,
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            ground.await_readers(len(keys))
            published = send(ground, keys)
            wait_until(lambda: stored(ground, url) >= len(published), what="all rows")
        finally:
            process.terminate()
            process.wait(30)
        committed_at = "extract(epoch FROM pg_xact_commit_timestamp(xmin))"
        query = f"SELECT task_identifier, {committed_at} FROM devices_devicebackupresult"
        committed = {name: float(moment) for name, moment in ground.postgres.execute(query, database=url)}
    found = [1000 * (committed[name] - moment) for name, moment in published.items()][WARM:]
    assert median(found) > 0, "the clocks disagree"
    return found


def send(ground: Ground, keys: list[str]) -> dict[str, float]:
    """Publish evenly. -> when, by identifier"""
    published = {}
    due = time.perf_counter()
    for number in range(COUNT + WARM):
        fields: dict[Any, Any] = dict(message(number))
        time.sleep(max(0.0, due - time.perf_counter()))
        published[fields["task_identifier"]] = time.time()
        ground.client.xadd(stream_of(number, keys), fields)
        due += 1 / RATE
    return published
