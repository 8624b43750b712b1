"""What others see of a running consumer: its progress, a line in the log now and then, its vital signs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from devicevault_cli.consumer.counters import Tally
from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.monitoring.lag import lag_of
from devicevault_cli.streams.group import Group

log = logging.getLogger("dvctl.consume")

SUMMARY_S = 10.0
LOOK_S = 2.0
LONGEST_LOOK_S = 60.0
CHECK_BYTES = 512 * 1024
"""What a look at the lag may read beside the work."""
SHARE = 20
"""A look that takes long (before Redis 7.0 the lag is counted) is taken so much more seldom."""
STANDSTILL_S = 60.0
"""A loop that did not move for so long is dead: no call of it waits that long."""

ShowProgress = Callable[[int, int | None, str], None]
"""(done, total, note)"""


class Backlog(NamedTuple):
    """What the group has before it; None where it is not known."""

    length: int | None = None
    lag: int | None = None
    lag_s: float | None = None
    pending: int | None = None
    oldest_pending_s: float | None = None

    @property
    def left(self) -> int | None:
        """Undelivered and pending."""
        return None if self.lag is None or self.pending is None else self.lag + self.pending


class Watch:
    """Called about once a second or oftener by the consumer's loop; read by other threads, which see plain numbers."""

    def __init__(self, group: Group, show: ShowProgress, wanted: int | None = None) -> None:
        self.tally = Tally()
        self.backlog = Backlog()
        self.moved = time.time()
        self._moved = time.monotonic()
        self.on_batch: Callable[[int, float], None] = lambda messages, seconds: None
        self._group = group
        self._show = show
        self._wanted = wanted
        self._total: int | None = None
        self._next_look = 0.0
        self._wrote = self._moved
        self._read = 0

    def __call__(self, tally: Tally) -> None:
        """The loop moves: show how far the consumer is."""
        now = self._moved = time.monotonic()
        self.moved = time.time()
        self.tally = tally
        if now >= self._next_look:
            self.backlog = self._look()
            self._next_look = now + min(LONGEST_LOOK_S, max(LOOK_S, SHARE * (time.monotonic() - now)))
            left, tally.lag = self.backlog.left, self.backlog.lag
            self._total = None if left is None else tally.read + left
            if self._wanted is not None:
                self._total = self._wanted if self._total is None else min(self._wanted, self._total)
        if now - self._wrote > SUMMARY_S:
            if tally.read != self._read:
                log.info("%s, lag %s", sentence(tally), "unknown" if self.backlog.left is None else self.backlog.left)
            self._wrote, self._read = now, tally.read
        self._show(tally.read, self._total, "" if self._total is None else f"lag {max(0, self._total - tally.read):,}")

    @property
    def alive(self) -> bool:
        """Whether the loop moves, be it that it waits for a server that is away."""
        return time.monotonic() - self._moved < STANDSTILL_S

    @property
    def ready(self) -> bool:
        """Whether it does its work: it read since the start, and since the last outage."""
        return self.alive and not self.tally.waiting

    def _look(self) -> Backlog:
        try:
            info, position = self._group.stream.info(), self._group.info()
            if info is None or position is None:
                return Backlog()
            lag = lag_of(self._group.stream, info, position, limit=10_000, check_bytes=CHECK_BYTES)
            oldest = self._group.summary().first_id
        except DvctlError:
            return Backlog()
        now_ms = time.time_ns() // 1_000_000
        age = 0.0 if oldest is None else max(0.0, (now_ms - oldest.ms) / 1000)
        return Backlog(info.length, lag.entries, lag.seconds(now_ms), position.pending, age)


def sentence(tally: Tally) -> str:
    """What was done so far, for people."""
    parts = [f"read {tally.read}", f"persisted {tally.persisted}"]
    optional = ("duplicates", "conflicting", "dead_lettered", "skipped", "dropped", "gone", "deferred_retries")
    parts += [f"{name.replace('_', ' ')} {getattr(tally, name)}" for name in optional if getattr(tally, name)]
    return ", ".join(parts)
