"""The end of a message, after COMMIT: acknowledged, dead-lettered or dropped."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from devicevault_cli.consumer.batch import Batch, RejectedEntry
from devicevault_cli.consumer.counters import Counters
from devicevault_cli.consumer.in_hand import InHand
from devicevault_cli.consumer.options import OnReject
from devicevault_cli.consumer.retry import Once, Retry, is_outage
from devicevault_cli.consumer.stream_watch import StreamWatch
from devicevault_cli.errors import MemoryFull, MissingGroup, Refused, WrongType
from devicevault_cli.log_fields import fields
from devicevault_cli.messages import Rejected
from devicevault_cli.operations.save import Outcome, conflicting, decided
from devicevault_cli.records import Record
from devicevault_cli.repository.model import INSERTED, Saved
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.model import EntryId

log = logging.getLogger("dvctl.consume")

RETRY_S = 2.0
LOGGED_PER_REASON = 20
"""Dead letters of one reason that are logged one by one: a flood of them must not hide everything else."""
CANNOT_WRITE = (MemoryFull, Refused, WrongType)
"""Redis has no room, grants no right, or the key has another type: the letter is retried later, without waiting."""


class _Acknowledgement(NamedTuple):
    """Entries that have their row, or were skipped."""

    batch: Batch
    done: list[EntryId]


class _Rejection(NamedTuple):
    """An entry of which the message is bad."""

    batch: Batch
    entry: RejectedEntry


class Acknowledger:
    """Brings the entries of one consumer to their outcome, and removes them from what is in hand.

    `unwritten`: entries whose dead letter cannot be written now. They stay pending while others go on.
    """

    def __init__(
        self,
        consumer: GroupConsumer,
        in_hand: InHand,
        counters: Counters,
        retry: Retry | Once,
        watch: StreamWatch,
        on_reject: OnReject,
    ) -> None:
        self._consumer = consumer
        self._in_hand = in_hand
        self._counters = counters
        self._retry = retry
        self._watch = watch
        self._on_reject = on_reject
        self.unwritten: dict[EntryId, RejectedEntry] = {}
        self._generation = in_hand.generation
        self._tried = time.monotonic()
        self._steps: deque[_Acknowledgement | _Rejection] = deque()
        self._sent: Callable[[], int] | None = None

    def finish(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Acknowledge what has its row or was skipped, reject the rest. `outcomes`: one for each record, in order."""
        self.begin(batch, outcomes)
        self.complete()

    def begin(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """As `finish`, but nothing is sent to Redis before `send` or `complete`."""
        done = list(batch.skipped)
        rejected = list(batch.rejected)
        inserted = outcomes.count(INSERTED)
        if inserted == len(batch.record_ids):  # no record is looked at
            done += batch.record_ids
        else:
            done += self._stored(batch, outcomes, rejected)
        self._counters.skipped += len(batch.skipped)
        self._counters.persisted += inserted
        if done:
            self._steps.append(_Acknowledgement(batch, done))
        self._steps += [_Rejection(batch, entry) for entry in rejected]

    def send(self) -> None:
        """Send the first acknowledgement of `complete`: so several servers are waited for at once."""
        first = self._steps[0] if self._steps else None
        if isinstance(first, _Acknowledgement) and first.batch.generation == self._in_hand.generation:
            self._sent = self._consumer.group.begin_acknowledge(first.done)

    def complete(self) -> None:
        """Tell Redis what became of the entries of `begin`. Where `retry` lets an outage through: the rest, later."""
        while self._steps:
            step = self._steps[0]
            if isinstance(step, _Acknowledgement):
                self._acknowledge(*step)
            else:
                self._reject_of(*step)
            self._steps.popleft()

    def _reject_of(self, batch: Batch, entry: RejectedEntry) -> None:
        if batch.generation == self._in_hand.generation:
            self.reject(entry)
        else:
            text = "entry %s left the stream before its dead letter was written: %s (%s)"
            log.error(text, entry.id, *entry.rejected, extra=_about(entry))
            self._counters.gone += 1

    def _stored(self, batch: Batch, outcomes: Sequence[Outcome], rejected: list[RejectedEntry]) -> Iterator[EntryId]:
        """Entries that have their row; the others are added to `rejected`."""
        for number, (key, outcome) in enumerate(zip(batch.record_ids, outcomes, strict=True)):
            if outcome != INSERTED:
                record = batch.records[number]
                known = decided(outcome, record)
                if isinstance(known, Rejected):
                    rejected.append(RejectedEntry(key, batch.first_ids.get(key, key), known))
                    continue
                self._count_existing(known, record, key)
            yield key

    def _acknowledge(self, batch: Batch, done: list[EntryId]) -> None:
        acknowledged = self._retry(lambda: self._acknowledged(batch, done))
        missing = len(done) - acknowledged
        if missing and self._watch.look() is None and batch.generation == self._in_hand.generation:
            log.info(
                "%d of %d entries were no longer pending when this consumer tried to acknowledge them",
                missing,
                len(done),
                extra=fields(count=missing, of=len(done)),
            )
        self._in_hand.remove(done)

    def _acknowledged(self, batch: Batch, done: list[EntryId]) -> int:
        sent, self._sent = self._sent, None
        if sent is not None:
            return sent()
        # After a restart of the stream the ids may be those of other entries, which nobody has processed.
        return self._consumer.group.acknowledge(done) if batch.generation == self._in_hand.generation else 0

    def reject(self, entry: RejectedEntry) -> None:
        """Dead-letter or drop an entry, or keep it in `unwritten` if that is not possible now."""
        try:
            self._retry(
                lambda: self._write(entry),
                retry_if=lambda error: is_outage(error) and not isinstance(error, CANNOT_WRITE),
            )
        except CANNOT_WRITE as error:
            self._forget_older_generations()
            if entry.id not in self.unwritten:
                text = "entry %s stays pending, its dead letter cannot be written: %s"
                log.error(text, entry.id, error, extra=_about(entry))
            self.unwritten[entry.id] = entry
            return
        except MissingGroup:
            # Nothing is pending any more; once the group is created again, at 0, the message is delivered again.
            text = "entry %s: the group went away before its dead letter was written"
            log.info(text, entry.id, extra=_about(entry))
        self.unwritten.pop(entry.id, None)
        self._in_hand.remove([entry.id])

    def retry_unwritten(self) -> None:
        """Try to write what could not be written, every RETRY_S."""
        self._forget_older_generations()
        if self.unwritten and time.monotonic() - self._tried > RETRY_S:
            self._tried = time.monotonic()
            for entry in list(self.unwritten.values()):
                self.reject(entry)

    def _forget_older_generations(self) -> None:
        if self._generation != self._in_hand.generation:
            self._generation = self._in_hand.generation
            self.unwritten.clear()

    def _count_existing(self, saved: Saved, record: Record, key: EntryId) -> None:
        if saved.outcome == "replaced" and saved.existing:
            self._counters.replaced += 1
            about = fields(entry=str(key), row=saved.existing.id, device=record.device_id)
            text = "entry %s replaced row %d, whose status was %s"
            log.info(text, key, saved.existing.id, saved.existing.status, extra=about)
            return
        self._counters.duplicates += 1
        if saved.existing and conflicting(saved.existing, record):
            self._counters.conflicting += 1
            about = fields(entry=str(key), row=saved.existing.id, device=record.device_id, reason="conflicting")
            text = "entry %s: its row %d has another device or status; the row stays"
            log.warning(text, key, saved.existing.id, extra=about)

    def _write(self, entry: RejectedEntry) -> None:
        key, first, (reason, detail) = entry
        if self._on_reject == "drop":
            self._consumer.discard(key, reason)
            self._counters.dropped += 1
            log.warning("entry %s dropped: %s (%s)", key, reason, detail, extra=_about(entry))
        elif self._consumer.dead_letter(key, first, reason, detail):
            self._counters.dead_lettered += 1
            seen = self._counters.reasons[reason] = self._counters.reasons.get(reason, 0) + 1
            level = logging.WARNING if seen <= LOGGED_PER_REASON else logging.DEBUG
            log.log(level, "entry %s dead-lettered: %s (%s)", key, reason, detail, extra=_about(entry))
            if seen == LOGGED_PER_REASON:
                text = "suppressing further dead letters for %s; run `dvctl dlq list` to see them"
                log.warning(text, reason, extra=fields(reason=reason, count=seen))
        else:
            self._counters.gone += 1


def _about(entry: RejectedEntry) -> dict[str, Mapping[str, object]]:
    reason, detail = entry.rejected
    return fields(entry=str(entry.id), first_id=str(entry.first), reason=reason, detail=detail)
