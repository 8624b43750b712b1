"""Yardstick: the way DeviceVault's consumer works, on psycopg: per message two queries, an insert, a commit, an XACK.

It prepares no statements on the server: Django does not, and dvctl does not, for the sake of PgBouncer.

`python -m tests.bench.one_at_a_time REDIS_URL DATABASE_URL COUNT`
"""

from __future__ import annotations

import sys
import time

import psycopg
import redis

from tests.bench.measure import tell
from tests.bench.messages import COLUMNS, GROUP, STREAM, row
from tests.support.entries import read_new

INSERT = f"INSERT INTO devices_devicebackupresult ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"


def main(redis_url: str, database_url: str, count: str) -> None:
    """Consume so many messages."""
    client = redis.Redis.from_url(redis_url)
    done, started = 0, time.perf_counter()
    with psycopg.connect(database_url, prepare_threshold=None) as connection:
        while done < int(count):
            for key, fields in read_new(client, STREAM, GROUP, "one", count=10, block=1000):
                consume(connection, key, fields)
                client.xack(STREAM, GROUP, key)
                done += 1
    tell(done, time.perf_counter() - started)


def consume(connection: psycopg.Connection, key: bytes, fields: dict[bytes, bytes]) -> None:
    """One message, one transaction."""
    values = row(key, fields)
    known = "SELECT 1 FROM devices_devicebackupresult WHERE task_identifier = %s LIMIT 1"
    if connection.execute(known, (values.task_identifier,)).fetchone() is None:
        connection.execute("SELECT id FROM devices_device WHERE id = %s", (values.device_id,)).fetchone()
        connection.execute(INSERT, values)
    connection.commit()


if __name__ == "__main__":
    main(*sys.argv[1:])
