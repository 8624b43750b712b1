"""Yardstick: the bound. The same rows, made beforehand, into the same table: a batch and a commit, nothing else.

PostgreSQL by COPY, SQLite by executemany. `python -m tests.bench.bound REDIS_URL DATABASE_URL`
"""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing

import psycopg
import redis

from tests.bench.measure import tell
from tests.bench.messages import COLUMNS, Row, rows_of_stream

TABLE = f"devices_devicebackupresult ({', '.join(COLUMNS)})"


def main(redis_url: str, database_url: str) -> None:
    """Write all rows of the stream."""
    batches = list(rows_of_stream(redis.Redis.from_url(redis_url)))
    write = in_sqlite if database_url.startswith("sqlite") else in_postgres
    tell(sum(map(len, batches)), write(database_url, batches))


def in_postgres(url: str, batches: list[list[Row]]) -> float:
    """-> seconds"""
    texts = ["".join(map(copy_line, batch)).encode() for batch in batches]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        for text in texts:
            with cursor.copy(f"COPY {TABLE} FROM STDIN") as copy:
                copy.write(text)
            connection.commit()
        return time.perf_counter() - started


def in_sqlite(url: str, batches: list[list[Row]]) -> float:
    """-> seconds"""
    texts = [[tuple(map(stored, row)) for row in batch] for batch in batches]
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        started = time.perf_counter()
        for rows in texts:
            with connection:
                connection.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(COLUMNS))})", rows)
        return time.perf_counter() - started


def stored(value: object) -> object:
    """Times as Django stores them in SQLite."""
    return value if isinstance(value, str | int | None) else str(value).removesuffix("+00:00")


def copy_line(row: Row) -> str:
    """COPY's text format; the logs hold no tab, newline or backslash."""
    return "\t".join("\\N" if value is None else str(value) for value in row) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
