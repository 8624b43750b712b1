"""From saved messages to tasks for the storage workers: which configuration is handed over, and why another is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from devicevault_cli.broker.store_task import BACKENDS, StoreTask, task_uuid
from devicevault_cli.messages import CONFIGURATION, SUCCESS, Fields
from devicevault_cli.record_columns import RecordColumns
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.storage import UNREADABLE, Location
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.page import Page

K = TypeVar("K", bound=Hashable)
Reason: TypeAlias = str

NO_LOCATION, OTHER_TYPE = "no-location", "unsupported-location"
UNDECODABLE, BAD_LOCATION, TOO_LARGE = "undecodable-config", "invalid-location-config", "too-large"
REASONS = (NO_LOCATION, OTHER_TYPE, UNDECODABLE, BAD_LOCATION, TOO_LARGE)
"""Why a configuration is not handed over."""


class Configuration(NamedTuple):
    """What a success brings to be stored. `first`: the id the message had first. `text`: as it came, often secret."""

    first: EntryId
    record: Record
    text: bytes

    def __repr__(self) -> str:
        return f"Configuration({self.first}, {len(self.text)} bytes)"


@dataclass(slots=True)
class Tasks(Generic[K]):
    """Tasks to hand over, and the reasons against the others, by key."""

    tasks: dict[K, StoreTask] = field(default_factory=dict)
    refused: dict[K, Reason] = field(default_factory=dict)

    def reasons(self) -> Counter[Reason]:
        """How many were refused for each reason."""
        return Counter(self.refused.values())


def configuration_of(first: EntryId, record: Record, fields: Fields) -> Configuration | None:
    """What a message brings to be stored; None: it is no success."""
    return Configuration(first, record, fields.get(CONFIGURATION, b"")) if record.status == SUCCESS else None


def configurations_of(page: Page, records: RecordColumns, ids: Sequence[EntryId]) -> dict[int, Configuration]:
    """What the messages of a page bring to be stored, by position. `records`: of each. `ids`: what they had first."""
    found = zip(ids, records.column("status"), page.column(CONFIGURATION), strict=True)
    wanted = SUCCESS.encode()
    return {
        number: Configuration(first, records[number], text)
        for number, (first, status, text) in enumerate(found)
        if status == wanted
    }


def backend_of(location: Location | None) -> str | None:
    """The storage backend of a backup location: `git` or `fs`; None: no storage worker takes its configurations."""
    return None if location is None else BACKENDS.get(location.type.lower())


def make_tasks(
    stream: str,
    repository: Repository,
    configurations: Mapping[K, Configuration],
    locations: Mapping[int, Location] | None = None,
) -> Tasks[K]:
    """One task for each configuration whose device has a location that a storage worker serves.

    `locations`: of these devices, read a moment ago; None: they are read now, since an operator may change them.
    """
    found = locations
    if found is None:
        devices = (configuration.record.device_id for configuration in configurations.values())
        found = repository.storage.locations(devices)
    made: Tasks[K] = Tasks()
    for key, configuration in configurations.items():
        task = _task(stream, configuration, found.get(configuration.record.device_id))
        if isinstance(task, StoreTask):
            made.tasks[key] = task
        else:
            made.refused[key] = task
    return made


def _task(stream: str, configuration: Configuration, location: Location | None) -> StoreTask | Reason:
    backend = backend_of(location)
    if location is None or backend is None:
        return NO_LOCATION if location is None else OTHER_TYPE
    if location.config is UNREADABLE:
        return BAD_LOCATION
    text = configuration.text
    try:
        _ = text.isascii() or text.decode()
    except UnicodeDecodeError:
        return UNDECODABLE
    record = configuration.record
    return StoreTask(
        task_uuid(stream, str(configuration.first)),
        record.task_id,
        record.task_identifier,
        record.device_id,
        backend,
        location.config,
        text,
        location.encrypt,
    )


def not_stored(
    stream: str, repository: Repository, configurations: Mapping[K, Configuration], *, successfully: bool = False
) -> dict[K, Configuration]:
    """Those configurations that have no stored backup, or with `successfully` none whose status is success.

    A backup belongs to a configuration by its identifier, or by the id of the task that stored it.
    """
    tasks = {key: task_uuid(stream, str(configuration.first)) for key, configuration in configurations.items()}
    identifiers = (configuration.record.task_identifier for configuration in configurations.values())
    backups = repository.storage.backups(identifiers, tasks.values())
    left: dict[K, Configuration] = {}
    for key, configuration in configurations.items():
        statuses = backups.statuses(configuration.record.task_identifier, tasks[key])
        if not (SUCCESS in statuses if successfully else statuses):
            left[key] = configuration
    return left
