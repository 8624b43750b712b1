"""Records to the table: the quick way a batch ahead; where that fails, patiently and apart."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from devicevault_cli.errors import BadConfig, LocksExhausted, RecordRejected, Refused, Unavailable
from devicevault_cli.operations.consumer.patience import Patience
from devicevault_cli.operations.consumer.work import Work
from devicevault_cli.operations.persist import Outcome, save_apart
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Repository, Save, Saved

log = logging.getLogger("dvctl.consume")


class Saving:
    """`waiting` is called about twice a second while the database works; what it raises ends the waiting."""

    def __init__(self, repository: Repository, persistently: Patience, waiting: Callable[[], None]) -> None:
        self._repository = repository
        self._persistently = persistently
        self._waiting = waiting
        repository.on_wait = waiting

    def launch(self, work: Work) -> None:
        """Hand the records to the database and do not wait."""
        work.begun = time.monotonic()
        if work.records:
            try:
                work.save = self._repository.submit(work.records)
            except (Unavailable, Refused, BadConfig, RecordRejected) as error:
                log.debug("a batch failed, trying again: %s", error)
                work.save = None

    def outcomes(self, work: Work) -> list[Outcome]:
        """Wait for COMMIT, however long an outage lasts. -> an outcome for each record, in order"""
        if work.save is not None:
            try:
                return list(self._await(work.save))
            except RecordRejected:
                log.info("the database refuses a batch of %d; looking for the culprit", len(work.records))
            except (Unavailable, Refused, BadConfig) as error:
                log.debug("a batch failed, trying again: %s", error)
        return save_apart(self._save, work.records)

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
