"""The retry policy: retry indefinitely with exponential backoff and jitter while a server is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from devicevault_cli.consumer.outages import REDIS
from devicevault_cli.consumer.shutdown import GRACE_S, Stop, Stopped
from devicevault_cli.consumer.waiting import Waiting
from devicevault_cli.errors import BadConfig, DvctlError, LocksExhausted, Refused, Unavailable, WrongType

T = TypeVar("T")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 30.0
LONGEST_WAIT_FOR_REDIS_S = 5.0
"""A fail-over takes seconds, and to ask again costs a Redis little."""


def is_outage(error: BaseException) -> bool:
    """Whether the same call may succeed later, once a server is back, a right granted, a key of a wrong type removed.

    Not if the lock table is full: then a smaller batch may fit.
    """
    return isinstance(error, (Unavailable, Refused, BadConfig, WrongType)) and not isinstance(error, LocksExhausted)


def shown_wait(seconds: float) -> str:
    """When the next attempt is, for people: never `in 0.0 s`."""
    return "at once" if seconds < 0.05 else f"in {seconds:.1f} s"


def _longest_wait_s(error: BaseException | None) -> float:
    """Before another attempt at what failed with this error."""
    of_redis = isinstance(error, DvctlError) and error.server == REDIS
    return min(LONGEST_WAIT_S, LONGEST_WAIT_FOR_REDIS_S) if of_redis else LONGEST_WAIT_S


def _wait(state: RetryCallState) -> float:
    longest = _longest_wait_s(state.outcome.exception() if state.outcome else None)
    return wait_random_exponential(multiplier=FIRST_WAIT_S, max=longest)(state)


class Once:
    """Calls functions once, in the place of a Retry: whoever uses it has something else to do during an outage."""

    def __call__(self, action: Callable[[], T], retry_if: Callable[[BaseException], bool] = is_outage) -> T:
        """The result of `action`. Raises what it raises."""
        return action()


class Retry:
    """Calls functions until they succeed. `on_failure(error, seconds)` is called before each wait of so many seconds,
    `on_recovery(errors)` once a function has succeeded that failed with these errors before.

    Raises Stopped when it is time to end, and at once every error for which `retry_if` is false.
    """

    def __init__(
        self,
        stop: Stop,
        waiting: Waiting,
        on_failure: Callable[[DvctlError, float], None],
        on_recovery: Callable[[list[DvctlError]], None] = lambda errors: None,
    ) -> None:
        self._stop = stop
        self._on_failure = on_failure
        self._on_recovery = on_recovery
        self._retrying = Retrying(
            wait=_wait,
            sleep=waiting.before_retry,
            reraise=True,
        )

    def __call__(self, action: Callable[[], T], retry_if: Callable[[BaseException], bool] = is_outage) -> T:
        """The result of `action`, as soon as it has one."""
        requested_at = self._stop.requested_at
        if requested_at is not None and time.monotonic() - requested_at > GRACE_S:
            raise Stopped
        errors: list[DvctlError] = []
        failed = partial(self._failed, errors)
        result = self._retrying.copy(retry=retry_if_exception(retry_if), before_sleep=failed)(action)
        if errors:
            self._on_recovery(errors)
        return result

    def _failed(self, errors: list[DvctlError], state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, DvctlError):
            errors[:] = [*(kept for kept in errors if kept.server != error.server), error]
            self._on_failure(error, state.next_action.sleep if state.next_action else 0.0)
