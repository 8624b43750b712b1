"""A psycopg connection that is never waited for without end, nor without telling."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

T = TypeVar("T")

ANSWER_S = 75.0
"""How long a silent server is waited for: longer than the lock and statement timeouts together."""
TELL_S = 0.5


class WatchedConnection(psycopg.Connection[TupleRow]):
    """While psycopg waits for the server, `on_wait` is called twice a second; what it raises ends the waiting.

    A server that is frozen neither answers nor hangs up, and its own timeouts stand still with it: so a silence of
    `patience_s` raises psycopg.OperationalError.
    """

    on_wait: Callable[[], None] = staticmethod(lambda: None)
    patience_s = ANSWER_S

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """psycopg's own wait, watched."""
        return super().wait(self._watched(gen), interval, timeout)

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Allow the server so much silence meanwhile, for statements known to take long."""
        before, self.patience_s = self.patience_s, seconds
        try:
            yield
        finally:
            self.patience_s = before

    def _watched(self, gen: PQGen[T]) -> Generator[Any, Any, T]:
        heard = told = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    heard = now
                elif now - heard > self.patience_s:
                    raise psycopg.OperationalError(f"no answer within {self.patience_s:g} s")
                if now - told > TELL_S:
                    told = now
                    self.on_wait()
                wanted = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value
