"""A table that refuses rows for a reason that is not in the message: what is said of it, and the probe record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

from devicevault_cli.errors import TableAtFault
from devicevault_cli.records import DeviceResult, Record, StorageResult
from devicevault_cli.repository.schema import to_micros
from devicevault_cli.repository.tables import TableSpec

NULLABLE = frozenset({"initiated_at", "collection_duration_ms", "overall_duration_ms", "storage_duration_ms"})
"""The columns into which dvctl writes NULL by a rule of its own."""


class Fault(NamedTuple):
    """What is wrong with a table. `refuses`: no row can be saved until it is repaired; else it is only a risk."""

    error: TableAtFault
    refuses: bool = True


def probe_record(spec: TableSpec, device_id: int) -> Record:
    """A record as a real worker sends them, with an identity that no other row has."""
    now = datetime.now(UTC)
    named = f"collect:{device_id}:{now.isoformat()}"
    common = (str(uuid4()), named, device_id, "success", to_micros(now), "[]")
    if spec.record is DeviceResult:
        return DeviceResult(*common, None, None, None)
    return StorageResult(*common, "git", "0" * 40, None)


def null_refused(where: str, spec: TableSpec, columns: list[str], code: str) -> TableAtFault:
    """NOT NULL columns without a default that dvctl does not write, or into which it may write NULL."""
    unwritten = [column for column in columns if column not in spec.columns]
    named = ", ".join(unwritten or columns)
    if unwritten:
        what = "has no default, and dvctl does not write it"
        fix = f"ALTER TABLE {spec.name} ALTER COLUMN {unwritten[0]} SET DEFAULT ...;"
    else:
        what = "has to hold NULL for messages that do not say it"
        fix = f"make {named} of {spec.name} nullable"
    return TableAtFault(f"{where}: {spec.name} refuses rows: NOT NULL column {named} {what} ({code})", hint=fix)


def swallowed(where: str, spec: TableSpec, triggers: str = "") -> TableAtFault:
    """The INSERT succeeded, and there is no row."""
    return TableAtFault(
        f"{where}: the INSERT into {spec.name} reported no row, and none is there",
        hint=f"a trigger or rule discards rows: look at {triggers or f'the triggers of {spec.name}'}",
    )
