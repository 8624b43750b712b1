"""The faults of the demo: a consumer that is killed while it holds entries, and a database that is away."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.shutdown import Stop
from devicevault_cli.consumer.worker import Worker
from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.entries.publish import sample_messages
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.tables import RESULTS as TABLE
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream

if TYPE_CHECKING:
    from devicevault_cli.consumer.demo import Tell

MESSAGES = 50
"""Published for each fault."""
CLAIM_IDLE_S = 1.0
"""After how long entries of a dead consumer are taken over; 60 s outside the demo."""
ATTEMPTS = 4
"""How often the consumer fails before the database comes back: about a second."""
LIMIT_S = 60.0
_LEAKS = ("DEVICEVAULT_", "DVCTL_", "CELERY_")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demo happens: the stream, the URL of its Redis, and the SQLite file."""

    stream: Stream
    redis_url: str
    database: Path

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.database}"


@contextmanager
def crash(place: Place, group: Group, tell: Tell) -> Iterator[Worker]:
    """Kill a consumer while it holds entries, and have another one take them over. -> the latter, which runs on"""
    tell.step("A consumer crashes")
    with _process(place) as process, _away(place.database):
        # Without its database, it can read messages but not finish them.
        _publish(place.stream, device=1)
        _until(lambda: _held(group) > 0, "the consumer to read")
        process.kill()
        process.wait()
    held = _held(group)
    tell.say(
        f"`dvctl consume` (process {process.pid}) read {held} of {MESSAGES} new messages.",
        f"`kill -9` ended it before they were written: {held} entries are pending, 0 rows.",
    )
    with closing(open_repository(place.database_url, TABLE)) as repository:
        stop = Stop()
        options = ConsumeOptions(claim_idle_s=CLAIM_IDLE_S)
        worker = Worker(GroupConsumer(group, "demo-2"), repository, RESULTS, options, stop)
        thread = Thread(target=worker.run, name="demo-2")
        thread.start()
        try:
            _until(lambda: worker.counters.persisted == MESSAGES, "another consumer to take over")
            tell.say(
                f"Another consumer took {worker.counters.reclaimed} entries over after "
                f"{CLAIM_IDLE_S:.0f} s (by default 60 s):",
                f"{MESSAGES} rows, {_held(group)} pending.",
            )
            yield worker
        finally:
            stop.set()
            thread.join()


def outage(place: Place, group: Group, worker: Worker, tell: Tell) -> None:
    """Take the database away from a running consumer, and give it back."""
    tell.step("The database goes down")
    before, failed, began = worker.counters.persisted, worker.counters.deferred_retries, time.monotonic()
    with _away(place.database):
        _publish(place.stream, device=2)
        _until(lambda: worker.counters.deferred_retries >= failed + ATTEMPTS, "the consumer to try")
        held = _held(group)
        tell.say(
            f"{MESSAGES} messages came meanwhile. The consumer tried {ATTEMPTS} times to write them,",
            f"and acknowledged nothing: {held} entries are pending, {MESSAGES - held} not read yet.",
        )
    back_s = time.monotonic() - began
    _until(lambda: worker.counters.persisted == before + MESSAGES, "the consumer to continue")
    tell.say(
        f"The database was back after {back_s:.1f} s, and the consumer continued by itself:",
        f"{MESSAGES} rows, {_held(group)} pending.",
    )


@contextmanager
def _process(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A `dvctl consume` that has begun to consume, with settings of the demo only."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_LEAKS)}
    environ |= {
        "DEVICEVAULT_REDIS_URL": place.redis_url,
        "DEVICEVAULT_DATABASE_URL": place.database_url,
        "DVCTL_NO_DISPATCH": "1",
    }
    words = [sys.executable, "-m", "devicevault_cli", "consume", "--consumer", "demo-1"]
    null = subprocess.DEVNULL
    process = subprocess.Popen(words, env=environ, stdin=null, stdout=null, stderr=null)
    group = Group(place.stream, RESULTS.group)
    try:
        _until(lambda: process.poll() is not None or _reads(group, "demo-1"), "the consumer to start")
        if process.poll() is not None:
            raise DvctlError(f"`dvctl consume` ended with exit code {process.returncode}")
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def _away(database: Path) -> Iterator[None]:
    """The file has another name meanwhile: what is opened by its name fails, and writing too."""
    elsewhere = database.with_suffix(".away")
    database.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(database)


def _publish(stream: Stream, device: int) -> None:
    stream.add(list(sample_messages(MESSAGES, device, "success", "configuration collected")))


def _reads(group: Group, name: str) -> bool:
    return any(consumer.name == name for consumer in group.consumers())


def _held(group: Group) -> int:
    about = group.info()
    return about.pending if about else 0


def _until(condition: Callable[[], bool], what: str) -> None:
    """Raises DvctlError if it does not come true in time."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end:
            raise DvctlError(f"waited {LIMIT_S:.0f} s for {what}", hint="please report it")
        time.sleep(0.02)
