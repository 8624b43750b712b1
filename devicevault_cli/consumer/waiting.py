"""How the loop waits: in short steps, so that it sees a request to stop and keeps showing that it moves."""

from __future__ import annotations

import time
from collections.abc import Callable

from devicevault_cli.consumer.counters import Counters
from devicevault_cli.consumer.shutdown import Stop, Stopped
from devicevault_cli.repository.model import PendingSave

STEP_S = 1.0
SAVE_STEP_S = 0.5
LAST_WAIT_S = 5.0
"""How long a consumer that is to end waits for the database."""


class Waiting:
    """Calls `meanwhile` between the steps. `max_wait_s`: how long the run may last; None: without limit."""

    def __init__(self, stop: Stop, counters: Counters, max_wait_s: float | None, meanwhile: Callable[[], None]) -> None:
        self._stop = stop
        self._counters = counters
        self._max_wait_s = max_wait_s
        self._meanwhile = meanwhile
        self._give_up_at: float | None = None

    def out_of_time(self) -> bool:
        """Whether the run has lasted as long as it may."""
        return self._max_wait_s is not None and self._counters.elapsed_s > self._max_wait_s

    def for_save(self, save: PendingSave) -> None:
        """Wait for the end of a transaction. Raises Stopped if it is time to end and the database takes too long."""
        while not save.wait(SAVE_STEP_S):
            self.for_server()

    def for_server(self) -> None:
        """Between two steps of waiting for an answer. Raises Stopped if it is time to end and that takes too long."""
        self._meanwhile()
        if self._stop.is_set() or self.out_of_time():
            self._give_up_at = self._give_up_at or time.monotonic() + LAST_WAIT_S
            if time.monotonic() > self._give_up_at:
                raise Stopped

    def before_retry(self, seconds: float) -> None:
        """Wait before the next attempt. Raises Stopped as soon as it is time to end."""
        if not self._sleep(seconds):
            raise Stopped

    def rest(self, seconds: float) -> None:
        """Wait for the rate limit, at most until a stop is requested."""
        if seconds > 0:
            self._sleep(seconds, despite_time=True)

    def _sleep(self, seconds: float, *, despite_time: bool = False) -> bool:
        """-> whether the whole time has passed"""
        end = time.monotonic() + seconds
        while not self._stop.wait(min(STEP_S, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end:
                return True
            self._meanwhile()
            if self.out_of_time() and not despite_time:
                return False
        return False
