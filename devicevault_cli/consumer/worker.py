"""The consumer: read -> decode -> persist -> settle. Nothing is acknowledged before it is durable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from devicevault_cli.consumer.acknowledge import OnReject, Settlement
from devicevault_cli.consumer.batch import Decoding, Judged, Work
from devicevault_cli.consumer.breaker import Breaker, earlier_letters
from devicevault_cli.consumer.counters import Tally
from devicevault_cli.consumer.group_member import Membership, OnMissingGroup
from devicevault_cli.consumer.reader import DEATHS_ALONE, Intake
from devicevault_cli.consumer.retry import Patience
from devicevault_cli.consumer.shutdown import Stop, Stopped
from devicevault_cli.consumer.stream_watch import StreamWatch
from devicevault_cli.consumer.writer import Saving
from devicevault_cli.errors import (
    BadConfig,
    DvctlError,
    MissingGroup,
    Refused,
    TableAtFault,
    Unavailable,
    WrongType,
)
from devicevault_cli.messages import Rejected
from devicevault_cli.operations.rate_limit import RateLimiter
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.delivery import Delivery
from devicevault_cli.streams.model import EntryId

log = logging.getLogger("dvctl.consume")

BLOCK_MS = 1000
"""How long an idle read waits: short, so that a signal is answered at once."""
SHOW_LIFE_S = 4.0
LAST_WAIT_S = 5.0
"""How long a stopping consumer waits for the database."""


@dataclass(frozen=True, slots=True)
class ConsumeOptions:
    """How to consume. `max_wait_s` and `max_messages` None: no limit; `rate` in messages a second.

    `max_rejected_batches`: after so many whole batches that the database rejects, hold instead of giving up messages.
    """

    drain: bool = False
    max_wait_s: float | None = None
    max_messages: int | None = None
    batch_size: int = 1000
    claim_idle_s: float = 60.0
    max_deliveries: int = 10
    max_rejected_batches: int = 3
    on_reject: OnReject = "dead-letter"
    on_missing_group: OnMissingGroup = "create"
    rate: float | None = None


class Consumer:
    """One consumer of one group, until it is drained, done, stopped or without a group."""

    def __init__(
        self,
        delivery: Delivery,
        repository: Repository,
        pipeline: Pipeline,
        options: ConsumeOptions,
        stop: Stop,
        on_progress: Callable[[Tally], None] = lambda tally: None,
        on_batch: Callable[[int, float], None] = lambda messages, seconds: None,
    ) -> None:
        self.delivery = delivery
        self.repository = repository
        self.pipeline = pipeline
        self.options = options
        self.tally = Tally()
        self._stop = stop
        self._on_progress = on_progress
        self._on_batch = on_batch
        self._persistently = Patience(stop, self._deferring_tick, self._deferred)
        self._in_hand: dict[EntryId, int] = {}
        self._watch = StreamWatch(delivery.group, self.tally, lambda: self._taken, self._stream_restarted)
        self.membership = Membership(delivery, options.on_missing_group, self._watch.look)
        breaker = Breaker(
            options.max_rejected_batches,
            lambda detail: earlier_letters(delivery.group, repository, detail),
            drops=options.on_reject == "drop",
        )
        self._saving = Saving(repository, self._persistently, self._waiting, breaker)
        self._settlement = Settlement(
            delivery, self._in_hand, self.tally, self._persistently, options.on_reject, self._watch
        )
        self._intake = Intake(
            delivery,
            Decoding(pipeline.decode, lambda: repository.device_id_max, self._note),
            self._in_hand,
            batch_size=options.batch_size,
            claim_idle_s=options.claim_idle_s,
            max_deliveries=options.max_deliveries,
        )
        self.database_is_writable = False
        """Somebody has just checked it."""
        self._in_flight: Work | None = None
        self._taken = 0
        self._pace = RateLimiter(options.rate)
        self._deferring = False
        self._shown_alive = self._kept_fresh = time.monotonic()
        self._suspect: tuple[EntryId, int] | None = None
        self._give_up: float | None = None

    def run(self) -> str:
        """Consume. -> `drained`, `max-messages`, `signal`, `max-wait` or `missing-group`"""
        try:
            self._persistently(self._ready)
            while (reason := self._reason_to_end()) is None:
                self._step()
            self._land()
        except Stopped:
            reason = "signal" if self._stop.is_set() else "max-wait"
        except MissingGroup as error:
            log.error("%s", error)
            reason = "missing-group"
        with suppress(Stopped):
            if self.membership.leave():
                self._watch.look()  # the marker says where this consumer left the stream
        return reason

    def _ready(self) -> None:
        """Nothing is read or claimed before the database has answered."""
        self.repository.check(writing=not self.database_is_writable)
        self.membership.join()
        self.look_at_table()
        with suppress(MissingGroup):  # deleted in this moment: the first read deals with it
            self.membership.warn_of_others(unique_index=self.repository.unique_index)

    def look_at_table(self) -> None:
        """Once, after what the stream itself tells: is the table ahead of it?"""
        self._watch.look_at_table(self.repository)

    # --- the loop

    def _step(self) -> None:
        work = self._next_work()
        if work.suspect is not None:
            self._land()
            self._process_suspect(work)
            return
        before, self._in_flight = self._in_flight, None
        if work:
            # Before the last one is settled, so that the database is not kept waiting for Redis.
            self._launch(work)
        if before is not None:
            self._finish(before)
        self._tick()

    def _next_work(self) -> Work:
        """Read while the database works on what is in flight; wait only when nothing is."""
        limit = self._limit()
        if limit <= 0 or len(self._settlement.owed) >= self.options.batch_size:
            if self._in_flight is None:
                self._stop.wait(0.2)
            return Work()
        if self._in_flight is None:
            return self._persistently(lambda: self._read(limit, None if self.options.drain else BLOCK_MS))
        try:
            return self._read(limit, None)
        except (Unavailable, Refused, BadConfig, WrongType):
            self._intake.recover()
            return Work()

    def _read(self, limit: int, block_ms: int | None) -> Work:
        try:
            work = self._intake.next(limit, block_ms)
        except MissingGroup:
            self.membership.join()
            return Work()
        work.generation = self._watch.generation
        self._deferring = self.tally.waiting = False
        self._shown_alive = time.monotonic()
        self._in_hand.update(work.deliveries)
        self._taken += len(work.deliveries)
        self.tally.reclaimed += work.reclaimed
        self.tally.gone += len(work.gone)
        if work.gone:
            log.warning("%d pending entries are gone from the stream; cleared", len(work.gone))
        if work.suspect is not None:
            self._suspect = (work.suspect, work.deaths_alone)
        return work

    def _launch(self, work: Work) -> None:
        self._in_flight = work
        self._saving.launch(work)

    def _land(self) -> None:
        """Finish what is in flight."""
        work, self._in_flight = self._in_flight, None
        if work is not None:
            self._finish(work)

    def _finish(self, work: Work) -> None:
        """Wait for the database, then settle."""
        messages = len(work.deliveries)
        outcomes = self._saving.outcomes(work)
        self.tally.table_refuses = False
        self._settlement.settle(work, outcomes)
        self._on_batch(messages, time.monotonic() - work.begun)
        self._rest(self._pace.after(messages))

    def _waiting(self) -> None:
        """While the database works: show life; once it is time to end, not for long. What is pending is not lost."""
        self._tick()
        if self._stop.is_set() or self._out_of_time():
            self._give_up = self._give_up or time.monotonic() + LAST_WAIT_S
            if time.monotonic() > self._give_up:
                raise Stopped

    # --- suspects

    def _process_suspect(self, work: Work) -> None:
        """An entry that was delivered too often, alone; a fourth time it is not even looked at."""
        key = work.suspect
        if key is None:
            return
        if work.deaths_alone >= DEATHS_ALONE:
            self._persistently(self.repository.check)
            count = work.deliveries[key]
            detail = f"delivered {count} times, of these {work.deaths_alone} alone; no attempt came to an end"
            self._settlement.reject(Judged(key, key, Rejected("max-deliveries", detail)))
        else:
            log.warning("entry %s was delivered %d times already: processed alone", key, work.deliveries[key])
            if self._persistently(lambda: self._intake.fetch(work)):
                self._launch(work)
                self._land()
            else:
                # Deleted in this moment: looked for among the own pending entries, it is found to be gone.
                self._in_hand.pop(key, None)
                self._intake.recover()
        self._suspect = None
        if key not in self._settlement.owed:
            self._persistently(lambda: self.delivery.end_alone(key))

    # --- outages, signs of life

    def _deferred(self, error: DvctlError, seconds: float) -> None:
        """First of an outage: put back the delivery counts that were found, so that only deaths count."""
        self.tally.deferred_retries += 1
        self.tally.waiting = True
        self.tally.table_refuses = isinstance(error, TableAtFault)
        at_fault = isinstance(error, (Refused, BadConfig, TableAtFault, WrongType))
        alarm = logging.ERROR if at_fault else logging.WARNING
        log.log(alarm, "%s; next try in %.1f s%s", error, seconds, f" ({error.hint})" if error.hint else "")
        self._intake.recover()
        if not self._deferring and self._in_hand:
            try:
                self.delivery.hold(dict(self._in_hand))
                if self._suspect is not None:
                    self.delivery.end_alone(self._suspect[0], begun=self._suspect[1])
                self._deferring = True
            except (DvctlError, Stopped):
                log.debug("delivery counts could not be put back yet")

    def _tick(self) -> None:
        """About once a second, also while waiting: keep what is in hand, show that this consumer lives."""
        now = time.monotonic()
        self.tally.in_hand = len(self._in_hand)
        self._on_progress(self.tally)
        self._watch.tick()
        try:
            if self._in_hand and now - self._kept_fresh > self.options.claim_idle_s / 3:
                self._kept_fresh = now
                self.delivery.hold(dict.fromkeys(self._in_hand))
            if now - self._shown_alive > SHOW_LIFE_S:
                self._shown_alive = now
                self.delivery.show_life()
        except DvctlError as error:
            log.debug("could not show life: %s", error)
        self._settlement.pay()

    def _stream_restarted(self) -> None:
        """What is in hand is not on the stream that there is now; a batch on its way to the table goes on."""
        self._in_hand.clear()
        self._settlement.owed.clear()
        self._intake.restart()

    def _deferring_tick(self) -> None:
        """In an outage `--max-wait` ends the waiting too."""
        self._tick()
        if self._out_of_time():
            raise Stopped

    def _out_of_time(self) -> bool:
        return self.options.max_wait_s is not None and self.tally.elapsed_s > self.options.max_wait_s

    def _note(self, note: str, key: EntryId) -> None:
        seen = self.tally.notes.get(note, 0)
        self.tally.notes[note] = seen + 1
        log.log(logging.WARNING if seen < 3 else logging.DEBUG, "entry %s: %s is unusable or implausible", key, note)

    # --- the end

    def _limit(self) -> int:
        limit = self._pace.at_once(self.options.batch_size)
        return limit if self.options.max_messages is None else min(limit, self.options.max_messages - self._taken)

    def _reason_to_end(self) -> str | None:
        if self._stop.is_set():
            return "signal"
        if self._in_flight is not None or len(self._in_hand) > len(self._settlement.owed):
            return None
        if self.options.max_messages is not None and self._taken >= self.options.max_messages:
            return "max-messages"
        if self.options.drain and self._drained():
            return "drained"
        if self._out_of_time():
            return "max-wait"
        return None

    def _drained(self) -> bool:
        """Nothing undelivered and nothing pending, also for others; else wait a little for what they hold."""
        info = self._persistently(self.delivery.group.info)
        if info is None:
            return False
        if info.pending:
            self._stop.wait(0.05)
            return False
        newest = self._persistently(self.delivery.stream.info)
        return newest is None or not newest.has_entries_after(info.last_delivered_id)

    def _rest(self, seconds: float) -> None:
        while seconds > 0 and not self._stop.wait(min(seconds, 1.0)):
            seconds -= 1.0
            self._tick()
