"""Records to the table: the quick way a batch ahead; where that fails, patiently and apart."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice

from devicevault_cli.consumer.batch import Work
from devicevault_cli.consumer.breaker import Breaker
from devicevault_cli.consumer.retry import Patience
from devicevault_cli.errors import BadConfig, LocksExhausted, RecordRejected, Refused, Unavailable
from devicevault_cli.operations.save import Bisection, Outcome
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import INSERTED, Repository, Save, Saved

log = logging.getLogger("dvctl.consume")

SAMPLE = 8
"""How many messages of a held batch are tried alone at each attempt: a batch may hold good and bad ones."""


class Saving:
    """`waiting` is called about twice a second while the database works; what it raises ends the waiting."""

    def __init__(
        self, repository: Repository, persistently: Patience, waiting: Callable[[], None], breaker: Breaker
    ) -> None:
        self._repository = repository
        self._persistently = persistently
        self._waiting = waiting
        self._breaker = breaker
        self._launched: Save | None = None
        repository.on_wait = waiting

    def launch(self, work: Work) -> None:
        """Hand the records to the database and do not wait."""
        work.begun = time.monotonic()
        self._launched = None
        if work.records:
            try:
                work.save = self._launched = self._repository.submit(work.records)
            except (Unavailable, Refused, BadConfig, RecordRejected) as error:
                log.debug("a batch failed, trying again: %s", error)
                work.save = None

    def outcomes(self, work: Work) -> list[Outcome]:
        """Wait for COMMIT, however long an outage lasts. -> an outcome for each record, in order"""
        outcomes = self._outcomes(work)
        if self._breaker.opens(outcomes):
            return self._held(work, outcomes)
        return outcomes

    def _outcomes(self, work: Work) -> list[Outcome]:
        if work.save is not None:
            try:
                return list(self._await(work.save))
            except RecordRejected:
                log.info("the database refuses a batch of %d; isolating the message", len(work.records))
            except (Unavailable, Refused, BadConfig) as error:
                log.debug("a batch failed, trying again: %s", error)
        apart = Bisection(self._repository, work.records, self._save)
        return self._persistently(apart.run)

    def _held(self, work: Work, outcomes: list[Outcome]) -> list[Outcome]:
        """Hold a batch of which the database rejects every message, until it accepts one of them or of the next."""
        turns = cycle(position for position, outcome in enumerate(outcomes) if self._breaker.counts(outcome))
        saved: dict[int, Outcome] = {}

        def attempt() -> list[Outcome]:
            try:
                return list(self._await(self._repository.submit(work.records)))
            except RecordRejected:
                for position in islice(turns, SAMPLE):
                    if self._accepts(work.records[position]):
                        saved[position] = INSERTED
                if not saved and not self._next_was_accepted(work):
                    raise self._breaker.alarm(f"{self._repository.where}: {self._repository.spec.name}") from None
            return Bisection(self._repository, work.records, self._save, saved).run()

        outcomes = self._persistently(attempt)
        self._breaker.close()
        return outcomes

    def _accepts(self, record: Record) -> bool:
        try:
            return self._await(self._repository.submit([record])) == [INSERTED]
        except RecordRejected:
            return False

    def _next_was_accepted(self, held: Work) -> bool:
        """Whether the database took a message of the batch that was sent after the held one."""
        if self._launched is None or self._launched is held.save:
            return False
        try:
            return INSERTED in self._await(self._launched)
        except (Unavailable, Refused, BadConfig, RecordRejected):
            return False

    def _save(self, records: Sequence[Record]) -> list[Saved]:
        def attempt() -> list[Saved]:
            try:
                return self._await(self._repository.submit(records))
            except LocksExhausted as error:
                if len(records) > 1:
                    raise
                raise Unavailable(str(error), hint=error.hint) from error

        return self._persistently(attempt)

    def _await(self, save: Save) -> list[Saved]:
        while not save.wait(0.5):
            self._waiting()
        return save.result()
