"""What a row is: the values dvctl writes, in the order of their columns, independent of SQL and Redis."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

Micros: TypeAlias = int
"""Microseconds since 1970-01-01T00:00:00Z. Integers, because a datetime per message costs more than the row."""

INT4_MAX = 2_147_483_647
INT8_MAX = 9_223_372_036_854_775_807
LATEST: Micros = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z, the last instant that every database and Python can hold."""


class DeviceResult(NamedTuple):
    """One row of `devices_devicebackupresult`. A NamedTuple: created 20,000 times a second, transposed by zip()."""

    task_id: str
    task_identifier: str
    device_id: int
    status: str
    timestamp: Micros
    log: str
    initiated_at: Micros | None
    collection_duration_ms: int | None
    overall_duration_ms: int | None


class StorageResult(NamedTuple):
    """One row of `backups_storedbackup`."""

    task_id: str
    task_identifier: str
    device_id: int
    status: str
    timestamp: Micros
    log: str
    storage_backend: str
    storage_ref: str
    storage_duration_ms: int | None


Record: TypeAlias = DeviceResult | StorageResult

Identity: TypeAlias = str | tuple[int, str, Micros, str, str]
"""`task_identifier`, or without one (device_id, task_id, timestamp, status, log)."""


def identity(record: Record) -> Identity:
    """What makes two deliveries the same record."""
    return record.task_identifier or (record.device_id, record.task_id, record.timestamp, record.status, record.log)
