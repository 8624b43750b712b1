"""`--rate`: how many messages at once, and how long to wait after them."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """No more than `rate` messages a second (None: no limit), also after a pause: what was not used is not kept."""

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._free_at = 0.0

    def at_once(self, wanted: int) -> int:
        """Of so many wanted, how many may come in one piece: a quarter of a second's, so that the pace is even."""
        return wanted if self._rate is None else min(wanted, max(1, int(self._rate / 4)))

    def after(self, messages: int) -> float:
        """So many were done. -> seconds until the next ones may come"""
        if self._rate is None:
            return 0.0
        now = self._clock()
        self._free_at = max(self._free_at, now) + messages / self._rate
        return self._free_at - now
