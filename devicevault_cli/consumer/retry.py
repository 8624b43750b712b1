"""The retry policy: the world is bad, so wait and try again, for ever, and stay responsive meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from devicevault_cli.consumer.shutdown import Stop, Stopped
from devicevault_cli.errors import BadConfig, DvctlError, LocksExhausted, Refused, Unavailable, WrongType

T = TypeVar("T")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 30.0


class Patience:
    """Calls functions until they succeed, with exponential backoff and full jitter between the attempts.

    `on_defer(error, seconds)` is told of each failure; `tick()` is called about once a second while waiting, so that
    a consumer shows that it lives.  Raises Stopped once `stop` is set, and whatever is no outage at once.
    """

    def __init__(self, stop: Stop, tick: Callable[[], None], on_defer: Callable[[DvctlError, float], None]) -> None:
        self._stop = stop
        self._tick = tick
        self._on_defer = on_defer
        self._retrying = Retrying(
            retry=retry_if_exception(_is_outage),
            wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
            before_sleep=self._deferred,
            sleep=self._sleep,
            reraise=True,
        )

    def __call__(self, action: Callable[[], T]) -> T:
        """The result of `action`, whenever it comes."""
        return self._retrying(action)

    def _deferred(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, DvctlError):
            self._on_defer(error, state.next_action.sleep if state.next_action else 0.0)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stop.wait(min(1.0, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end:
                return
            self._tick()
        raise Stopped


def _is_outage(error: BaseException) -> bool:
    """A full lock table is none: a smaller batch may fit. A key of another type can be removed like any other cause."""
    return isinstance(error, (Unavailable, Refused, BadConfig, WrongType)) and not isinstance(error, LocksExhausted)
