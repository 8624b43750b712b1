"""What others see of a consumer of several streams: each of them has its progress, and together they have this one."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from devicevault_cli.consumer.counters import Counters, summed
from devicevault_cli.consumer.progress import SUMMARY_S, ConsumerProgress
from devicevault_cli.log_fields import fields

log = logging.getLogger("dvctl.consume")

AT_ONCE_S = 0.005
"""How long the loop may look at streams before it reads again; the next look begins with those that are left."""


class StreamsProgress:
    """Sums of several ConsumerProgress. `stopped_by`: why the run is over; '' before."""

    def __init__(self, each: Sequence[ConsumerProgress]) -> None:
        self.each = each
        for one in each:
            one.alone = False
        self._stopped_by = ""
        self._wrote = time.monotonic()
        self._read = 0

    @property
    def counters(self) -> Counters:
        """The sums, as they are now."""
        return summed(one.counters for one in self.each)

    @property
    def stopped_by(self) -> str:
        return self._stopped_by

    @stopped_by.setter
    def stopped_by(self, reason: str) -> None:
        self._stopped_by = reason
        for one in self.each:
            one.stopped_by = reason

    @property
    def alive(self) -> bool:
        """Whether the loop moves."""
        return all(one.alive for one in self.each)

    @property
    def ready(self) -> bool:
        """Whether it does its work: it reads at least one of the streams, and the table takes rows."""
        return self.each[0].writes and any(one.ready for one in self.each)

    @property
    def has_read(self) -> bool:
        """Whether any of the streams was read."""
        return any(one.has_read for one in self.each)

    @property
    def waits_for(self) -> str:
        """What is being waited for, each server once; '' if all answer."""
        lines = dict.fromkeys(one.outages.line() for one in self.each)
        return ", ".join(filter(None, lines))

    @property
    def left(self) -> int | None:
        """Undelivered and pending; None where that is not known of one of the streams."""
        lefts = [one.backlog.left for one in self.each]
        return None if None in lefts else sum(left for left in lefts if left is not None)

    def pending(self) -> int:
        """How many entries stay pending if the process ends now."""
        return sum(one.pending() for one in self.each)

    def tell(self) -> None:
        """Log the sums now and then."""
        now = time.monotonic()
        if now - self._wrote > SUMMARY_S:
            counters, left = self.counters, self.left
            if counters.read != self._read:
                counts = fields(**counters.counts(), lag=left)
                log.info("%s, lag %s", counters.line(), "unknown" if left is None else left, extra=counts)
            self._wrote, self._read = now, counters.read
