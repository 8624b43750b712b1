"""Yardstick: FastStream's subscriber of Redis Streams in batches, executemany and one commit a batch.

`python -m tests.bench.batch_library REDIS_URL DATABASE_URL COUNT`
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import psycopg
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import RedisBatchStreamMessage
from faststream.redis.parser import MessageFormat

from tests.bench.measure import tell
from tests.bench.messages import BATCH, GROUP, STREAM, row
from tests.bench.one_at_a_time import INSERT


class Fields(MessageFormat):
    """The messages are plain fields, no envelopes; the library wants each as a JSON body."""

    @classmethod
    def parse(cls, data: Any) -> tuple[bytes, dict[str, Any]]:
        return json.dumps({name.decode(): value.decode() for name, value in data.items()}).encode(), {}


async def consume(redis_url: str, database_url: str, count: int) -> None:
    """Consume so many messages; the library acknowledges a batch after its handler."""
    broker = RedisBroker(redis_url, logger=None, message_format=Fields, apply_types=False)
    done, finished = 0, asyncio.Event()
    connection = await psycopg.AsyncConnection.connect(database_url)
    source = StreamSub(STREAM, group=GROUP, consumer="library", batch=True, max_records=BATCH, polling_interval=100)

    async def raw(message: RedisBatchStreamMessage) -> list[Any]:
        ids = message.raw_message["message_ids"]
        return list(zip(ids, message.raw_message["data"], strict=True))

    @broker.subscriber(stream=source, decoder=raw)
    async def save(messages: list[Any]) -> None:
        nonlocal done
        async with connection.cursor() as cursor:
            await cursor.executemany(INSERT, [row(key, fields) for key, fields in messages])
        await connection.commit()
        done += len(messages)
        if done >= count:
            finished.set()

    started = time.perf_counter()
    await broker.start()
    await finished.wait()
    tell(done, time.perf_counter() - started)
    await broker.stop()
    await connection.close()


if __name__ == "__main__":
    asyncio.run(consume(sys.argv[1], sys.argv[2], int(sys.argv[3])))
