"""The two tables dvctl writes, in the order of their records' fields. Only columns that dvctl touches stand here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from devicevault_cli.records import DeviceResult, Identity, Record, StorageResult

Kind: TypeAlias = Literal["text", "integer", "time"]

DEVICES = "devices_device"

_KINDS: dict[str, Kind] = {
    "device_id": "integer",
    "timestamp": "time",
    "initiated_at": "time",
    "collection_duration_ms": "integer",
    "overall_duration_ms": "integer",
    "storage_duration_ms": "integer",
}


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table and the record that is one row of it."""

    name: str
    record: type[DeviceResult] | type[StorageResult]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column but `id`, in the order of the record's fields."""
        return self.record._fields

    def kind(self, column: str) -> Kind:
        """What a column holds."""
        return _KINDS.get(column, "text")

    @property
    def index_name(self) -> str:
        """The name of the unique index that `db index` creates."""
        return f"{self.name}_task_identifier_dvctl"

    def probe(self, identity: Identity) -> Record:
        """A record with this identity and nothing else, for looking rows up."""
        if isinstance(identity, str):
            return self._blank("", identity, 0, "", 0, "")
        device_id, task_id, timestamp, status, log = identity
        return self._blank(task_id, "", device_id, status, timestamp, log)

    def _blank(
        self, task_id: str, task_identifier: str, device_id: int, status: str, timestamp: int, log: str
    ) -> Record:
        if self.record is DeviceResult:
            return DeviceResult(task_id, task_identifier, device_id, status, timestamp, log, None, None, None)
        return StorageResult(task_id, task_identifier, device_id, status, timestamp, log, "", "", None)


RESULTS = TableSpec("devices_devicebackupresult", DeviceResult)
STORAGE = TableSpec("backups_storedbackup", StorageResult)
TABLES = {spec.name: spec for spec in (RESULTS, STORAGE)}
