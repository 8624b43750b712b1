"""A request to end comes at any moment, from a signal handler too."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from devicevault_cli.consumer.shutdown import Stop

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
