"""From XADD to the committed row, at 200 messages a second; PostgreSQL itself tells when a row was committed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from tests.bench.ground import Ground
from tests.bench.measure import DVCTL, TIMES, Figure, quantile
from tests.bench.messages import GROUP, STREAM, message
from tests.bench.throughput import stored
from tests.support.server import wait_until

COUNT, RATE, WARM = 500, 200, 100


def figures(ground: Ground) -> Iterator[Figure]:
    """Median and 99th percentile of each, in adjacent pairs, and the median of the pairs' ratios."""
    found: list[tuple[list[float], list[float]]] = []
    for number in range(TIMES):
        if number % 2:
            theirs, ours = one_by_one(ground), consumed(ground)
        else:
            ours, theirs = consumed(ground), one_by_one(ground)
        found.append((ours, theirs))
    for name, share, most in (("median", 0.5, 1.0), ("p99", 0.99, 1.5)):
        each = [(quantile(ours, share), quantile(theirs, share)) for ours, theirs in found]
        first, second = (median(values) for values in zip(*each, strict=True))
        ratio = median(ours / theirs for ours, theirs in each)
        target = f"<= {most:g}"
        yield Figure(f"latency at 200/s, {name}", first, "ms", "one at a time", second, ratio, target, ratio <= most)
    worst, their_worst = (max(map(max, values)) for values in zip(*found, strict=True))
    yield Figure("latency at 200/s, worst", worst, "ms", "one at a time", their_worst, worst / their_worst)


def consumed(ground: Ground) -> list[float]:
    """Delays of dvctl."""
    with ground.table() as url:
        return delays(ground, url, [str(DVCTL), "consume", "--redis-url", ground.url, "--database-url", url])


def one_by_one(ground: Ground) -> list[float]:
    """Delays of the yardstick."""
    with ground.table() as url:
        single = [sys.executable, "-m", "tests.bench.one_at_a_time", ground.url, url, str(COUNT + WARM)]
        return delays(ground, url, single)


def delays(ground: Ground, url: str, consumer: list[str]) -> list[float]:
    """Milliseconds from just before XADD to the commit, a value a message."""
    ground.client.delete(STREAM)
    ground.client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    process = subprocess.Popen(consumer, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ground.await_readers(1)
        published = send(ground)
        wait_until(lambda: stored(ground, url) >= len(published), what="all rows")
    finally:
        process.terminate()
        process.wait(30)
    query = "SELECT task_identifier, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM devices_devicebackupresult"
    committed = {name: float(moment) for name, moment in ground.postgres.execute(query, database=url)}
    found = [1000 * (committed[name] - moment) for name, moment in published.items()][WARM:]
    assert median(found) > 0, "the clocks disagree"
    return found


def send(ground: Ground) -> dict[str, float]:
    """Publish evenly. -> when, by identifier"""
    published = {}
    due = time.perf_counter()
    for number in range(COUNT + WARM):
        fields: dict[Any, Any] = dict(message(number))
        time.sleep(max(0.0, due - time.perf_counter()))
        published[fields["task_identifier"]] = time.time()
        ground.client.xadd(STREAM, fields)
        due += 1 / RATE
    return published
