"""How long a command takes, as a whole process: start-up, completion, verify, replay, dead letters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.bench.ground import Ground
from tests.bench.measure import DVCTL, Figure, Run, compared, dvctl, pairs, program, run
from tests.bench.throughput import COUNT, drained

UNKNOWN_DEVICE = 60


def figures(ground: Ground) -> Iterator[Figure]:
    """Everything, in the order of the report."""
    yield from start_up(ground)
    yield from scans(ground)
    yield from repeats(ground)


def start_up(ground: Ground) -> Iterator[Figure]:
    """Against importing Typer."""
    ground.stream(1000)
    with ground.table() as url:
        for name, most in (("--version", 1.5), ("--help", 3.0), ("pending", 3.2), ("status", 6.6)):
            command = [name, *(["-o", "json"] if most > 3 else [])]
            yield slower(name, partial(milliseconds, command, ground.url, url), most)
        for what, words, most in (("options", "consume --ba", 1.6), ("live ids", "show 1", 3.5)):
            yield slower(f"completion of {what}", partial(completed, words, ground.url), most)


def completed(words: str, redis_url: str) -> float:
    """Milliseconds that the tabulator key takes behind these words in bash."""
    given = {
        "COMP_WORDS": f"dvctl {words}",
        "COMP_CWORD": str(len(words.split())),
        "_DVCTL_COMPLETE": "complete_bash",
        "DEVICEVAULT_REDIS_URL": redis_url,
    }
    ran = run(str(DVCTL), env=given)
    assert ran.said.strip(), words
    return ran.wall_s * 1000


def slower(name: str, ours: object, most: float) -> Figure:
    """Milliseconds, and how many times as long as importing Typer."""
    assert callable(ours)
    took, typer, ratio = pairs(ours, lambda: run(sys.executable, "-c", "import typer").wall_s * 1000, 10)
    return Figure(name, took, "ms", "import typer", typer, ratio, f"< {most:g}", ratio < most)


def milliseconds(words: list[str], redis_url: str, database_url: str) -> float:
    return dvctl(*words, redis_url=redis_url, database_url=database_url).wall_s * 1000


def scans(ground: Ground) -> Iterator[Figure]:
    """Verify against reading the stream and nothing else; both as whole processes."""
    ground.stream(COUNT)
    with ground.table() as url:
        drained(ground, url, COUNT)

        def verify() -> Run:
            ran = ground.dvctl("verify", "-o", "json", database_url=url)
            assert ran.said["classes"]["persisted"] == COUNT, ran.said
            return ran

        yield compared("verify", verify, partial(scanned, ground, COUNT), "XRANGE", count=COUNT, whole=True, times=3)


def scanned(ground: Ground, count: int) -> float:
    """-> messages/s of a whole process that reads the stream"""
    return count / program("drain", ground.url, "scan").wall_s


def repeats(ground: Ground) -> Iterator[Figure]:
    """Replay and dlq retry against consume: whole processes, as many messages."""

    def consume() -> float:
        ground.stream(COUNT)
        with ground.table() as url:
            return COUNT / drained(ground, url, COUNT).wall_s

    for name, ours, least in (("replay", replayed, 0.85), ("dlq retry", retried, 0.8)):
        about: dict[str, Any] = {"count": COUNT, "start_s": ground.start_s, "whole": True}
        yield compared(name, partial(ours, ground), consume, "consume", least=least, **about)


def replayed(ground: Ground) -> Run:
    """A replay of everything."""
    ground.stream(COUNT)
    with ground.table() as url:
        ran = ground.dvctl("replay", "--since", "-1d", "--yes", "-o", "json", database_url=url)
    assert ran.said["inserted"] == COUNT, ran.said
    return ran


def retried(ground: Ground) -> Run:
    """A retry of letters whose device is there by now."""
    ground.stream(COUNT, device=UNKNOWN_DEVICE)
    with ground.table() as url:
        ground.dvctl("consume", "--drain", "-o", "json", database_url=url)
        device = f"({UNKNOWN_DEVICE}, 'late', '192.0.2.60', true)"
        insert = f"INSERT INTO devices_device (id, name, ip_address, enabled) VALUES {device}"
        ground.postgres.execute(insert, database=url)
        ran = ground.dvctl("dlq", "retry", "--all", "--yes", "-o", "json", database_url=url)
    assert ran.said["persisted"] == COUNT, ran.said
    return ran
