"""A backlog of a million messages of 2 KB: does the rate hold to its end, and the memory stay what it is for few?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from statistics import median

from tests.bench.ground import Ground
from tests.bench.measure import Figure
from tests.bench.messages import GROUP, STREAM
from tests.bench.throughput import drained
from tests.bench.verify import entries

FEW, MANY = 10_000, 1_000_000
HOLDS, MEMORY_MB = 0.9, 30


def figures(ground: Ground, rows: int = 0) -> Iterator[Figure]:
    """`rows`: beside a table that holds so many already."""
    peaks: dict[int, float] = {}
    runs: list[tuple[float, float, float]] = []
    for count, times in ((FEW, 1), (MANY, 3)):
        entries(ground, count)
        for _ in range(times):
            ground.client.xgroup_setid(STREAM, GROUP, "0")
            with ground.table(rows=rows) as url:
                run = drained(ground, url, count)
                peaks[count] = max(peaks.get(count, 0.0), run.peak_mb)
                if count == MANY:
                    runs.append((run.rate, *tenths(ground, url, rows)))
    rate, first, last = map(median, zip(*runs, strict=True))
    ratio = median(late / early for _, early, late in runs)
    where = f"a million, {rows:,} rows" if rows else "a million"
    yield Figure(f"consume, {where}", rate, "messages/s")
    yield Figure("its last tenth", last, "messages/s", "first", first, ratio, f">= {HOLDS}", ratio >= HOLDS)
    few, many = peaks[FEW], peaks[MANY]
    met = many - few < MEMORY_MB
    yield Figure("its peak memory", many, "MB", f"of {FEW:,}", few, many / few, f"< {MEMORY_MB} MB more", met)


def tenths(ground: Ground, url: str, before: int) -> tuple[float, float]:
    """Rows a second in the first and in the last tenth, by PostgreSQL's own commit timestamps."""
    batches = (
        f"SELECT count(*) AS rows, xmin FROM devices_devicebackupresult WHERE id > {before} GROUP BY xmin::text, xmin"
    )
    query = f"SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)), rows FROM ({batches}) AS batches ORDER BY 1"
    moments, counts = zip(*ground.postgres.execute(query, database=url), strict=True)
    done = list(accumulate(map(int, counts)))
    tenth = done[-1] // 10
    first = next(n for n, total in enumerate(done) if total >= tenth)
    last = next(n for n, total in enumerate(done) if total >= done[-1] - tenth)
    early = (done[first] - done[0]) / float(moments[first] - moments[0])
    return early, (done[-1] - done[last]) / float(moments[-1] - moments[last])
