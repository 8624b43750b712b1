"""How many messages a second: one consumer beside its yardsticks, several consumers, SQLite, large messages."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.ground import Ground
from tests.bench.measure import DVCTL, TIMES, Figure, Run, compared, pairs, program
from tests.bench.messages import GROUP, STREAM
from tests.support.server import wait_until

COUNT, STEADY = 40_000, 100_000
"""Of the second number the start, some hundredths of a second, is a small part."""
LARGE = 2_000_000
"""Rows of a table that has long been in use."""
CONSUME = ("consume", "--drain", "-o", "json")


def figures(ground: Ground) -> Iterator[Figure]:
    """Beside the bound with an empty and with a large table, with the unique index, beside other consumers."""
    about: dict[str, Any] = {"count": COUNT, "start_s": ground.start_s}
    for rows, least in ((0, 0.9), (LARGE, 0.95)):
        where = f"{rows:,} rows" if rows else "empty table"
        ours = partial(consume, ground, rows, count=STEADY)
        bound = partial(bounded, ground, rows, count=STEADY)
        steady = about | {"count": STEADY}
        yield compared(f"consume, {where}", ours, bound, "bound", least=least, **steady)
    ours = partial(consume, ground)
    with_index = partial(consume, ground, unique_index=True)
    yield compared("consume, unique index", with_index, lambda: ours().rate, "without", least=0.92, **about)
    library = partial(yardstick, ground, "batch_library", COUNT)
    yield compared("consume", ours, library, "batch library", least=1.5, times=3, **about)
    single = partial(yardstick, ground, "one_at_a_time", 2000)
    yield compared("consume", ours, single, "one at a time", least=20, times=3, **about)
    yield compared("consume", ours, partial(drain, ground, COUNT, 2048), "drain", times=3, **about)
    for number in (2, 4):
        rate, alone, ratio = pairs(partial(together, ground, number), partial(together, ground, 1), TIMES)
        yield against(f"{number} consumers, total", rate, "one", alone, ratio, 0.9)
    in_sqlite, its_bound = partial(consume, ground, sqlite=True), partial(bounded, ground, sqlite=True)
    yield compared("consume, SQLite", in_sqlite, its_bound, "its bound", least=0.6, **about)


def against(name: str, ours: float, whom: str, theirs: float, ratio: float, least: float = 0) -> Figure:
    """A rate and the ratio to a yardstick."""
    target, met = (f">= {least:g}", ratio >= least) if least else ("", None)
    return Figure(name, ours, "messages/s", whom, theirs, ratio, target, met)


def consume(
    ground: Ground, rows: int = 0, *, unique_index: bool = False, sqlite: bool = False, count: int = COUNT
) -> Run:
    """One consumer drains the stream."""
    ground.stream(count)
    with ground.table(rows=rows, unique_index=unique_index, sqlite=sqlite) as url:
        return drained(ground, url, count)


def drained(ground: Ground, url: str, count: int) -> Run:
    """`dvctl consume --drain`, which has to persist everything."""
    run = ground.dvctl(*CONSUME, database_url=url)
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
