"""The two tables dvctl writes, in the order of their records' fields. Only columns that dvctl touches stand here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from devicevault_cli.records import DeviceResult, Identity, Record, StorageResult

Kind: TypeAlias = Literal["text", "integer", "time"]

DEVICES = "devices_device"

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("device_id", "collection_duration_ms", "overall_duration_ms", "storage_duration_ms"), "integer"),
    **dict.fromkeys(("timestamp", "initiated_at"), "time"),
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
            common = ("", identity, 0, "", 0, "")
        else:
            device_id, task_id, timestamp, status, log = identity
            common = (task_id, "", device_id, status, timestamp, log)
        if self.record is DeviceResult:
            return DeviceResult(*common, None, None, None)
        return StorageResult(*common, "", "", None)


RESULTS = TableSpec("devices_devicebackupresult", DeviceResult)
STORAGE = TableSpec("backups_storedbackup", StorageResult)
TABLES = {spec.name: spec for spec in (RESULTS, STORAGE)}
