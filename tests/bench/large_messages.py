"""How the cost grows with the size of a message, up to firmware images of one megabyte: speed and memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.bench.ground import Ground
from tests.bench.measure import TIMES, Figure, Run, compared
from tests.bench.throughput import drain, drained

SIZES = ((20_000, 10_000), (2000, 100_000), (1000, 1_000_000))
"""How many of which size, in bytes."""
BATCH_BYTES = 16_000_000


def figures(ground: Ground) -> Iterator[Figure]:
    """Rates against drain in batches of as many bytes; the highest peak of the runs with the largest."""
    for count, size in SIZES:
        largest = size == SIZES[-1][1]
        runs: list[Run] = []
        yield compared(
            f"consume, {size // 1000:,} KB messages",
            partial(consumed, ground, count, size, runs),
            partial(drain, ground, count, size, min(1000, BATCH_BYTES // size)),
            "drain",
            count=count,
            start_s=ground.start_s,
            least=0.9 if largest else 0,
            times=TIMES if largest else 3,
        )
    most = max(run.peak_mb for run in runs)
    yield Figure("peak memory, 1 MB messages", most, "MB", target="< 200", met=most < 200)


def consumed(ground: Ground, count: int, size: int, runs: list[Run]) -> Run:
    """A run, which is kept."""
    ground.stream(count, size)
    with ground.table() as url:
        runs.append(drained(ground, url, count))
    return runs[-1]
