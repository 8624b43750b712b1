"""`--rate`: how many messages at once, and how long to wait after them."""

from __future__ import annotations

import time
from collections.abc import Callable


class RateLimiter:
    """At most `rate` messages per second (None: no limit), also after a pause: unused capacity is not saved up."""

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._free_at = 0.0

    def at_once(self, wanted: int) -> int:
        """The size of the next piece, at most `wanted`: a quarter of a second's worth, so that the rate is even."""
        return wanted if self._rate is None else min(wanted, max(1, int(self._rate / 4)))

    def after(self, messages: int) -> float:
        """Count messages that were processed. -> seconds to wait before the next ones"""
        if self._rate is None:
            return 0.0
        now = self._clock()
        self._free_at = max(self._free_at, now) + messages / self._rate
        return self._free_at - now
