"""What became of the configurations of successes: stored, failed, not stored. Reading only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from devicevault_cli.broker.store_task import task_uuid
from devicevault_cli.messages import SUCCESS
from devicevault_cli.operations.dispatch.names import StorageState
from devicevault_cli.operations.dispatch.tasks import backend_of
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.model import LAST, EntryId


class Success(NamedTuple):
    """An entry whose row is in the table. `first`: the id the message had first."""

    id: EntryId
    first: EntryId
    record: Record


def check_storage_tables(repository: Repository) -> None:
    """The tables of locations and stored backups can be read. Raises Refused or SchemaMismatch."""
    repository.storage.locations([0])
    repository.storage.backups([], ["none"])


def storage_states(
    stream: str, repository: Repository, successes: Sequence[Success], recent: EntryId = LAST
) -> list[StorageState]:
    """The state of each configuration, in order. `recent`: entries from this id on may still be on their way.

    A backup belongs to an entry by its identifier, or by the id of the task that stored it. Where there is none, the
    device's location decides, as it is now.
    """
    statuses = _statuses(stream, repository, successes)
    pairs = list(zip(successes, statuses, strict=True))
    served = served_devices(repository, (success.record.device_id for success, found in pairs if not found))
    return [_state(success, found, served, recent) for success, found in pairs]


def _statuses(stream: str, repository: Repository, successes: Sequence[Success]) -> list[frozenset[str]]:
    """The statuses of the backups of each. Only what no identifier proves stored is looked for by its task."""
    none: frozenset[str] = frozenset()
    named = repository.storage.backups((success.record.task_identifier for success in successes), ()).by_identifier
    found = [named.get(success.record.task_identifier, none) for success in successes]
    tasks = [
        "" if SUCCESS in statuses else task_uuid(stream, str(success.first))
        for success, statuses in zip(successes, found, strict=True)
    ]
    by_task = repository.storage.backups((), tasks).by_task
    return [statuses | by_task.get(task, none) for statuses, task in zip(found, tasks, strict=True)]


def _state(success: Success, statuses: frozenset[str], served: frozenset[int], recent: EntryId) -> StorageState:
    if statuses:
        return "stored" if SUCCESS in statuses else "store_failed"
    if success.record.device_id not in served:
        return "not_dispatchable"
    return "in_progress" if success.id >= recent else "not_stored"


def served_devices(repository: Repository, device_ids: Iterable[int]) -> frozenset[int]:
    """Those of the devices whose backup location a storage worker serves."""
    found = repository.storage.locations(device_ids)
    return frozenset(device for device, location in found.items() if backend_of(location) is not None)
