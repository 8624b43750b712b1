"""How the cost grows with the size of a message, up to firmware images of one megabyte: speed and memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.bench.ground import Ground
from tests.bench.measure import Figure, pairs
from tests.bench.throughput import against, drain, drained

SIZES = ((20_000, 10_000), (2000, 100_000), (1000, 1_000_000))
"""How many of which size, in bytes."""
BATCH_BYTES = 16_000_000


def figures(ground: Ground) -> Iterator[Figure]:
    """Rates against drain in batches of as many bytes; the highest peak of the runs with the largest."""
    peaks: list[float] = []
    for count, size in SIZES:
        ours, alone, ratio = pairs(
            partial(consumed, ground, count, size, peaks),
            partial(drain, ground, count, size, min(1000, BATCH_BYTES // size)),
            3,
        )
        yield against(f"consume, {size // 1000:,} KB messages", ours, "drain", alone, ratio, 0.8 if size >= 1e6 else 0)
    most = max(peaks[-3:])
    yield Figure("peak memory, 1 MB messages", most, "MB", target="< 250", met=most < 250)


def consumed(ground: Ground, count: int, size: int, peaks: list[float]) -> float:
    """-> messages/s"""
    ground.stream(count, size)
    with ground.table() as url:
        run = drained(ground, url, count)
    peaks.append(run.peak_mb)
    return run.rate
