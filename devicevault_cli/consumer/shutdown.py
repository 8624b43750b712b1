"""A request to stop: made by a signal handler, seen wherever the consumer waits. A process that is stuck is ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread

from devicevault_cli.errors import ExitCode

GRACE_S = 8.0
"""How long after a request to stop the loop may finish what it has begun; the rest stays pending."""
LAST_GRACE_S = 2.0
"""How long a loop that was stuck in a call may then take to end, or be stuck in writing the log."""


class Stopped(Exception):
    """A stop was requested while something was being waited for."""

    def __init__(self) -> None:
        super().__init__("a stop was requested")


class Stop:
    """Set once, by a signal handler or another thread.

    Not an Event: a handler runs in the thread that may hold the Event's lock at that moment, and would deadlock.
    `SimpleQueue.put` is reentrant. `requested_at`: by the monotonic clock, None before. `reason`: why, as the summary
    of the run names it.
    """

    def __init__(self) -> None:
        self.requested_at: float | None = None
        self.reason = "signal"
        self._queue: SimpleQueue[None] = SimpleQueue()

    def set(self, reason: str = "signal") -> None:
        """Request the stop; the first reason counts."""
        if self.requested_at is None:
            self.reason = reason
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
def ended_in_time(stop: Stop, interrupt: Callable[[], None]) -> Iterator[None]:
    """See that the block is left in time after a stop was requested.

    A driver may wait for a server that is frozen: after GRACE_S `interrupt` is called, to end that from another thread.
    The log may wait for a reader that is gone: after LAST_GRACE_S more the process ends with exit code 130, without a
    message, which could block too. Nothing is lost: what is in hand stays pending.
    """
    left = Event()

    def watch() -> None:
        if not stop.wait(None) or left.wait(GRACE_S):
            return
        try:
            interrupt()
        finally:
            if not left.wait(LAST_GRACE_S):
                os._exit(ExitCode.INTERRUPTED)

    Thread(target=watch, name="shutdown", daemon=True).start()
    try:
        yield
    finally:
        left.set()
        stop.wake()
