"""Storage dispatch: after COMMIT and before the acknowledgement, configurations go to the storage workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from devicevault_cli.broker.store_task import BACKENDS
from devicevault_cli.consumer.batch import Batch
from devicevault_cli.consumer.counters import Counters
from devicevault_cli.consumer.outages import BROKER
from devicevault_cli.consumer.retry import Retry
from devicevault_cli.consumer.waiting import Waiting
from devicevault_cli.errors import DvctlError, ExitCode
from devicevault_cli.log_fields import fields
from devicevault_cli.operations.dispatch.tasks import (
    BAD_LOCATION,
    NO_LOCATION,
    OTHER_TYPE,
    TOO_LARGE,
    UNDECODABLE,
    Configuration,
    Tasks,
    make_tasks,
    not_stored,
)
from devicevault_cli.operations.save import Outcome
from devicevault_cli.repository.model import INSERTED, Saved
from devicevault_cli.repository.storage import Location
from devicevault_cli.streams.model import EntryId

if TYPE_CHECKING:
    from devicevault_cli.broker.publisher import Delivery, Publisher
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")

STEP_S = 0.5
FRESH_S = 5.0
"""How old a location may be that was read before its batch was saved; after an outage it is read again."""
RECHECK_S = 60.0
"""How often a consumer without a broker looks whether a device needs one by now."""
_WHY = {
    NO_LOCATION: "device %d has no backup location: its configurations are not stored",
    OTHER_TYPE: "device %d has a backup location that no storage worker serves: its configurations are not stored",
    BAD_LOCATION: "device %d has a backup location whose config is not JSON: its configurations are not stored",
}


class NoBroker(DvctlError):
    """No broker is configured, and devices have a backup location."""

    exit_code = ExitCode.CONFIG


class EncryptedBackups(DvctlError):
    """Devices ask for encrypted backups, whose keys dvctl does not store."""

    exit_code = ExitCode.CONFIG


class Dispatch(Protocol):
    """What the worker does with configurations."""

    keeps_configurations: bool
    """Whether the reader has to keep what `finish` is to hand over."""
    shown: str
    """For the log: whether dispatch is on."""

    def check(self) -> None:
        """Before anything is read. Raises what keeps the consumer from starting."""

    def look_up(self, batch: Batch) -> None:
        """Before the batch is saved: read where its configurations go."""

    def begin(self, batch: Batch, outcomes: Sequence[Outcome], *, repeated: bool) -> Delivery[EntryId] | None:
        """Begin to hand over what a saved batch brought to be stored. -> what `complete` waits for; None: nothing

        `repeated`: a transaction may have been committed before.
        """

    def complete(self, delivery: Delivery[EntryId]) -> None:
        """Wait until the broker has confirmed it."""


class DispatchOff:
    """Nothing is handed over, and the operator knows it."""

    keeps_configurations = False

    def __init__(self, why: str) -> None:
        self.shown = f"off ({why})"

    def check(self) -> None:
        """There is nothing to check."""

    def look_up(self, batch: Batch) -> None:
        """There is nothing to look up."""

    def begin(self, batch: Batch, outcomes: Sequence[Outcome], *, repeated: bool) -> None:
        """There is nothing to hand over."""

    def complete(self, delivery: Delivery[EntryId]) -> None:
        """There is nothing to wait for."""


class NoConfigurations(DispatchOff):
    """The storage pipeline: its messages bring none, but from DeviceVault's versions of 2026 on the keys of backups."""

    def __init__(self, repository: Repository) -> None:
        super().__init__("only the results pipeline has configurations")
        self._repository = repository

    def check(self) -> None:
        """Raises EncryptedBackups where a backup could never be decrypted."""
        if self._repository.storage.any_device_encrypts():
            raise EncryptedBackups(
                "devices ask for encrypted backups, and dvctl does not store the keys that their messages carry",
                hint="leave storage:results to DeviceVault's own consumer; use `dvctl consume --pipeline results`",
            )


class DispatchUnconfigured(DispatchOff):
    """No broker is configured: that is right only as long as no device has a location that a storage worker serves."""

    def __init__(self, repository: Repository, retry: Retry) -> None:
        super().__init__("no broker is configured, and no device has a git or fs location")
        self._repository = repository
        self._retry = retry
        self._checked = 0.0

    def check(self) -> None:
        """Raises NoBroker where configurations would be lost in silence."""
        self._checked = time.monotonic()
        if self._repository.storage.any_device_at(BACKENDS):
            raise NoBroker(
                "no broker is configured, but devices have a git or fs backup location: their configurations would"
                " not be stored",
                hint="give --broker-url (or set CELERY_BROKER_URL), or --no-dispatch if they are not to be stored",
            )

    def begin(self, batch: Batch, outcomes: Sequence[Outcome], *, repeated: bool) -> None:
        """A device may have been given a location since: then the consumer ends, rather than drop configurations."""
        if time.monotonic() - self._checked > RECHECK_S:
            self._retry(self.check)


