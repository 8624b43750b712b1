"""The worker of several streams: as the worker of one, but a batch holds entries of all that have some.

Each stream has a blocking read of a few entries under way on a connection of its own; the loop waits for all of them at
once. What has more is read page by page, a page of each in turn, until the batch is full. A stream whose server is away
is retried by itself while the others are read.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from devicevault_cli.consumer.batch import Batch, Quarantined, RejectedEntry, joined
from devicevault_cli.consumer.breaker import Breaker
from devicevault_cli.consumer.namesake import living_namesake
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.outages import BROKER, DATABASE, REDIS
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.consumer.reader import BATCH_BYTES, MAX_ATTEMPTS_ALONE, PER_READ_OF_SMALL
from devicevault_cli.consumer.retry import Retry, is_outage
from devicevault_cli.consumer.shutdown import Stop, Stopped
from devicevault_cli.consumer.source import BLOCK_MS, Source
from devicevault_cli.consumer.streams_progress import AT_ONCE_S, StreamsProgress
from devicevault_cli.consumer.waiting import Waiting
from devicevault_cli.consumer.worker import StopReason, log_outage, make_dispatch, report
from devicevault_cli.consumer.writer import BatchWriter, Submitted
from devicevault_cli.errors import DvctlError, MissingGroup, TableAtFault
from devicevault_cli.log_fields import fields
from devicevault_cli.messages import Rejected
from devicevault_cli.operations.rate_limit import RateLimiter
from devicevault_cli.operations.save import Outcome
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.record_columns import joined as joined_records
from devicevault_cli.streams.clients import Namesake
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.model import EntryId

if TYPE_CHECKING:
    from devicevault_cli.broker.publisher import Delivery, Publisher
    from devicevault_cli.consumer.dispatch import DispatchOff
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")

PAUSE_S = 0.05
"""Between two looks where nothing can be waited for."""


class Part(NamedTuple):
    """What a round holds of one stream."""

    source: Source
    batch: Batch


@dataclass(slots=True)
class Round:
    """What was read at once. `alone`: an entry that is to be processed alone, after the parts."""

    parts: list[Part] = field(default_factory=list)
    alone: tuple[Source, Quarantined] | None = None

    def __bool__(self) -> bool:
        return bool(self.parts)

    def records(self) -> Batch:
        """What the database gets: the records of all parts, in their order."""
        return Batch(records=joined_records([part.batch.records for part in self.parts]))


class Sent(NamedTuple):
    """The parts whose records the database has got."""

    parts: Sequence[Part]
    submitted: Submitted


class Saved(NamedTuple):
    """A part whose transaction is over. `delivery`: what the broker has to confirm first; None: nothing."""

    part: Part
    outcomes: Sequence[Outcome]
    delivery: Delivery[EntryId] | None
    at: float


class StreamsWorker:
    """One consumer of one group on several streams, until it is drained, done, stopped or without a group."""

    def __init__(
        self,
        consumers: Sequence[GroupConsumer],
        repository: Repository,
        pipeline: Pipeline,
        options: ConsumeOptions,
        stop: Stop,
        progress: StreamsProgress | None = None,
        publisher: Publisher | DispatchOff | None = None,
    ) -> None:
        """`publisher`: where configurations go; None: no broker is configured."""
        self.repository = repository
        self.options = options
        self.progress = progress or StreamsProgress([ConsumerProgress() for _ in consumers])
        self.database_is_writable = False
        """It has just been checked."""
        self._stop = stop
        first = self.progress.each[0]
        for one in self.progress.each:
            one.counters.started = time.monotonic()
        self._rate = None if options.rate is None else RateLimiter(options.rate)
        self._waiting = Waiting(stop, first.counters, options.max_wait_s, self._observe)
        self._outages = first.outages
        self._retry = Retry(stop, self._waiting, self._failed, self._recovered, self._agree)
        self._sources = [
            Source(
                consumer, repository, pipeline, options, one,
                make_dispatch(
                    consumer.stream.key, repository, pipeline, publisher, self._retry, self._waiting, one.counters
                ),
                self._waiting.for_server,
            )
            for consumer, one in zip(consumers, self.progress.each, strict=True)
        ]  # fmt: skip
        self.dispatch = self._sources[0].dispatch
        breaker = Breaker(consumers[0].group, repository, options)
        self._writer = BatchWriter(repository, self._retry, self._waiting, breaker)
        # Only a run without an end waits for entries.
        self._waits = not options.drain and options.max_messages is None
        self._turn = 0
        self._observed = 0
        self._counts_restored = False
        self._saved: list[Saved] = []

    def run(self) -> StopReason:
        """Consume. -> why it ended"""
        reason: StopReason
        try:
            with ExitStack() as beating:
                for source in self._sources:
                    beating.enter_context(source.heartbeat)
                self._retry(self._prepare)
                self._join_all()
                self._retry(self._agree)
                reason = self._consume()
        except Stopped:
            reason = "signal" if self._stop.is_set() else "max-wait"
        except MissingGroup as error:
            log.error("%s", error, extra=fields(reason="missing-group"))
            reason = "missing-group"
        for source in self._sources:
            source.consumer.forget_asked()
            with suppress(Stopped):
                if source.due and source.member.leave():
                    source.watch.look()  # the marker says where this consumer left the stream
        return reason

    def checks(self) -> Iterator[Callable[[], object]]:
        """What a start asks of each stream, beside the database and the broker."""
        for source in self._sources:
            yield source.consumer.stream.ping
            yield source.member.take_part
            yield source.failover.check

    def namesake(self) -> Namesake | None:
        """Who else consumes under the name, by the first stream whose server answers."""
        for source in self._sources:
            with suppress(DvctlError):
                try:
                    return living_namesake(source.consumer.stream, self._stop)
                except Stopped:  # left to `run`
                    return None
        return None

    def _prepare(self) -> None:
        """Nothing is read or claimed before the database and the broker have answered."""
        self.repository.check(writing=not self.database_is_writable)
        self._outages.answered(DATABASE)
        for source in self._sources:
            source.dispatch.check()
        if self.dispatch.keeps_configurations:
            self._outages.answered(BROKER)

    def _join_all(self) -> None:
        for source in self._sources:
            if self._tried(source, source.join) and source.due:
                with suppress(DvctlError):  # deleted in this moment: the first read deals with it
                    source.member.warn_of_others(unique_index=self.repository.unique_index)

    def _agree(self) -> None:
        """Agree on the database server, for each stream whose Redis answers; for the others before they are read."""
        for source in self._sources:
            source.agreed = False
        for source in self._sources:
            if source.due:
                self._tried(source, source.agree)

    def _agreed(self, source: Source) -> bool:
        """Whether a stream whose Redis was away knows the database server by now."""

        def agree() -> None:
            self._retry(source.agree, retry_if=lambda error: is_outage(error) and not _is_of_redis(error))

        return source.agreed or self._tried(source, agree)

    def _look_at_database(self) -> None:
        for source in self._sources:
            if source.due:
                self._tried(source, source.failover.look)

    # --- the loop

    def _consume(self) -> StopReason:
        before: Sent | None = None
        while (reason := self._reason_to_end(before)) is None:
            found = self._next(waiting=before is None)
            sent = self._submit(found.parts) if found else None
            self._finish(before)
            if sent is None or found.alone is not None:
                self._finish(sent)
                self._settle()
                sent = None
            if found.alone is not None:
                self._process_alone(*found.alone)
            if before is not None or sent is None:
                self._observe()
            if before is None and sent is None and self._sources[0].failover.look_while_idle():
                self._retry(self._look_at_database)
            before = sent
        self._finish(before)
        self._settle()
        return reason

    def _submit(self, parts: Sequence[Part]) -> Sent:
        batch = Round(list(parts)).records()
        if any(part.batch.configurations for part in parts):
            self._writer.prepare(batch)
            for source, own in parts:
                source.dispatch.look_up(own)
        return Sent(parts, self._writer.submit(batch))

    # --- reading

    def _next(self, *, waiting: bool) -> Round:
        """What is there; where nothing is and `waiting`, wait for it."""
        limit = self.options.batch_size if self._stop.is_set() else self._limit()
        left = sum(len(source.acknowledger.unwritten) for source in self._sources)
        if limit <= 0 or left >= self.options.batch_size:
            if waiting:
                self._stop.wait(0.2)
            return Round()
        answered = self._answered(0.0)
        ready = self._ready(answered)
        if not ready and waiting:
            answered = self._wait()
            ready = self._ready(answered)
        found = self._read(ready, limit, answered)
        self._ask()
        return found

    def _ready(self, answered: set[int]) -> list[Source]:
        """The streams that may have something, the one first that comes after the first of the last round."""
        self._turn = (self._turn + 1) % len(self._sources)
        ordered = self._sources[self._turn :] + self._sources[: self._turn]
        return [source for source in ordered if self._is_ready(source, answered)]

    def _is_ready(self, source: Source, answered: set[int]) -> bool:
        if id(source) in answered:
            return True
        if source.overdue:
            source.gave_no_answer()
        if not source.due or self._stop.is_set():
            return False
        polled = source.consumer.asked is None and (source.embedded or not self._waits)
        return source.reader.has_more or (polled and time.monotonic() - source.looked >= PAUSE_S)

    def _answered(self, seconds: float) -> set[int]:
        """The streams whose read is answered, at the latest after so many seconds."""
        poll = select.poll()
        waited: dict[int, int] = {}
        for source in self._sources:
            asked = source.consumer.asked
            if asked is not None and (socket := asked.socket) is not None:
                poll.register(socket, select.POLLIN)
                waited[socket.fileno()] = id(source)
        if not waited:
            if seconds:
                self._stop.wait(min(seconds, PAUSE_S))
            return set()
        return {waited[number] for number, _ in poll.poll(seconds * 1000)}

    def _wait(self) -> set[int]:
        """Until a stream has something, or one that is away may be asked again; half a second at most.

        -> those whose read is answered
        """
        waits = [source.waits_s for source in self._sources if source.waits_s]
        polled = [PAUSE_S] if any(source.embedded for source in self._sources) else []
        return self._answered(min([BLOCK_MS / 1000, *waits, *polled]))

    def _read(self, ready: Sequence[Source], limit: int, answered: set[int]) -> Round:
        """A page of each stream in turn, until the round is full or nothing is left."""
        found = Round()
        pages: dict[int, tuple[Source, list[Batch]]] = {}
        size, turn = 0, list(ready)
        while turn and limit > 0 and size < BATCH_BYTES and found.alone is None:
            more = []
            for source in turn:
                if limit <= 0 or size >= BATCH_BYTES or found.alone is not None:
                    break
                batch = self._read_page(source, limit, BATCH_BYTES - size, answered=id(source) in answered)
                size += source.reader.bytes
                if isinstance(batch, Quarantined):
                    source.alone, found.alone = batch, (source, batch)
                elif batch:
                    limit -= len(batch.counts)
                    pages.setdefault(id(source), (source, []))[1].append(batch)
                    if source.reader.has_more:
                        more.append(source)
            turn, answered = more, set()
        found.parts = [Part(source, _whole(batches)) for source, batches in pages.values()]
        self._counts_restored = self._counts_restored and not found
        return found

    def _read_page(self, source: Source, limit: int, most_bytes: int, *, answered: bool) -> Batch | Quarantined:
        batch: Batch | Quarantined = Batch()

        def read() -> None:
            nonlocal batch
            batch = source.read(min(limit, PER_READ_OF_SMALL), most_bytes, answered=answered)

        if self._agreed(source):
            self._tried(source, read)
        if not isinstance(batch, Quarantined):
            report(batch, source.counters)
        return batch

    def _ask(self) -> None:
        """Let Redis wait for new entries of the streams that have no more."""
        if not self._waits or self._stop.is_set():
            return
        for source in self._sources:
            if source.consumer.asked is None and source.due and not (source.embedded or source.reader.has_more):
                self._tried(source, source.ask)

    # --- saving

    def _finish(self, sent: Sent | None) -> None:
        """Wait for the database, then acknowledge, or leave that to `_settle` if the broker has to confirm first."""
        if sent is None:
            return
        outcomes = self._writer.outcomes(sent.submitted)
        for source in self._sources:
            source.counters.table_refuses_rows = False
        if sent.submitted.batch.records:
            self._outages.answered(DATABASE)
            for source, _ in sent.parts:
                self._tried(source, source.failover.saved)
        self._settle()
        start = 0
        for part in sent.parts:
            each = outcomes.each[start : start + len(part.batch.records)]
            start += len(part.batch.records)
            delivery = part.source.dispatch.begin(part.batch, each, repeated=outcomes.repeated)
            self._saved.append(Saved(part, each, delivery, sent.submitted.at))
        if all(saved.delivery is None for saved in self._saved):
            self._settle()

    def _settle(self) -> None:
        """Wait until the broker has confirmed what the last saved parts brought, then acknowledge them."""
        saved, self._saved = self._saved, []
        sent = []
        for (source, batch), outcomes, delivery, at in saved:
            if delivery is not None:
                source.dispatch.complete(delivery)
            if self._tried(source, partial(source.begin_to_finish, batch, outcomes)):
                sent.append(partial(self._tried, source, partial(source.finish, batch, at)))
        for finish in sent:
            finish()
        messages = sum(len(part.batch.counts) for part, *_ in saved)
        if messages and self._rate is not None:
            self._waiting.rest(self._rate.after(messages))

    def _process_alone(self, source: Source, entry: Quarantined) -> None:
        """As the worker of one stream does, where the server of this one answers."""

        def process() -> None:
            if entry.attempts >= MAX_ATTEMPTS_ALONE:
                self._retry(self.repository.check)
                detail = f"delivered {entry.count} times, of these {entry.attempts} alone; no attempt came to an end"
                source.acknowledger.reject(RejectedEntry(entry.id, entry.id, Rejected("max-deliveries", detail)))
                return
            about = fields(stream=source.key, entry=str(entry.id), deliveries=entry.count)
            log.warning("entry %s was delivered %d times already: processed alone", entry.id, entry.count, extra=about)
            batch = source.reader.read(entry)
            if batch is not None:
                report(batch, source.counters)
                self._finish(self._submit([Part(source, batch)]))
                self._settle()
            else:
                # Deleted in this moment: found to be gone when the own pending entries are read.
                source.in_hand.remove([entry.id])
                source.reader.recover()

        if self._tried(source, process):
            source.alone = None
            if entry.id not in source.acknowledger.unwritten and not source.holds:
                self._tried(source, lambda: source.consumer.end_alone(entry.id))
        else:
            source.alone = None
            source.in_hand.remove([entry.id])

    # --- outages, and what others see

    def _tried(self, source: Source, action: Callable[[], object]) -> bool:
        """Do something with one stream. -> False where its server is away: then the others go on"""
        try:
            action()
        except DvctlError as error:
            if not is_outage(error) or not _is_of_redis(error):
                raise
            source.failed(error)
            return False
        return True

    def _failed(self, error: DvctlError, seconds: float) -> None:
        """Log an outage of what all streams share. The first time, restore the delivery counts that were found."""
        first = self._sources[0]
        first.counters.deferred_retries += 1
        first.progress.writes = False
        for source in self._sources:
            source.counters.table_refuses_rows = isinstance(error, TableAtFault)
        log_outage(error, seconds, self._outages)
        if not self._counts_restored:
            for source in self._sources:
                source.restore_counts()
            self._counts_restored = True

    def _recovered(self, errors: list[DvctlError]) -> None:
        self._sources[0].progress.writes = True
        self._outages.recovered(errors)

    def _observe(self) -> None:
        """At the edge of the loop, and about once a second while it waits: every stream in turn, for a short time."""
        until = time.monotonic() + AT_ONCE_S
        for source in self._sources:
            source.progress.moves()
        for _ in self._sources:
            self._observed = (self._observed + 1) % len(self._sources)
            source = self._sources[self._observed]
            self._tried(source, source.observe)
            if time.monotonic() > until:
                break
        self.progress.tell()

    # --- the end

    def _limit(self) -> int:
        """How many entries may be read now."""
        limit = self.options.batch_size
        if self._rate is not None:
            limit = self._rate.at_once(limit)
        if self.options.max_messages is not None:
            limit = min(limit, self.options.max_messages - self._taken)
        return limit

    @property
    def _taken(self) -> int:
        return sum(source.counters.taken for source in self._sources)

    def _reason_to_end(self, before: Sent | None) -> StopReason | None:
        if self._stop.is_set():
            # What Redis delivers to a read that is under way would stay pending.
            return None if any(source.consumer.asked is not None for source in self._sources) else "signal"
        if before is not None or any(source.holds for source in self._sources):
            return None
        if self.options.max_messages is not None and self._taken >= self.options.max_messages:
            return "max-messages"
        if self.options.drain and all(map(self._drained, self._sources)):
            return "drained"
        if self._waiting.out_of_time():
            return "max-wait"
        return None

    def _drained(self, source: Source) -> bool:
        """Nothing undelivered and nothing pending, also for others."""
        drained = False

        def look() -> None:
            nonlocal drained
            info = source.consumer.group.info()
            if info is None:
                return
            newest = source.consumer.stream.info()
            drained = not info.pending and (newest is None or not newest.has_entries_after(info.last_delivered_id))
            if info.pending:
                self._stop.wait(PAUSE_S)

        if not source.due:
            self._stop.wait(PAUSE_S)
            return False
        return self._tried(source, look) and drained


def _is_of_redis(error: BaseException) -> bool:
    return isinstance(error, DvctlError) and error.server == REDIS


def _whole(batches: Sequence[Batch]) -> Batch:
    """One batch of the pages of a stream."""
    if len(batches) == 1:
        return batches[0]
    gone = [key for batch in batches for key in batch.gone]
    reclaimed = sum(batch.reclaimed for batch in batches)
    return joined(batches, gone=gone, reclaimed=reclaimed, generation=batches[-1].generation)
