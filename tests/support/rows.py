"""The rows of a table by a plain driver, as integers and strings: how an oracle looks at a database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    """What makes a row's identity, and its id. `timestamp`: microseconds of the Unix epoch."""

    id: int
    task_id: str
    task_identifier: str
    device_id: int
    status: str
    timestamp: int
    log: str

    @property
    def identity(self) -> Any:
        return self.task_identifier or (self.device_id, self.task_id, self.timestamp, self.status, self.log)


def read_rows(url: str, table: str = "devices_devicebackupresult") -> list[Row]:
    """Every row, in id order."""
    found = select(url, f"SELECT {', '.join(Row._fields)} FROM {table} ORDER BY id")
    return [Row._make((*values[:5], micros(values[5]), values[6])) for values in found]


def select(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a query, whatever the database."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return connection.execute(statement).fetchall()
    if parts.scheme == "mysql":
        import pymysql

        with pymysql.connect(
            host=parts.hostname,
            port=parts.port or 0,
            user=parts.username,
            password=unquote(parts.password or ""),
            database=parts.path[1:],
        ) as connected:
            cursor = connected.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall())
    import psycopg

    with psycopg.connect(url) as session:
        return session.execute(statement.encode()).fetchall()


def micros(value: Any) -> int:
    """A database's timestamp (naive means UTC) in microseconds of the Unix epoch."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = moment - EPOCH
    return int((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def count(identities: Iterable[Any]) -> dict[Any, int]:
    """How often each stands there."""
    counted: dict[Any, int] = {}
    for one in identities:
        counted[one] = counted.get(one, 0) + 1
    return counted
