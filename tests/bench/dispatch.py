"""How many configurations a second go to the storage workers, beside a program that does nothing but publish."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

from tests.bench.ground import Ground
from tests.bench.measure import TIMES, Figure, Run, dvctl, pairs, program
from tests.bench.messages import GROUP, STREAM
from tests.bench.throughput import CONSUME, COUNT, against
from tests.support.amqp_queues import QUEUES, length
from tests.support.rabbitmq_server import rabbitmq_kind

SIZES = ((20_000, 2048, "2 KB", 0.8), (400, 1_000_000, "1 MB", 0.7))
"""How many of which size, and the least ratio."""
EVERYWHERE_GIT = "UPDATE devices_device SET backup_location_id = 1"


def figures(ground: Ground) -> Iterator[Figure]:
    """Rates, processor time for each message, the highest peak of memory; what `--no-dispatch` saves."""
    if rabbitmq_kind() is None:
        print("dispatch: not measured, this machine has no rabbitmq-server", file=sys.stderr)
        return
    start_s = median(dispatched(ground, 0, 2048).cpu_s for _ in range(3))
    for count, size, name, least in SIZES:
        ours: list[Run] = []
        theirs: list[Run] = []
        rate, bare, ratio = pairs(
            _rate(ours, partial(dispatched, ground, count, size)),
            _rate(theirs, partial(published, ground, count, size)),
            TIMES,
        )
        yield against(f"consume, dispatch of {name}", rate, "py-amqp alone", bare, ratio, least)
        took = 1e6 * (median(run.cpu_s for run in ours) - start_s) / count
        alone = 1e6 * median(run.said["cpu_s"] for run in theirs) / count
        yield Figure("its processor time per message", took, "us", "py-amqp alone", alone, took / alone)
        most = max(run.peak_mb for run in ours)
        yield Figure("its peak memory", most, "MB", target="< 250", met=most < 250)
    off, without, ratio = pairs(lambda: consumed(ground, "--no-dispatch"), lambda: consumed(ground), TIMES)
    yield against("consume, --no-dispatch", off, "no broker, no locations", without, ratio)


def _rate(runs: list[Run], measure: Callable[[], Run]) -> Callable[[], float]:
    """The rate of a run, which is kept."""

    def rate() -> float:
        runs.append(measure())
        return runs[-1].rate

    return rate


def dispatched(ground: Ground, count: int, size: int) -> Run:
    """`consume` writes the rows, and hands all configurations over."""
    ground.stream(max(count, 1), size)
    if not count:
        ground.client.xgroup_setid(STREAM, GROUP, "$")
    with ground.table() as url, _vhost(ground) as broker:
        ground.postgres.execute(EVERYWHERE_GIT, database=url)
        run = dvctl(*CONSUME, "--broker-url", broker, redis_url=ground.url, database_url=url)
        assert run.said["persisted"] == run.said["dispatched"] == count, run.said
        assert not count or length(broker, QUEUES[0]) == count, run.said
    return run


def published(ground: Ground, count: int, size: int) -> Run:
    """The yardstick."""
    with _vhost(ground) as broker:
        run = program("publisher", broker, str(count), str(size))
        assert length(broker, QUEUES[0]) == count
    return run


def consumed(ground: Ground, *words: str) -> float:
    """`consume` without anything to hand over. -> messages/s"""
    ground.stream(COUNT)
    with ground.table() as url:
        return dvctl(*CONSUME, *words, redis_url=ground.url, database_url=url).rate


@contextmanager
def _vhost(ground: Ground) -> Iterator[str]:
    """A fresh virtual host."""
    control = ground.rabbitmq.control
    url = control.vhost()
    try:
        yield url
    finally:
        control.drop(url)
