"""Firmware images: memory and speed with messages of one megabyte."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.ground import Ground
from tests.bench.measure import Figure, pairs
from tests.bench.throughput import against, drain, drained

COUNT, SIZE = 600, 1_000_000


def figures(ground: Ground) -> Iterator[Figure]:
    """Rate against drain in batches of as many bytes; the highest peak of the runs."""
    peaks = []

    def consume() -> float:
        ground.stream(COUNT, SIZE)
        with ground.table() as url:
            run = drained(ground, url, COUNT)
        peaks.append(run.peak_mb)
        return run.rate

    ours, drained_alone, ratio = pairs(consume, lambda: drain(ground, COUNT, SIZE, 16), 3)
    yield against("consume, 1 MB messages", ours, "drain", drained_alone, ratio, 0.8)
    yield Figure("peak memory, 1 MB messages", max(peaks), "MB", target="< 250", met=max(peaks) < 250)
