"""The consumer: read -> decode -> persist -> settle. Nothing is acknowledged before it is durable."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from devicevault_cli.errors import (
    BadConfig,
    DvctlError,
    LocksExhausted,
    MemoryFull,
    MissingGroup,
    RecordRejected,
    Refused,
    Unavailable,
    WrongType,
)
from devicevault_cli.messages import FIRST_ID, Decoded, Rejected, first_id
from devicevault_cli.operations.intake import DEATHS_ALONE, Batch, Intake
from devicevault_cli.operations.patience import Patience, Stopped
from devicevault_cli.operations.persist import Outcome, conflicting, rejection, save_apart
from devicevault_cli.operations.tally import Tally
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Repository, Save, Saved
from devicevault_cli.streams.delivery import Delivery
from devicevault_cli.streams.model import EntryId

log = logging.getLogger("dvctl.consume")

BLOCK_MS = 1000
"""How long an idle read waits: short, so that a signal is answered at once."""
SHOW_LIFE_S = 4.0
OWED_RETRY_S = 2.0
LAST_WAIT_S = 5.0
"""How long a stopping consumer waits for the database."""


@dataclass(frozen=True, slots=True)
class ConsumeOptions:
    """How to consume. `max_wait_s` and `max_messages` None: no limit; `rate` in messages a second."""

    drain: bool = False
    max_wait_s: float | None = None
    max_messages: int | None = None
    batch_size: int = 1000
    claim_idle_s: float = 60.0
    max_deliveries: int = 10
    on_reject: Literal["dead-letter", "drop"] = "dead-letter"
    on_missing_group: Literal["create", "fail"] = "create"
    rate: float | None = None


class Judged(NamedTuple):
    """A bad message: its entry id, the id it had first, and why."""

    id: EntryId
    first: EntryId
    rejected: Rejected


@dataclass(slots=True)
class Work:
    """A decoded batch. The messages themselves are let go here: what is kept is small."""

    batch: Batch
    records: list[Record] = field(default_factory=list)
    record_ids: list[EntryId] = field(default_factory=list)
    rejected: list[tuple[EntryId, Rejected]] = field(default_factory=list)
    first_ids: dict[EntryId, EntryId] = field(default_factory=dict)
    """Of entries that were re-published: the id the message had first."""
    skipped: list[EntryId] = field(default_factory=list)
    save: Save | None = None


class Consumer:
    """One consumer of one group, until it is drained, done, stopped or without a group."""

    def __init__(
        self,
        delivery: Delivery,
        repository: Repository,
        pipeline: Pipeline,
        options: ConsumeOptions,
        stop: threading.Event,
        on_progress: Callable[[Tally], None] = lambda tally: None,
    ) -> None:
        self.delivery = delivery
        self.repository = repository
        self.pipeline = pipeline
        self.options = options
        self.tally = Tally()
        self._stop = stop
        self._on_progress = on_progress
        self._persistently = Patience(stop, self._tick, self._deferred)
        self._in_hand: dict[EntryId, int] = {}
        self._owed: dict[EntryId, Judged] = {}
        self._intake = Intake(
            delivery,
            self._in_hand,
            batch_size=options.batch_size,
            claim_idle_s=options.claim_idle_s,
            max_deliveries=options.max_deliveries,
        )
        self._in_flight: Work | None = None
        self._taken = 0
        self._deferring = False
        self._shown_alive = self._kept_fresh = self._tried_owed = time.monotonic()
        self._suspect: tuple[EntryId, int] | None = None
        self._give_up: float | None = None
        repository.on_wait = self._waiting

    def run(self) -> str:
        """Consume. -> `drained`, `max-messages`, `signal`, `max-wait` or `missing-group`"""
        try:
            self._persistently(self._ready)
            while (reason := self._reason_to_end()) is None:
                self._step()
            self._land()
        except Stopped:
            reason = "signal"
        except MissingGroup as error:
            log.error("%s", error)
            reason = "missing-group"
        self._retire()
        return reason

    def take_part(self) -> None:
        """Use the rights that consuming needs, before anything depends on them: make the group, read past its end."""
        self._group_or_create()
        self.delivery.show_life()
        self.delivery.hold({})

    def _ready(self) -> None:
        """Nothing is read or claimed before the database has answered."""
        self.repository.check()
        self._group_or_create()
        self._warn_of_others()

    # --- the loop

    def _step(self) -> None:
        batch = self._next_batch()
        if batch.suspect is not None:
            self._land()
            self._process_suspect(batch)
            return
        work = self._decode(batch) if batch else None
        before, self._in_flight = self._in_flight, None
        if work is not None:
            # Before the last one is settled, so that the database is not kept waiting for Redis.
            self._launch(work)
        if before is not None:
            self._finish(before)
        self._tick()

    def _next_batch(self) -> Batch:
        """Read while the database works on what is in flight; wait only when nothing is."""
        limit = self._limit()
        if limit <= 0 or len(self._owed) >= self.options.batch_size:
            if self._in_flight is None:
                self._stop.wait(0.2)
            return Batch()
        if self._in_flight is None:
            return self._persistently(lambda: self._read(limit, None if self.options.drain else BLOCK_MS))
        try:
            return self._read(limit, None)
        except (Unavailable, Refused):
            self._intake.recover()
            return Batch()

    def _read(self, limit: int, block_ms: int | None) -> Batch:
        try:
            batch = self._intake.next(limit, block_ms)
        except MissingGroup:
            self._group_or_create()
            return Batch()
        self._deferring = False
        self._shown_alive = time.monotonic()
        self._in_hand.update(batch.deliveries)
        self._taken += len(batch.entries)
        self.tally.reclaimed += batch.reclaimed
        self.tally.gone += len(batch.gone)
        if batch.gone:
            log.warning("%d pending entries are gone from the stream; cleared", len(batch.gone))
        if batch.suspect is not None:
            self._suspect = (batch.suspect, batch.deaths_alone)
        return batch

    def _decode(self, batch: Batch) -> Work:
        work = Work(batch)
        decode, largest = self.pipeline.decode, self.repository.device_id_max
        records, record_ids = work.records, work.record_ids
        for key, fields in batch.entries:
            decision = decode(*key, fields, largest)
            if FIRST_ID in fields and (first := first_id(fields)):
                work.first_ids[key] = EntryId(*first)
            if isinstance(decision, Decoded):
                records.append(decision.record)
                record_ids.append(key)
                for note in decision.notes:
                    self._note(note, key)
            elif isinstance(decision, Rejected):
                work.rejected.append((key, decision))
            else:
                work.skipped.append(key)
        batch.entries = []
        return work

    def _launch(self, work: Work) -> None:
        """Hand the records to the database and do not wait."""
        self._in_flight = work
        if work.records:
            try:
                work.save = self.repository.submit(work.records)
            except (Unavailable, Refused, BadConfig, RecordRejected):
                work.save = None

    def _land(self) -> None:
        """Finish what is in flight."""
        work, self._in_flight = self._in_flight, None
        if work is not None:
            self._finish(work)

    def _finish(self, work: Work) -> None:
        """Wait for the database, then settle."""
        self._settle(work, self._outcomes(work))
        self._pace()

    def _outcomes(self, work: Work) -> list[Outcome]:
        """The quick way; where it fails, patiently and apart."""
        if work.save is not None:
            try:
                return list(self._await(work.save))
            except RecordRejected:
                log.info("the database refuses a batch of %d; looking for the culprit", len(work.records))
            except (Unavailable, Refused, BadConfig) as error:
                log.debug("a batch failed, trying again: %s", error)
        return save_apart(self._save, work.records)

    def _save(self, records: Sequence[Record]) -> list[Saved]:
        """Save records, however long an outage lasts."""

        def attempt() -> list[Saved]:
            try:
                return self._await(self.repository.submit(records))
            except LocksExhausted as error:
                if len(records) > 1:
                    raise
                raise Unavailable(str(error), hint=error.hint) from error

        return self._persistently(attempt)

    def _await(self, save: Save) -> list[Saved]:
        """Wait for COMMIT."""
        while not save.wait(0.5):
            self._waiting()
        return save.result()

    def _waiting(self) -> None:
        """While the database works: show life; once a stop was asked for, not for long. What is pending is not lost."""
        self._tick()
        if self._stop.is_set():
            self._give_up = self._give_up or time.monotonic() + LAST_WAIT_S
            if time.monotonic() > self._give_up:
                raise Stopped

    # --- settling

    def _settle(self, work: Work, outcomes: list[Outcome]) -> None:
        """After COMMIT: acknowledge what has its row, write the dead letters, count."""
        done = list(work.skipped)
        self.tally.skipped += len(work.skipped)
        for key, record, outcome in zip(work.record_ids, work.records, outcomes, strict=True):
            if bad := rejection(outcome, record):
                work.rejected.append((key, bad))
                continue
            done.append(key)
            self._count(outcome, record, key)
        if done:
            acknowledged = self._persistently(lambda: self.delivery.group.acknowledge(done))
            if acknowledged < len(done):
                log.info("%d of %d entries were acknowledged elsewhere meanwhile", len(done) - acknowledged, len(done))
            self._let_go(done)
        for key, bad in work.rejected:
            self._reject(Judged(key, work.first_ids.get(key, key), bad))

    def _count(self, outcome: Outcome, record: Record, key: EntryId) -> None:
        if isinstance(outcome, Rejected):
            return
        if outcome.outcome == "inserted":
            self.tally.persisted += 1
            return
        self.tally.duplicates += 1
        if conflicting(outcome, record):
            self.tally.conflicting += 1
            row = outcome.existing.id if outcome.existing else "?"
            log.warning("entry %s: its row %s has another device or status; the row stays", key, row)

    def _reject(self, judged: Judged) -> None:
        """Dead-letter or drop. What cannot be written now stays pending and is owed; neighbours go on."""
        try:
            self._persistently_but(lambda: self._write_off(judged))
        except (WrongType, MemoryFull, Refused) as error:
            if judged.id not in self._owed:
                log.error("entry %s stays pending, its dead letter cannot be written: %s", judged.id, error)
            self._owed[judged.id] = judged
            return
        self._owed.pop(judged.id, None)
        self._let_go([judged.id])

    def _persistently_but(self, action: Callable[[], None]) -> None:
        """Wait for Redis to come back, but not for room in it or a right."""
        refusal: DvctlError | None = None

        def attempt() -> None:
            nonlocal refusal
            try:
                action()
            except (MemoryFull, Refused) as error:
                refusal = error

        self._persistently(attempt)
        if refusal is not None:
            raise refusal

    def _write_off(self, judged: Judged) -> None:
        key, first, (reason, detail) = judged
        if self.options.on_reject == "drop":
            self.delivery.discard(key, reason)
            self.tally.dropped += 1
            log.warning("entry %s dropped: %s (%s)", key, reason, detail)
        elif self.delivery.dead_letter(key, first, reason, detail):
            self.tally.dead_lettered += 1
            self.tally.reasons[reason] = self.tally.reasons.get(reason, 0) + 1
            log.info("entry %s dead-lettered: %s (%s)", key, reason, detail)
        else:
            self.tally.gone += 1

    def _process_suspect(self, batch: Batch) -> None:
        """An entry that was delivered too often, alone; a fourth time it is not even looked at."""
        key = batch.suspect
        if key is None:
            return
        if batch.deaths_alone >= DEATHS_ALONE:
            self._persistently(self.repository.check)
            count = batch.deliveries[key]
            detail = f"delivered {count} times, of these {batch.deaths_alone} alone; no attempt came to an end"
            self._reject(Judged(key, key, Rejected("max-deliveries", detail)))
        else:
            log.warning("entry %s was delivered %d times already: processing it alone", key, batch.deliveries[key])
            self._launch(self._decode(batch))
            self._land()
        self._suspect = None
        if key not in self._owed:
            self._persistently(lambda: self.delivery.end_alone(key))

    # --- outages, signs of life

    def _deferred(self, error: DvctlError, seconds: float) -> None:
        """First of an outage: put back the delivery counts that were found, so that only deaths count."""
        self.tally.deferred_retries += 1
        alarm = logging.ERROR if isinstance(error, (Refused, BadConfig)) else logging.WARNING
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
        self._on_progress(self.tally)
        try:
            if self._in_hand and now - self._kept_fresh > self.options.claim_idle_s / 3:
                self._kept_fresh = now
                self.delivery.hold(dict.fromkeys(self._in_hand))
            if now - self._shown_alive > SHOW_LIFE_S:
                self._shown_alive = now
                self.delivery.show_life()
        except DvctlError as error:
            log.debug("could not show life: %s", error)
        if self._owed and now - self._tried_owed > OWED_RETRY_S:
            self._tried_owed = now
            for judged in list(self._owed.values()):
                self._reject(judged)

    def _note(self, note: str, key: EntryId) -> None:
        seen = self.tally.notes.get(note, 0)
        self.tally.notes[note] = seen + 1
        log.log(logging.WARNING if seen < 3 else logging.DEBUG, "entry %s: %s is unusable or implausible", key, note)

    def _let_go(self, ids: list[EntryId]) -> None:
        for key in ids:
            self._in_hand.pop(key, None)

    # --- beginning and end

    def _group_or_create(self) -> None:
        if self.options.on_missing_group == "fail":
            if self.delivery.group.info() is None:
                raise MissingGroup(f"no group {self.delivery.group.name} on {self.delivery.stream.key}")
        elif self.delivery.group.create():
            log.warning(
                "group %s of %s was missing: created at 0, so every entry comes again; rows that are there stay single",
                self.delivery.group.name,
                self.delivery.stream.key,
            )

    def _warn_of_others(self) -> None:
        if self.delivery.stream.eviction_policy().startswith("allkeys"):
            log.warning("Redis may evict the whole stream (maxmemory-policy allkeys-*); set it to noeviction")
        for other in self.delivery.group.consumers():
            name = other.name.removeprefix("consumer-")
            if name != other.name and name.isdigit() and other.idle_ms < 10_000 and not self.repository.unique_index:
                log.warning(
                    "DeviceVault's own consumer %s is alive in this group: stop it, or run `dvctl db index`; "
                    "only a unique index keeps its rows and dvctl's apart",
                    other.name,
                )

    def _limit(self) -> int:
        if self.options.max_messages is None:
            return self.options.batch_size
        return min(self.options.batch_size, self.options.max_messages - self._taken)

    def _reason_to_end(self) -> str | None:
        if self._stop.is_set():
            return "signal"
        if self._in_flight is not None or len(self._in_hand) > len(self._owed):
            return None
        if self.options.max_messages is not None and self._taken >= self.options.max_messages:
            return "max-messages"
        if self.options.drain and self._drained():
            return "drained"
        if self.options.max_wait_s is not None and self.tally.elapsed_s > self.options.max_wait_s:
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
        return newest is None or newest.last_generated_id <= info.last_delivered_id or newest.length == 0

    def _pace(self) -> None:
        if self.options.rate:
            ahead = self.tally.read / self.options.rate - self.tally.elapsed_s
            while ahead > 0 and not self._stop.wait(min(ahead, 1.0)):
                ahead -= 1.0
                self._tick()

    def _retire(self) -> None:
        """Leave no ghost: a consumer that holds nothing is deleted."""
        try:
            if not self.delivery.group.retire_if_empty(self.delivery.consumer):
                log.info("consumer %s keeps its pending entries and its name", self.delivery.consumer)
        except (DvctlError, Stopped) as error:
            log.warning("consumer %s could not be retired: %s", self.delivery.consumer, error)
