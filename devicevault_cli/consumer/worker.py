"""The worker: read -> submit -> finish the batch before. Nothing is acknowledged before it is saved and dispatched."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

from devicevault_cli.consumer.acknowledge import Acknowledger
from devicevault_cli.consumer.batch import Batch, Quarantined, RejectedEntry
from devicevault_cli.consumer.breaker import Breaker
from devicevault_cli.consumer.counters import Counters
from devicevault_cli.consumer.dispatch import (
    Dispatch,
    DispatchOff,
    DispatchUnconfigured,
    NoConfigurations,
    StorageDispatch,
)
from devicevault_cli.consumer.failover import FailoverWatch
from devicevault_cli.consumer.group_member import GroupMember
from devicevault_cli.consumer.heartbeat import Heartbeat
from devicevault_cli.consumer.in_hand import InHand
from devicevault_cli.consumer.namesake import living_namesake
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.outages import BROKER, DATABASE, REDIS, Outages
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.consumer.reader import MAX_ATTEMPTS_ALONE, EntryReader
from devicevault_cli.consumer.retry import Retry, shown_wait
from devicevault_cli.consumer.shutdown import Stop, Stopped
from devicevault_cli.consumer.stream_watch import StreamWatch
from devicevault_cli.consumer.waiting import Waiting
from devicevault_cli.consumer.writer import BatchWriter, Submitted
from devicevault_cli.errors import (
    BadConfig,
    DvctlError,
    MissingGroup,
    OtherServer,
    Refused,
    TableAtFault,
    Unavailable,
    WrongType,
)
from devicevault_cli.log_fields import fields
from devicevault_cli.messages import Rejected
from devicevault_cli.operations.rate_limit import RateLimiter
from devicevault_cli.operations.save import Outcome
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.streams.clients import Namesake
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import now_ms

if TYPE_CHECKING:
    from devicevault_cli.broker.publisher import Delivery, Publisher
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")

BLOCK_MS = 500
"""How long an idle read waits: short, so that a signal is answered at once. DeviceVault's scripts kill after 2 s."""
NOTES_LOGGED = 3

T = TypeVar("T")

StopReason: TypeAlias = Literal["drained", "max-messages", "signal", "max-wait", "missing-group"]


class Saved(NamedTuple):
    """A batch whose transaction is over. `delivery`: what the broker has to confirm first; None: nothing."""

    submitted: Submitted
    outcomes: Sequence[Outcome]
    delivery: Delivery[EntryId] | None


def make_dispatch(
    stream: str,
    repository: Repository,
    pipeline: Pipeline,
    publisher: Publisher | DispatchOff | None,
    retry: Retry,
    waiting: Waiting,
    counters: Counters,
) -> Dispatch:
    """What becomes of the configurations of a stream. `publisher`: None, no broker is configured."""
    if isinstance(publisher, DispatchOff):
        return publisher
    if not pipeline.dispatches:
        return NoConfigurations(repository)
    if publisher is None:
        return DispatchUnconfigured(repository, retry)
    return StorageDispatch(stream, repository, publisher, retry, waiting, counters)


def report(batch: Batch, counters: Counters) -> None:
    """Count and log what is remarkable about a batch."""
    if batch.gone:
        counters.gone += len(batch.gone)
        gone = fields(count=len(batch.gone), reason="gone")
        log.warning("%d pending entries are gone from the stream; cleared", len(batch.gone), extra=gone)
    for key, name in batch.notes:
        seen = counters.notes.get(name, 0)
        counters.notes[name] = seen + 1
        level = logging.WARNING if seen < NOTES_LOGGED else logging.DEBUG
        about = fields(entry=str(key), field=name)
        log.log(level, "entry %s: %s is unusable or implausible", key, name, extra=about)


def log_outage(error: DvctlError, seconds: float, outages: Outages) -> None:
    """An attempt failed, and the next one is in so many seconds."""
    needs_repair = isinstance(error, (Refused, BadConfig, OtherServer, TableAtFault, WrongType))
    level = logging.ERROR if needs_repair else logging.WARNING
    outage = outages.failed(error)
    about = fields(server=error.server or DATABASE, attempts=outage.attempts, retry_in_s=round(seconds, 3))
    hint = f" ({error.hint})" if error.hint else ""
    log.log(level, "%s; next try %s%s", error, shown_wait(seconds), hint, extra=about)


