"""How many messages a second: one consumer beside its yardsticks, several consumers, SQLite, large messages."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.ground import Ground
from tests.bench.measure import DVCTL, Figure, Run, dvctl, pairs, program
from tests.bench.messages import GROUP, STREAM
from tests.support.server import wait_until

COUNT, STEADY = 40_000, 100_000
"""Of the second number the start, some hundredths of a second, is a small part."""
CONSUME = ("consume", "--drain", "-o", "json")


def figures(ground: Ground, large: int = 0) -> Iterator[Figure]:
    """`large`: also beside a table that holds so many rows."""
    for rows in (0, large) if large else (0,):
        where = f"{rows:,} rows" if rows else "empty table"
        ours, bound, ratio = pairs(
            partial(consume, ground, rows, count=STEADY),
            partial(bounded, ground, rows, count=STEADY),
            5,
        )
        yield against(f"consume, {where}", ours, "bound", bound, ratio, 0.75)
    with_index, without, ratio = pairs(lambda: consume(ground, unique_index=True), lambda: consume(ground), 3)
    yield against("consume, unique index", with_index, "without", without, ratio, 0.95)
    ours, library, ratio = pairs(lambda: consume(ground), lambda: yardstick(ground, "batch_library", COUNT), 3)
    yield against("consume", ours, "batch library", library, ratio, 1.5)
    ours, single, ratio = pairs(lambda: consume(ground), lambda: yardstick(ground, "one_at_a_time", 2000), 3)
    yield against("consume", ours, "one at a time", single, ratio, 20)
    ours, drained, ratio = pairs(lambda: consume(ground), lambda: drain(ground, COUNT, 2048), 3)
    yield against("consume", ours, "drain", drained, ratio)
    for number in (1, 2, 4):
        ours, bound, ratio = pairs(partial(together, ground, number), lambda: bounded(ground), 3)
        yield against(f"{number} consumers, total", ours, "bound", bound, ratio, 0.65)
    ours, bound, ratio = pairs(lambda: consume(ground, sqlite=True), lambda: bounded(ground, sqlite=True), 3)
    yield against("consume, SQLite", ours, "its bound", bound, ratio, 0.4)


def against(name: str, ours: float, whom: str, theirs: float, ratio: float, least: float = 0) -> Figure:
    """A rate and the ratio to a yardstick."""
    target, met = (f">= {least:g}", ratio >= least) if least else ("", None)
    return Figure(name, ours, "messages/s", whom, theirs, ratio, target, met)


def consume(
    ground: Ground, rows: int = 0, *, unique_index: bool = False, sqlite: bool = False, count: int = COUNT
) -> float:
    """One consumer drains the stream. -> messages/s"""
    ground.stream(count)
    with ground.table(rows=rows, unique_index=unique_index, sqlite=sqlite) as url:
        return drained(ground, url, count).rate


def drained(ground: Ground, url: str, count: int) -> Run:
    """`dvctl consume --drain`, which has to persist everything."""
    run = dvctl(*CONSUME, redis_url=ground.url, database_url=url)
    assert run.said["persisted"] == count, run.said
    return run


def bounded(ground: Ground, rows: int = 0, *, sqlite: bool = False, count: int = COUNT) -> float:
    """The bound of the same table and stream. -> rows/s"""
    ground.stream(count)
    with ground.table(rows=rows, sqlite=sqlite) as url:
        return program("bound", ground.url, url).rate


def yardstick(ground: Ground, name: str, count: int) -> float:
    """-> messages/s"""
    ground.stream(COUNT)
    with ground.table() as url:
        return program(name, ground.url, url, str(count)).rate


def drain(ground: Ground, count: int, size: int, batch: int = 1000) -> float:
    """-> messages/s"""
    ground.stream(count, size)
    return program("drain", ground.url, "drain", str(batch)).rate


def together(ground: Ground, number: int) -> float:
    """Several consumers that wait already when the messages come. -> messages/s of all, from first to last commit"""
    ground.client.delete(STREAM)
    ground.client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    with ground.table() as url:
        command: list[str | Path] = [DVCTL, "consume", "-o", "json", "--redis-url", ground.url, "--database-url", url]
        group = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(number)]
        try:
            ground.await_readers(number)
            ground.stream(COUNT)
            wait_until(lambda: stored(ground, url) >= COUNT, timeout=60, every=0.2, what="all rows")
            rate = rate_of_commits(ground, url)
        finally:
            for each in group:
                each.send_signal(signal.SIGTERM)
            said = [json.loads(each.communicate(timeout=30)[0]) for each in group]
        assert sum(each["persisted"] for each in said) == COUNT == stored(ground, url), said
    return rate


def stored(ground: Ground, url: str) -> int:
    """How many rows there are."""
    return int(ground.postgres.execute("SELECT count(*) FROM devices_devicebackupresult", database=url)[0][0])


def rate_of_commits(ground: Ground, url: str) -> float:
    """Rows a second between the first and the last commit, by PostgreSQL's clock; those of the first do not count."""
    batches = "SELECT count(*) AS rows, xmin FROM devices_devicebackupresult GROUP BY xmin::text, xmin"
    moments = f"SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)), rows FROM ({batches}) AS batches ORDER BY 1"
    (first, early), *later = ground.postgres.execute(moments, database=url)
    return (COUNT - int(early)) / float(later[-1][0] - first)
