"""A request to end comes at any moment, from a signal handler too."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from devicevault_cli.consumer.counters import Counters
from devicevault_cli.consumer.retry import Retry
from devicevault_cli.consumer.shutdown import GRACE_S, Stop, Stopped
from devicevault_cli.consumer.waiting import Waiting
from devicevault_cli.errors import MemoryFull, Unavailable

INTERRUPTED = """
import signal
from devicevault_cli.consumer.shutdown import Stop

for number in range(1000):
    stop = Stop()
    signal.signal(signal.SIGALRM, lambda *_: stop.set())
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
    while not stop.wait(0.00001):
        pass
"""


def test_a_handler_in_the_waiting_thread_does_not_wait_for_itself() -> None:
    """With a threading.Event this stands still after some hundred rounds."""
    subprocess.run([sys.executable, "-c", INTERRUPTED], check=True, timeout=250)


def test_it_ends_the_waiting_of_every_thread_at_once() -> None:
    stop, began = Stop(), time.monotonic()
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(stop.wait(1000))) for _ in range(3)]
    for thread in threads:
        thread.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert answers == [True] * 3
    assert time.monotonic() - began < 250


def test_until_then_waiting_lasts_as_long_as_was_asked_for() -> None:
    stop, began = Stop(), time.monotonic()
    assert not stop.wait(0.05)
    assert time.monotonic() - began >= 0.05
    assert not stop.wait(0)
    assert not stop.wait(-1)
    assert not stop.is_set()
    stop.set()
    assert stop.is_set()
    assert stop.wait(0)


def retrying(stop: Stop, max_wait_s: float | None = None) -> Retry:
    waiting = Waiting(stop, Counters(), max_wait_s, meanwhile=lambda: None)
    return Retry(stop, waiting, on_failure=lambda error, seconds: None)


def unavailable() -> None:
    raise Unavailable


def test_an_outage_is_retried_until_it_is_over_or_it_is_time_to_end() -> None:
    results: list[Exception | int] = [Unavailable(), Unavailable(), 7]

    def attempt() -> int:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    stop = Stop()
    assert retrying(stop)(attempt) == 7
    with pytest.raises(Stopped):
        retrying(stop, max_wait_s=-1.0)(unavailable)
    stop.set()
    assert retrying(stop)(lambda: 7) == 7, "what has begun is finished"
    with pytest.raises(Stopped):
        retrying(stop)(unavailable)
    assert stop.requested_at is not None
    stop.requested_at -= GRACE_S
    with pytest.raises(Stopped):
        retrying(stop)(lambda: 7)


def test_what_the_predicate_excludes_is_not_retried() -> None:
    with pytest.raises(MemoryFull):
        retrying(Stop())(_full, retry_if=lambda error: not isinstance(error, MemoryFull))


def _full() -> None:
    raise MemoryFull
