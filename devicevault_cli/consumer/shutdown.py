"""A request to end: asked for by a signal, seen wherever the consumer waits."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue


class Stopped(Exception):
    """A stop was asked for while something was being waited for."""

    def __init__(self) -> None:
        super().__init__("a stop was asked for")


class Stop:
    """Set once, by a signal handler or another thread.

    Not an Event: a handler runs in the thread that may hold the Event's lock at that moment, and waits for itself for
    ever. `SimpleQueue.put` is made to be called from anywhere.
    """

    def __init__(self) -> None:
        self._asked = False
        self._queue: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Ask to stop."""
        self._asked = True
        self._queue.put(None)

    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._asked

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until a stop is asked for. -> whether it is"""
        with suppress(Empty):
            self._queue.put(self._queue.get(timeout=max(0.0, seconds)))  # back again, for whoever else waits
        return self._asked
