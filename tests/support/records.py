"""Records for the tests of the repository, and the same rows as another writer puts them into the table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from devicevault_cli.records import DeviceResult, StorageResult
from devicevault_cli.repository.repository import Repository
from tests.support import django_models

T0 = 1_767_225_600_123_456
"""2026-01-01T00:00:00.123456Z in microseconds."""

DISTINCT = (
    "collect:1",
    "COLLECT:1",
    "collect:1 ",
    " collect:1",
    "collect:1\t",
    "colléct:1",
    "colle\u0301ct:1",
    "😀",
    "ß",
    "ss",
)
"""Identifiers that some collation equates."""


def result(identifier: str, device: int = 1, **fields: Any) -> DeviceResult:
    """A record of `devices_devicebackupresult`."""
    record = DeviceResult(
        task_id=f"task-{identifier}"[:64],
        task_identifier=identifier,
        device_id=device,
        status="success",
        timestamp=T0,
        log='["collected", {"level": "info"}]',
        initiated_at=T0 - 1_500_000,
        collection_duration_ms=1200,
        overall_duration_ms=1500,
    )
    return record._replace(**fields)


def stored(identifier: str, device: int = 1, **fields: Any) -> StorageResult:
    """A record of `backups_storedbackup`."""
    record = StorageResult("task", identifier, device, "success", T0 + 500_000, "[]", "git", "refs/heads/main", 42)
    return record._replace(**fields)


def instant(micros: int | None) -> datetime | None:
    """The datetime that Django gives for it."""
    return None if micros is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def as_django(record: DeviceResult | StorageResult) -> dict[str, Any]:
    """The values of the record's row as the Django ORM reads them."""
    times = ("timestamp", "initiated_at")
    return {name: instant(value) if name in times else value for name, value in record._asdict().items()}


def insert(url: str, records: Iterable[DeviceResult]) -> None:
    """Put rows into the table as DeviceVault would: without looking."""
    with django_models.connection(url):
        django_models.DeviceBackupResult.objects.using(url).bulk_create(
            [django_models.DeviceBackupResult(**as_django(record)) for record in records]
        )


def execute(url: str, *statements: str) -> None:
    """Run statements on any database."""
    with django_models.connection(url) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def execute_through(repository: Repository, *statements: str) -> None:
    """Run statements in one transaction on the connection of a repository."""
    with repository._dialect.writing() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def select_through(repository: Repository, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement, read on the connection of a repository."""
    with repository._dialect.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]
