"""Successes and their stored backups, with a known number in every state of storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from devicevault_cli.broker.store_task import task_uuid
from devicevault_cli.operations.dispatch.names import STORAGE_STATES
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import now_ms
from tests.support.consuming import drain
from tests.support.records import execute_through
from tests.support.schema import ASSIGN_LOCATIONS

GIT, FS, NOWHERE, ELSEWHERE = 1, 31, 50, 49
"""Devices by their location; that of ELSEWHERE is of a type that no storage worker serves."""
OLD_MS, HOUR_MS = 1_768_000_000_000, 3_600_000


@dataclass
class Stored:
    """Adds entries and backups, and knows what `verify --storage` is to find."""

    stream: Stream
    repository: Repository
    ids: dict[str, list[EntryId]] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=count)

    def success(self, state: str, name: str | None = None, device: int = GIT, *, recent: bool = False) -> EntryId:
        """A success in a state; `recent`: half an hour old."""
        number = next(self._numbers)
        moment = now_ms() - HOUR_MS // 2 if recent else OLD_MS
        key = EntryId(moment, number)
        identifier = f"job-{number}" if name is None else name
        self.add(key, identifier, device, "success")
        self.ids.setdefault(state, []).append(key)
        return key

    def add(
        self, key: EntryId, name: str, device: int, status: str, config: bytes = b"interface lo", **more: str
    ) -> None:
        """Put an entry on the stream."""
        fields = {"task_id": f"t{key.seq}", "task_identifier": name, "device_id": device, "status": status} | more
        parts = [part for pair in fields.items() for part in pair]
        self.stream.call("XADD", self.stream.key, str(key), *parts, "device_config", config)

    def backup(self, status: str, name: str = "", task: str = "celery", device: int = GIT) -> None:
        """A row of the storage worker's answer, beside those there are."""
        values = f"'{task}', '{name}', {device}, '{status}', '2026-01-12 04:47:00', '[]', 'git', 'ref'"
        columns = "task_id, task_identifier, device_id, status, timestamp, log, storage_backend, storage_ref"
        execute_through(self.repository, f"INSERT INTO backups_storedbackup ({columns}) VALUES ({values})")

    def save(self) -> None:
        """The rows of all entries, and the locations of the devices."""
        drain(self.stream, self.repository)
        self.locate()

    def locate(self) -> None:
        """Give the devices their locations."""
        execute_through(
            self.repository,
            ASSIGN_LOCATIONS,
            "INSERT INTO locations_backuplocation (id, name, location_type, config) VALUES (9, 'bucket', 's3', '{}')",
            f"UPDATE devices_device SET backup_location_id = 9 WHERE id = {ELSEWHERE}",
        )

    @property
    def expected(self) -> dict[str, int]:
        """The key `storage` of `verify --storage`."""
        return {name: len(self.ids.get(name, [])) for name in STORAGE_STATES}


def store(stream: Stream, repository: Repository) -> Stored:
    """Every state, each with another number, and entries that have none."""
    repository.check()
    stored = Stored(stream, repository)
    unnamed = stored.success("stored", name="")
    for number, device in enumerate((GIT, FS, NOWHERE, ELSEWHERE)):
        stored.success("stored", f"kept-{number}", device)
        stored.backup("success", f"kept-{number}", device=device)
    stored.success("stored", "healed")
    stored.backup("failure", "healed")
    stored.backup("success", "healed")
    healed_by_task = stored.success("stored", "healed by its task")
    stored.backup("failure", "healed by its task")
    stored.backup("success", task=task_uuid(stream.key, str(healed_by_task)))
    stored.backup("success", task=task_uuid(stream.key, str(unnamed)))
    for number in range(2):
        stored.success("store_failed", f"failed-{number}", FS)
        stored.backup("failure", f"failed-{number}", device=FS)
    for name in ("twice", "twice", "alone", ""):
        stored.success("not_stored", name)
    raw = EntryId(OLD_MS, next(stored._numbers))
    stored.add(raw, "raw", GIT, "success", b"\xff\xfe")
    stored.ids["not_stored"].append(raw)
    for device in (NOWHERE, ELSEWHERE, ELSEWHERE):
        stored.success("not_dispatchable", device=device)
    for status in ("failure", "Success", "partial"):
        stored.add(EntryId(OLD_MS, next(stored._numbers)), f"no {status}", GIT, status)
    stored.add(EntryId(OLD_MS, next(stored._numbers)), "bad", GIT, "success", log="{")
    stored.success("in_progress", recent=True)
    stored.success("stored", "recent", recent=True)
    stored.backup("success", "recent")
    stored.save()
    return stored
