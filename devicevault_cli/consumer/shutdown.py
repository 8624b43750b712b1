"""A request to stop: made by a signal handler, seen wherever the consumer waits. A process that is stuck is ended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread

GRACE_S = 8.0
"""How long after a request to stop the loop may finish what it has begun; the rest stays pending."""
LAST_GRACE_S = 2.0
"""How long a loop that is stuck in one call, or in writing the log, may then take to notice."""
STUCK = 130


class Stopped(Exception):
    """A stop was requested while something was being waited for."""

    def __init__(self) -> None:
        super().__init__("a stop was requested")


class Stop:
    """Set once, by a signal handler or another thread.

    Not an Event: a handler runs in the thread that may hold the Event's lock at that moment, and would deadlock.
    `SimpleQueue.put` is reentrant. `requested_at`: by the monotonic clock, None before.
    """

    def __init__(self) -> None:
        self.requested_at: float | None = None
        self._queue: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Request the stop."""
        if self.requested_at is None:
            self.requested_at = time.monotonic()
        self.wake()

    def is_set(self) -> bool:
        """Whether a stop was requested."""
        return self.requested_at is not None

    def wake(self) -> None:
        """End all waiting without a request."""
        self._queue.put(None)

    def wait(self, seconds: float | None) -> bool:
        """Wait so long (None: without end), or until a stop is requested. -> whether it is"""
        with suppress(Empty):
            # Put back for whoever else waits.
            self._queue.put(self._queue.get(timeout=None if seconds is None else max(0.0, seconds)))
        return self.is_set()


@contextmanager
def ended_in_time(stop: Stop) -> Iterator[None]:
    """End the process with exit code 130 if the block is not left in time after a stop was requested.

    A driver may wait for a server that is frozen, and the log for a reader that is gone. Nothing is lost: what is in
    hand stays pending. No message: writing it could block too.
    """
    left = Event()

    def watch() -> None:
        if stop.wait(None) and not left.wait(GRACE_S + LAST_GRACE_S):
            os._exit(STUCK)

    Thread(target=watch, name="shutdown", daemon=True).start()
    try:
        yield
    finally:
        left.set()
        stop.wake()
