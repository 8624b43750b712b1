"""Batches to the table: one is submitted while the one before is committed; failures are retried message by message."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, NamedTuple

from devicevault_cli.consumer.batch import Batch
from devicevault_cli.consumer.breaker import Breaker
from devicevault_cli.consumer.retry import Retry
from devicevault_cli.consumer.waiting import Waiting
from devicevault_cli.errors import BadConfig, LocksExhausted, RecordRejected, Refused, Unavailable
from devicevault_cli.log_fields import fields
from devicevault_cli.operations.save import Bisection, Outcome, any_stored, is_stored
from devicevault_cli.records import Record
from devicevault_cli.repository.model import PendingSave, Saved

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")

SAMPLE = 8
"""How many messages of a held batch are tried alone at each attempt: a batch may hold good and bad ones."""
FAILED = (Unavailable, Refused, BadConfig)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A batch and its transaction: None if there is nothing to save, or it could not be submitted. `at`: monotonic."""

    batch: Batch
    save: PendingSave | None
    at: float


class Outcomes(NamedTuple):
    """What became of a batch. `each`: an outcome for each record, in order.

    `repeated`: it was saved in more than one attempt, so that a duplicate may be a row of an attempt before.
    """

    each: list[Outcome]
    repeated: bool


class BatchWriter:
    """Saves batches, at most one of them pending while the next one is submitted."""

    def __init__(self, repository: Repository, retry: Retry, waiting: Waiting, breaker: Breaker) -> None:
        self._repository = repository
        self._retry = retry
        self._waiting = waiting
        self._breaker = breaker
        self._last: PendingSave | None = None

    def prepare(self, batch: Batch) -> None:
        """Do what `submit` would do before it sends: pack the records, wait for the batch before."""
        if batch.records:
            try:
                self._repository.prepare(batch.records)
                if self._last is not None:
                    self._waiting.for_save(self._last)
            except (*FAILED, RecordRejected) as error:
                log.debug("a batch cannot be prepared: %s", error)

    def submit(self, batch: Batch) -> Submitted:
        """Give the records to the database, once the batch before is committed, and do not wait for them."""
        at = time.monotonic()
        before, self._last = self._last, None
        if batch.records:
            try:
                self._repository.prepare(batch.records)
                if before is not None:
                    self._waiting.for_save(before)
                self._last = self._repository.submit(batch.records)
            except (*FAILED, RecordRejected) as error:
                log.debug("a batch failed, trying again: %s", error)
        return Submitted(batch, self._last, at)

    def outcomes(self, submitted: Submitted) -> Outcomes:
        """Wait for COMMIT, however long an outage lasts."""
        found = self._outcomes(submitted)
        if self._breaker.opens(found.each):
            return Outcomes(self._hold(submitted, found.each), repeated=True)
        return found

    def _outcomes(self, submitted: Submitted) -> Outcomes:
        records = submitted.batch.records
        if submitted.save is not None:
            try:
                return Outcomes(list(self._result(submitted.save)), repeated=False)
            except RecordRejected:
                count = fields(count=len(records))
                log.info("the database refuses a batch of %d; isolating the message", len(records), extra=count)
            except FAILED as error:
                log.debug("a batch failed, trying again: %s", error)
        each = self._retry(Bisection(self._repository, records, self._save).run) if records else []
        return Outcomes(each, repeated=True)

    def _hold(self, submitted: Submitted, outcomes: list[Outcome]) -> list[Outcome]:
        """Hold a batch of which the database rejects every message, until it accepts one of them or of the next."""
        records = submitted.batch.records
        turns = cycle(position for position, outcome in enumerate(outcomes) if self._breaker.counts(outcome))
        saved: dict[int, Outcome] = {}

        def attempt() -> list[Outcome]:
            try:
                return list(self._result(self._repository.submit(records)))
            except RecordRejected:
                for position in islice(turns, SAMPLE):
                    if outcome := self._accepted(records[position]):
                        saved[position] = outcome
                if not saved and not self._accepted_next(submitted):
                    raise self._breaker.alarm(f"{self._repository.where}: {self._repository.spec.name}") from None
            return Bisection(self._repository, records, self._save, saved).run()

        outcomes = self._retry(attempt)
        self._breaker.close()
        return outcomes

    def _accepted(self, record: Record) -> Saved | None:
        """The outcome of a record that the database accepts."""
        try:
            [saved] = self._result(self._repository.submit([record]))
        except RecordRejected:
            return None
        return saved if is_stored(saved) else None

    def _accepted_next(self, held: Submitted) -> bool:
        """Whether the database accepted a message of the batch that was submitted after the held one."""
        if self._last is None or self._last is held.save:
            return False
        try:
            return any_stored(self._result(self._last))
        except (*FAILED, RecordRejected):
            return False

    def _save(self, records: Sequence[Record]) -> list[Saved]:
        def attempt() -> list[Saved]:
            try:
                return self._result(self._repository.submit(records))
            except LocksExhausted as error:
                if len(records) > 1:
                    raise
                raise Unavailable(str(error), hint=error.hint) from error

        return self._retry(attempt)

    def _result(self, save: PendingSave) -> list[Saved]:
        self._waiting.for_save(save)
        return save.result()
