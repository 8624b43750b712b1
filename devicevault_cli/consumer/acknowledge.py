"""The end of a message, after COMMIT: acknowledged, dead-lettered, dropped, or owed until that is possible."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Literal

from devicevault_cli.consumer.batch import Judged, Work
from devicevault_cli.consumer.counters import Tally
from devicevault_cli.consumer.retry import Patience
from devicevault_cli.consumer.stream_watch import StreamWatch
from devicevault_cli.errors import DvctlError, MemoryFull, MissingGroup, Refused, WrongType
from devicevault_cli.operations.save import Outcome, conflicting, rejection
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import INSERTED, Saved
from devicevault_cli.streams.delivery import Delivery
from devicevault_cli.streams.model import EntryId

log = logging.getLogger("dvctl.consume")

OnReject = Literal["dead-letter", "drop"]
RETRY_S = 2.0
TOLD = 20
"""Dead letters of one reason that the log tells one by one: a flood of them must not hide everything else."""


class Settlement:
    """Settles entries of one consumer, and takes what is settled out of its hand.

    `owed`: messages whose letter cannot be written now (no room, no right, a key of another type). They stay pending
    while their neighbours go on.
    """

    def __init__(
        self,
        delivery: Delivery,
        in_hand: dict[EntryId, int],
        tally: Tally,
        patiently: Patience,
        on_reject: OnReject,
        watch: StreamWatch,
    ) -> None:
        self._delivery = delivery
        self._in_hand = in_hand
        self._tally = tally
        self._patiently = patiently
        self._on_reject = on_reject
        self._watch = watch
        self.owed: dict[EntryId, Judged] = {}
        self._tried = time.monotonic()

    def settle(self, work: Work, outcomes: list[Outcome]) -> None:
        """Acknowledge what has its row or was skipped, write the dead letters, count."""
        done = list(work.skipped)
        self._tally.skipped += len(work.skipped)
        for key, record, outcome in zip(work.record_ids, work.records, outcomes, strict=True):
            if outcome != INSERTED:
                if bad := rejection(outcome, record):
                    work.rejected.append((key, bad))
                    continue
                self._count_duplicate(outcome, record, key)
            done.append(key)
        self._tally.persisted += outcomes.count(INSERTED)
        if done:
            acknowledged = self._patiently(lambda: self._acknowledge(work, done))
            if acknowledged < len(done) and self._watch.look() is None and work.generation == self._watch.generation:
                log.info(
                    "%d of %d entries were no longer pending when this consumer tried to acknowledge them",
                    len(done) - acknowledged,
                    len(done),
                )
            self._let_go(done)
        for key, bad in work.rejected:
            if work.generation == self._watch.generation:
                self.reject(work.judged(key, bad))
            else:
                log.error("entry %s left the stream before its dead letter was written: %s (%s)", key, *bad)
                self._tally.gone += 1
                self._let_go([key])

    def _acknowledge(self, work: Work, done: list[EntryId]) -> int:
        """After a restart of the stream the ids may be those of other entries, which nobody has processed."""
        return self._delivery.group.acknowledge(done) if work.generation == self._watch.generation else 0

    def reject(self, judged: Judged) -> None:
        """Dead-letter or drop; what cannot be written now is owed."""
        try:
            self._patiently_but(lambda: self._write_off(judged))
        except (WrongType, MemoryFull, Refused) as error:
            if judged.id not in self.owed:
                log.error("entry %s stays pending, its dead letter cannot be written: %s", judged.id, error)
            self.owed[judged.id] = judged
            return
        except MissingGroup:
            # Nothing is pending any more; once the group is made again, at 0, the message comes again.
            log.info("entry %s: the group went away before its dead letter was written", judged.id)
        self.owed.pop(judged.id, None)
        self._let_go([judged.id])

    def pay(self) -> None:
        """Try what is owed again, now and then."""
        if self.owed and time.monotonic() - self._tried > RETRY_S:
            self._tried = time.monotonic()
            for judged in list(self.owed.values()):
                self.reject(judged)

    def _count_duplicate(self, outcome: Outcome, record: Record, key: EntryId) -> None:
        self._tally.duplicates += 1
        if isinstance(outcome, Saved) and outcome.existing and conflicting(outcome.existing, record):
            self._tally.conflicting += 1
            log.warning("entry %s: its row %d has another device or status; the row stays", key, outcome.existing.id)

    def _patiently_but(self, action: Callable[[], None]) -> None:
        """Wait for Redis to come back, but not for room in it, a right, or a key of the right type."""
        refusal: DvctlError | None = None

        def attempt() -> None:
            nonlocal refusal
            try:
                action()
            except (MemoryFull, Refused, WrongType) as error:
                refusal = error

        self._patiently(attempt)
        if refusal is not None:
            raise refusal

    def _write_off(self, judged: Judged) -> None:
        key, first, (reason, detail) = judged
        if self._on_reject == "drop":
            self._delivery.discard(key, reason)
            self._tally.dropped += 1
            log.warning("entry %s dropped: %s (%s)", key, reason, detail)
        elif self._delivery.dead_letter(key, first, reason, detail):
            self._tally.dead_lettered += 1
            seen = self._tally.reasons[reason] = self._tally.reasons.get(reason, 0) + 1
            log.log(
                logging.INFO if seen <= TOLD else logging.DEBUG, "entry %s dead-lettered: %s (%s)", key, reason, detail
            )
            if seen == TOLD:
                log.info("further dead letters for %s are not told here: `dvctl dlq list` has them", reason)
        else:
            self._tally.gone += 1

    def _let_go(self, ids: Iterable[EntryId]) -> None:
        for key in ids:
            self._in_hand.pop(key, None)
