"""The messages of the benchmarks, and the rows that a correct consumer makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import redis

from tests.support.entries import entries
from tests.support.schema import DEVICES

STREAM = "device:results"
GROUP = "devicevault"
BATCH = 1000
COLUMNS = (
    "task_id",
    "task_identifier",
    "device_id",
    "status",
    "timestamp",
    "log",
    "initiated_at",
    "collection_duration_ms",
    "overall_duration_ms",
)

_LOG = json.dumps([f"2026-01-12 04:47:0{n} step {n}: collected the running configuration over ssh" for n in range(7)])
_STARTED = datetime(2026, 1, 12, 4, 47, tzinfo=UTC).isoformat()


class Row(NamedTuple):
    """A row in the order of COLUMNS."""

    task_id: str
    task_identifier: str
    device_id: int
    status: str
    timestamp: datetime
    log: str
    initiated_at: datetime
    collection_duration_ms: int
    overall_duration_ms: int | None


def message(number: int, size: int = 2048, device: int | None = None) -> dict[str, str]:
    """A message of `size` bytes: half a kilobyte of log, which becomes the row's, the rest configuration."""
    fields = {
        "task_id": f"{number:08x}-0000-4000-8000-000000000000",
        "task_identifier": f"collect:{number % DEVICES + 1}:{_STARTED}:{number}",
        "device_id": str(device or number % DEVICES + 1),
        "status": "success",
        "log": _LOG,
        "collection_duration_ms": "1234",
        "initiated_at": _STARTED,
        "is_binary": "False",
    }
    used = sum(len(name) + len(value) for name, value in fields.items())
    return fields | {"device_config": "x" * max(0, size - used)}


def publish(client: redis.Redis, key: str, count: int, size: int = 2048, device: int | None = None) -> None:
    """Put messages on a stream, a few megabytes at a time."""
    page = max(1, min(500, 4_000_000 // size))
    for start in range(0, count, page):
        with client.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + page, count)):
                fields: Any = message(number, size, device)
                pipe.xadd(key, fields)
            pipe.execute()


def row(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Row:
    """What the message becomes, for messages known to be good."""
    ms, _, seq = entry_id.partition(b"-")
    microseconds = int(ms) * 1000 + int(seq) % 1000
    time = datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
    started = datetime.fromisoformat(fields[b"initiated_at"].decode())
    overall = int((time - started).total_seconds() * 1000)
    return Row(
        fields[b"task_id"].decode(),
        fields[b"task_identifier"].decode(),
        int(fields[b"device_id"]),
        fields[b"status"].decode(),
        time,
        fields[b"log"].decode(),
        started,
        int(fields[b"collection_duration_ms"]),
        overall if overall < 2**31 else None,
    )


def rows_of_stream(client: redis.Redis) -> Iterator[list[Row]]:
    """The rows of the whole stream, a batch at a time."""
    start = "-"
    while page := entries(client, STREAM, start=start, count=BATCH):
        yield [row(key, fields) for key, fields in page]
        start = f"({page[-1][0].decode()}"