class StorageDispatch:
    """Hands the configuration of each success to the storage workers, and waits until the broker has confirmed it."""

    keeps_configurations = True

    def __init__(
        self,
        stream: str,
        repository: Repository,
        publisher: Publisher,
        retry: Retry,
        waiting: Waiting,
        counters: Counters,
    ) -> None:
        self.shown = f"on, through {publisher.shown}"
        self._stream = stream
        self._repository = repository
        self._publisher = publisher
        self._retry = retry
        self._waiting = waiting
        self._counters = counters
        self._warned: set[tuple[int, str]] = set()
        self._locations: dict[int, tuple[float, dict[int, Location]]] = {}

    def check(self) -> None:
        """The tables can be read and the broker be reached, as far as any device needs it."""
        if self._repository.storage.any_device_at(BACKENDS):
            self._repository.storage.backups([], ["none"])
            self._counters.broker_up = False
            try:
                self._publisher.check()
            except DvctlError as error:
                error.server = BROKER
                raise
            self._counters.broker_up = True

    def look_up(self, batch: Batch) -> None:
        """Read the locations of the batch's devices, at a time when the database has nothing else to do."""
        about = zip(batch.record_ids, batch.records, strict=True)
        devices = (record.device_id for key, record in about if key in batch.configurations)
        self._locations.pop(id(batch), None)
        try:
            self._locations[id(batch)] = time.monotonic(), self._repository.storage.locations(devices)
        except DvctlError as error:  # looked up again when they are needed
            log.debug("locations cannot be read yet: %s", error)

    def begin(self, batch: Batch, outcomes: Sequence[Outcome], *, repeated: bool) -> Delivery[EntryId] | None:
        made = self._make_tasks(batch, self._select(batch, outcomes, repeated=repeated))
        batch.configurations.clear()  # from here on only the tasks hold them
        if not made.tasks:
            return None
        delivery = self._publisher.deliver(made.tasks)
        self._retry(lambda: self._send(delivery))
        return delivery

    def complete(self, delivery: Delivery[EntryId]) -> None:
        try:
            self._retry(lambda: self._advance(delivery))
        finally:
            self._counters.dispatched += len(delivery.confirmed)
            self._counters.confirm_seconds.add(delivery.confirm_s)
        for key, why in delivery.too_large.items():
            text = "entry %s: the broker refuses its configuration for good, it is not stored: %s"
            log.warning(text, key, why, extra=fields(entry=str(key), reason=TOO_LARGE))
            self._count(TOO_LARGE)

    def _make_tasks(self, batch: Batch, configurations: dict[EntryId, Configuration]) -> Tasks[EntryId]:
        read_at, locations = self._locations.pop(id(batch), (0.0, None))
        if not configurations:
            return Tasks()
        if time.monotonic() - read_at > FRESH_S:
            locations = None
        made = self._retry(lambda: make_tasks(self._stream, self._repository, configurations, locations))
        self._count_refused(configurations, made.refused)
        return made

    def _select(self, batch: Batch, outcomes: Sequence[Outcome], *, repeated: bool) -> dict[EntryId, Configuration]:
        """The configurations of rows just inserted, and of rows found that may not have been handed over.

        A duplicate is no news, unless its entry was delivered before or the transaction was tried before: the process
        that saved it may have died, or lost the database, in between. Then it is handed over if no backup is stored.
        """
        wanted: dict[EntryId, Configuration] = {}
        doubtful: dict[EntryId, Configuration] = {}
        for key, record, outcome in zip(batch.record_ids, batch.records, outcomes, strict=True):
            text = batch.configurations.get(key)
            if text is None or not isinstance(outcome, Saved):
                continue
            configuration = Configuration(batch.first_ids.get(key, key), record, text)
            if outcome == INSERTED:
                wanted[key] = configuration
            elif outcome.outcome == "duplicate" and (repeated or key in batch.redelivered):
                doubtful[key] = configuration
        if doubtful:
            inserted = {configuration.record.task_identifier for configuration in wanted.values()} - {""}
            unknown = _one_each(doubtful, inserted)
            wanted |= self._retry(lambda: not_stored(self._stream, self._repository, unknown))
        return wanted

    def _send(self, delivery: Delivery[EntryId]) -> None:
        with self._broker_seen():
            delivery.begin()

    def _advance(self, delivery: Delivery[EntryId]) -> None:
        with self._broker_seen():
            while not delivery.advance(STEP_S):
                self._counters.broker_up = True
                self._waiting.for_server()

    @contextmanager
    def _broker_seen(self) -> Iterator[None]:
        try:
            yield
        except DvctlError as error:
            self._counters.broker_up = False
            error.server = BROKER
            raise
        self._counters.broker_up = True

    def _count_refused(self, configurations: dict[EntryId, Configuration], refused: dict[EntryId, str]) -> None:
        for key, reason in refused.items():
            self._count(reason)
            device = configurations[key].record.device_id
            if reason == UNDECODABLE:
                about = fields(entry=str(key), device=device, reason=reason)
                log.warning("entry %s: its configuration is not UTF-8, it is not stored", key, extra=about)
            elif (device, reason) not in self._warned:
                self._warned.add((device, reason))
                log.warning(_WHY[reason], device, extra=fields(device=device, reason=reason))

    def _count(self, reason: str) -> None:
        self._counters.not_dispatched[reason] = self._counters.not_dispatched.get(reason, 0) + 1


def _one_each(configurations: dict[EntryId, Configuration], without: Iterable[str]) -> dict[EntryId, Configuration]:
    """Of messages with one identifier the first: they have one row."""
    seen = set(without)
    first: dict[EntryId, Configuration] = {}
    for key, configuration in configurations.items():
        identifier = configuration.record.task_identifier
        if identifier not in seen:
            first[key] = configuration
            if identifier:
                seen.add(identifier)
    return first
