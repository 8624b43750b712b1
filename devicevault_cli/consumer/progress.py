"""What others see of a running consumer: how far it is, a line in the log now and then, whether it is alive."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from devicevault_cli.consumer.counters import Counters, Metric
from devicevault_cli.consumer.outages import Outages
from devicevault_cli.errors import DvctlError
from devicevault_cli.log_fields import fields
from devicevault_cli.operations.monitoring.lag import lag_of
from devicevault_cli.streams.group import Group
from devicevault_cli.times import now_ms

log = logging.getLogger("dvctl.consume")

SUMMARY_S = 10.0
LOOK_S = 2.0
LONGEST_LOOK_S = 60.0
CHECK_BYTES = 512 * 1024
"""What a look at the lag may read beside the work."""
SHARE = 20
"""A look that takes long (before Redis 7.0 the lag is counted) is taken so much more seldom."""
STANDSTILL_S = 90.0
"""A loop that did not move for so long is dead: no call waits that long, not even for a silent database (75 s)."""

ShowProgress = Callable[[int, int | None, str], None]
"""(done, total, note)"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the group has before it; None where it is not known."""

    stream_length: Annotated[int | None, Metric("gauge", "Entries on the stream.")] = None
    stream_group_lag: Annotated[int | None, Metric("gauge", "Entries not delivered to the group yet.")] = None
    stream_group_lag_seconds: Annotated[float | None, Metric("gauge", "Age of the oldest entry not delivered yet.")] = (
        None
    )
    stream_group_messages_pending: Annotated[
        int | None, Metric("gauge", "Entries delivered to the group and not acknowledged.")
    ] = None
    stream_group_oldest_pending_seconds: Annotated[
        float | None, Metric("gauge", "Age of the oldest pending entry.")
    ] = None

    @property
    def left(self) -> int | None:
        """Undelivered and pending."""
        lag, pending = self.stream_group_lag, self.stream_group_messages_pending
        return None if lag is None or pending is None else lag + pending


class ConsumerProgress:
    """The loop writes it, other threads read plain numbers. `moved` and `last_delivery` (a read that brought entries)
    are by the monotonic clock, `succeeded_timestamp` (entries reached their outcome) in seconds since 1970.

    Without a group nothing is looked up. `wanted`: how many messages the run is for. `on_batch(messages, seconds)` is
    called after each batch. `pending()`: how many entries stay pending if the process ends now. `has_read`: it read at
    least once. `alone`: False where it is one of several streams; then another thread calls `look`, and their sums are
    logged. `writes`: the table takes rows. `stopped_by`: why the run is over, nothing moves any more; '' before.
    """

    def __init__(self, group: Group | None = None, show: ShowProgress | None = None, wanted: int | None = None) -> None:
        self.counters = Counters()
        self.outages = Outages()
        self.backlog = Backlog()
        self.succeeded_timestamp: float | None = None
        self.moved = self.last_delivery = time.monotonic()
        self.pending: Callable[[], int] = lambda: 0
        self.has_read = False
        self.stopped_by = ""
        self.alone = True
        self.writes = True
        self.on_batch: Callable[[int, float], None] = lambda messages, seconds: None
        self._group = group
        self._show = show
        self._wanted = wanted
        self._total: int | None = None
        self._next_look = 0.0
        self._wrote = self.moved
        self._read = 0

    def update(self) -> None:
        """The loop moves: show how far the consumer is."""
        now = self.moved = time.monotonic()
        counters = self.counters
        if self._group is not None and self.alone:
            self.look(self._group)
        if now - self._wrote > SUMMARY_S and self.alone:
            if counters.read != self._read:
                left = self.backlog.left
                counts = fields(**counters.counts(), lag=left)
                log.info("%s, lag %s", counters.line(), "unknown" if left is None else left, extra=counts)
            self._wrote, self._read = now, counters.read
        if self._show is not None:
            note = "" if self._total is None else f"lag {max(0, self._total - counters.read):,}"
            self._show(counters.read, self._total, note)

    def look(self, group: Group) -> None:
        """Look at what the group has before it, now and then."""
        now = time.monotonic()
        if now >= self._next_look:
            self.backlog = _look(group)
            self._next_look = now + min(LONGEST_LOOK_S, max(LOOK_S, SHARE * (time.monotonic() - now)))
            self._count()

    @property
    def waits_for(self) -> str:
        """What is being waited for; '' if every server answers."""
        return self.outages.line()

    @property
    def left(self) -> int | None:
        """Undelivered and pending; None where that is not known."""
        return self.backlog.left

    def moves(self) -> None:
        """The loop moves, and has nothing to look at here."""
        self.moved = time.monotonic()

    def _count(self) -> None:
        left, self.counters.lag = self.backlog.left, self.backlog.stream_group_lag
        self._total = None if left is None else self.counters.read + left
        if self._wanted is not None:
            self._total = self._wanted if self._total is None else min(self._wanted, self._total)

    @property
    def moved_timestamp(self) -> float:
        """When the loop moved last, in seconds since 1970."""
        return now_ms() / 1000 - (time.monotonic() - self.moved)

    @property
    def alive(self) -> bool:
        """Whether the loop moves, be it that it waits for a server that is away."""
        return bool(self.stopped_by) or time.monotonic() - self.moved < STANDSTILL_S

    @property
    def ready(self) -> bool:
        """Whether it does its work: it read since the start, and since the last outage."""
        return bool(self.stopped_by) or (self.alive and not self.counters.waiting)


def _look(group: Group) -> Backlog:
    try:
        info, position = group.stream.info(), group.info()
        if info is None or position is None:
            return Backlog()
        lag = lag_of(group.stream, info, position, limit=10_000, check_bytes=CHECK_BYTES)
        oldest = group.summary().first_id
    except DvctlError:
        return Backlog()
    now = now_ms()
    age = 0.0 if oldest is None else max(0.0, (now - oldest.ms) / 1000)
    return Backlog(info.length, lag.entries, lag.seconds(now), position.pending, age)