class Worker:
    """One consumer of one group, until it is drained, done, stopped or without a group."""

    def __init__(
        self,
        consumer: GroupConsumer,
        repository: Repository,
        pipeline: Pipeline,
        options: ConsumeOptions,
        stop: Stop,
        progress: ConsumerProgress | None = None,
        publisher: Publisher | DispatchOff | None = None,
    ) -> None:
        """`publisher`: where configurations go; None: no broker is configured."""
        self.consumer = consumer
        self.repository = repository
        self.options = options
        self.progress = progress or ConsumerProgress()
        self.counters = self.progress.counters
        self.counters.started = time.monotonic()  # not when the drivers were still being imported
        self.database_is_writable = False
        """It has just been checked."""
        self._stop = stop
        self._in_hand = in_hand = InHand()
        self.progress.pending = in_hand.__len__
        self._rate = None if options.rate is None else RateLimiter(options.rate)
        self._waiting = Waiting(stop, self.counters, options.max_wait_s, self._observe)
        self._outages = self.progress.outages
        self.failover = FailoverWatch(
            consumer.group, pipeline, repository, options.recheck_s, self.counters, self._waiting.for_server
        )
        self._retry = Retry(stop, self._waiting, self._failed, self._outages.recovered, self.failover.agree)
        self._watch = StreamWatch(consumer.group, self.counters, in_hand)
        self.dispatch = make_dispatch(
            consumer.stream.key, repository, pipeline, publisher, self._retry, self._waiting, self.counters
        )
        self._heartbeat = Heartbeat(consumer, in_hand, self.progress, options.claim_idle_s)
        self.member = GroupMember(consumer, self._watch, options.on_missing_group)
        keep = self.dispatch.keeps_configurations
        self._reader = EntryReader(consumer, pipeline, repository, in_hand, options, keep_configurations=keep)
        self._writer = BatchWriter(repository, self._retry, self._waiting, Breaker(consumer.group, repository, options))
        self._acknowledger = Acknowledger(consumer, in_hand, self.counters, self._retry, self._watch, options.on_reject)
        self._counts_restored = False
        self._saved: Saved | None = None
        self._alone: Quarantined | None = None

    def namesake(self) -> Namesake | None:
        """Who else consumes under the name. Redis is waited for; a request to stop is left to `run`."""
        try:
            return self._retry(lambda: living_namesake(self.consumer.stream, self._stop))
        except (MissingGroup, Stopped):
            return None

    def run(self) -> StopReason:
        """Consume. -> why it ended"""
        reason: StopReason
        try:
            with self._heartbeat:
                self._retry(self._prepare)
                reason = self._consume()
        except Stopped:
            reason = "signal" if self._stop.is_set() else "max-wait"
        except MissingGroup as error:
            log.error("%s", error, extra=fields(reason="missing-group"))
            reason = "missing-group"
        with suppress(Stopped):
            if self.member.leave():
                self._watch.look()  # the marker says where this consumer left the stream
        return reason

    def _prepare(self) -> None:
        """Nothing is read or claimed before the database and the broker have answered."""
        self.repository.check(writing=not self.database_is_writable)
        self.repository.require_single_writer()
        self._outages.answered(DATABASE)
        self.dispatch.check()
        if self.dispatch.keeps_configurations:
            self._outages.answered(BROKER)
        self.member.join()
        self._outages.answered(REDIS)
        if self.options.retire_after_ms is not None:
            self.member.retire_idle(self.options.retire_after_ms)
        self.failover.agree()
        self.look_at_table()
        with suppress(MissingGroup):  # deleted in this moment: the first read deals with it
            self.member.warn_of_others(unique_index=self.repository.unique_index)

    def look_at_table(self) -> None:
        """Compare the table with the stream, once, after what the stream itself tells."""
        self._watch.look_at_table(self.repository)

    # --- the loop

    def _consume(self) -> StopReason:
        before: Submitted | None = None
        while (reason := self._reason_to_end(before)) is None:
            batch = self._next(before)
            if isinstance(batch, Quarantined):
                self._finish(before)
                self._settle()
                self._process_alone(batch)
                before = None
                continue
            # Before the last one is finished, so that the database need not wait for Redis.
            submitted = self._submit(batch) if batch else None
            self._finish(before)
            if submitted is None:
                self._settle()
            if before is not None or submitted is None:
                self._observe()
            if before is None and submitted is None and self.failover.look_while_idle():
                self._retry(self.failover.look)
            before = submitted
        self._finish(before)
        self._settle()
        return reason

    def _submit(self, batch: Batch) -> Submitted:
        if batch.configurations:
            self._writer.prepare(batch)
            self.dispatch.look_up(batch)  # once the database is free, and before it gets the next transaction
        return self._writer.submit(batch)

    def _next(self, before: Submitted | None) -> Batch | Quarantined:
        """Read while the database works on the batch before; wait for entries only if there is none."""
        limit = self._limit()
        if limit <= 0 or len(self._acknowledger.unwritten) >= self.options.batch_size:
            if before is None:
                self._stop.wait(0.2)
            return Batch()
        if before is None:
            return self._retry(lambda: self._read(limit, None if self.options.drain else BLOCK_MS))
        try:
            return self._read(limit, None)
        except (Unavailable, Refused, BadConfig, WrongType):
            self._reader.recover()
            return Batch()

    def _read(self, limit: int, block_ms: int | None) -> Batch | Quarantined:
        try:
            batch = self._reader.next(limit, block_ms)
        except MissingGroup:
            self.member.join()
            return Batch()
        self._counts_restored = self.counters.waiting = False
        self.progress.has_read = True
        self._outages.answered(REDIS)
        counts = {batch.id: batch.count} if isinstance(batch, Quarantined) else batch.counts
        if counts:
            self.progress.last_delivery = time.monotonic()
        self._in_hand.add(counts)
        self.counters.taken += len(counts)
        self.counters.reclaimed += batch.reclaimed
        if isinstance(batch, Quarantined):
            self._alone = batch
        else:
            report(batch, self.counters)
        return batch

    def _finish(self, submitted: Submitted | None) -> None:
        """Wait for the database, then acknowledge, or leave that to `_settle` if the broker has to confirm first.

        So the broker works on the configurations of this batch while the next one is read and saved.
        """
        if submitted is None:
            return
        outcomes = self._writer.outcomes(submitted)
        self.counters.table_refuses_rows = False
        if submitted.batch.records:
            self._outages.answered(DATABASE)
            self.failover.saved()
        delivery = self.dispatch.begin(submitted.batch, outcomes.each, repeated=outcomes.repeated)
        self._settle()
        self._saved = Saved(submitted, outcomes.each, delivery)
        if delivery is None:
            self._settle()

    def _settle(self) -> None:
        """Wait until the broker has confirmed what the last saved batch brought, then acknowledge the batch."""
        if self._saved is None:
            return
        submitted, outcomes, delivery = self._saved
        if delivery is not None:
            self.dispatch.complete(delivery)
        self._saved = None
        self._acknowledger.finish(submitted.batch, outcomes)
        messages = len(submitted.batch.counts)
        self.progress.succeeded_timestamp = now_ms() / 1000
        self.progress.on_batch(messages, time.monotonic() - submitted.at)
        if self._rate is not None:
            self._waiting.rest(self._rate.after(messages))

    def _process_alone(self, entry: Quarantined) -> None:
        """Process an entry that was delivered too often in a batch of its own; after some attempts, reject it."""
        if entry.attempts >= MAX_ATTEMPTS_ALONE:
            self._retry(self.repository.check)
            detail = f"delivered {entry.count} times, of these {entry.attempts} alone; no attempt came to an end"
            self._acknowledger.reject(RejectedEntry(entry.id, entry.id, Rejected("max-deliveries", detail)))
        else:
            about = fields(entry=str(entry.id), deliveries=entry.count)
            log.warning("entry %s was delivered %d times already: processed alone", entry.id, entry.count, extra=about)
            batch = self._retry(lambda: self._reader.read(entry))
            if batch is not None:
                report(batch, self.counters)
                self._finish(self._submit(batch))
                self._settle()
            else:
                # Deleted in this moment: found to be gone when the own pending entries are read.
                self._in_hand.remove([entry.id])
                self._reader.recover()
        self._alone = None
        if entry.id not in self._acknowledger.unwritten:
            self._retry(lambda: self.consumer.end_alone(entry.id))
        self._observe()

    # --- outages, and what others see

    def _failed(self, error: DvctlError, seconds: float) -> None:
        """Log an outage. The first time, restore the delivery counts that were found, so that only crashes count."""
        self.counters.deferred_retries += 1
        self.counters.waiting = True
        self.counters.table_refuses_rows = isinstance(error, TableAtFault)
        log_outage(error, seconds, self._outages)
        self._reader.recover()
        if not self._counts_restored and len(self._in_hand):
            try:
                self.consumer.renew(dict(self._in_hand.counts()))
                if self._alone is not None:
                    self.consumer.end_alone(self._alone.id, begun=self._alone.attempts)
                self._counts_restored = True
            except DvctlError:
                log.debug("delivery counts could not be restored yet")

    def _observe(self) -> None:
        """At the edge of the loop, and about once a second while it waits."""
        self.counters.in_hand = len(self._in_hand)
        self.progress.update()
        self._watch.tick()
        self.failover.tick()
        self._acknowledger.retry_unwritten()

    # --- the end

    def _limit(self) -> int:
        """How many entries may be read now."""
        limit = self.options.batch_size
        if self._rate is not None:
            limit = self._rate.at_once(limit)
        if self.options.max_messages is not None:
            limit = min(limit, self.options.max_messages - self.counters.taken)
        return limit

    def _reason_to_end(self, before: Submitted | None) -> StopReason | None:
        if self._stop.is_set():
            return "signal"
        if before is not None or len(self._in_hand) > len(self._acknowledger.unwritten):
            return None
        if self.options.max_messages is not None and self.counters.taken >= self.options.max_messages:
            return "max-messages"
        if self.options.drain and self._drained():
            return "drained"
        if self._waiting.out_of_time():
            return "max-wait"
        return None

    def _drained(self) -> bool:
        """Nothing undelivered and nothing pending, also for others; else wait a little for what they hold."""
        info = self._retry(self.consumer.group.info)
        if info is None:
            return False
        if info.pending:
            self._stop.wait(0.05)
            return False
        newest = self._retry(self.consumer.stream.info)
        return newest is None or not newest.has_entries_after(info.last_delivered_id)
