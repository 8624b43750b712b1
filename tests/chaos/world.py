"""What chaos happens to: a Redis and a PostgreSQL behind proxies, a producer that goes on, consumers that may not."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import redis

from tests.support import oracle
from tests.support.messages import Message, Sent, bad, good, odd, publish
from tests.support.postgres_server import PostgresServer
from tests.support.process import Dvctl, Running
from tests.support.proxy import DatabaseProxy, RedisProxy
from tests.support.redis_server import RedisServer
from tests.support.servers import NO_POSTGRES, NO_REDIS, available, some_postgres, some_redis

REASON = b"chaos_reason"
"""An extra field, which dvctl ignores: why this message must be rejected. The judge reads it from the stream itself."""

CLAIM_IDLE = "3s"
RATE = 400


class World:
    """The system under chaos. `remove` ends everything."""

    def __init__(self, directory: Path, seed: int, consumers: int = 3) -> None:
        redis_kind, postgres_kind = available(some_redis(), NO_REDIS), available(some_postgres(), NO_POSTGRES)
        self.seed = seed
        self.redis = RedisServer(redis_kind, "--appendonly", "yes", "--appendfsync", "always").start()
        self.postgres = PostgresServer(postgres_kind, durable=True).start()
        self.database_url = self.postgres.database()
        self.redis_proxy = RedisProxy(self.redis.url)
        self.database_proxy = DatabaseProxy(self.database_url)
        self.dvctl = Dvctl(directory).use(self.redis_proxy.url, self.database_proxy.url)
        self.published: list[str] = []
        self._stop = threading.Event()
        self._producer = threading.Thread(target=self._produce, name="producer", daemon=True)
        self._producer.start()
        self.consumers: list[Running] = []
        for _ in range(consumers):
            self.start_consumer()

    def start_consumer(self) -> Running:
        """One more; its name is the lowest slot that is free."""
        running = self.dvctl.start("consume", "--claim-idle", CLAIM_IDLE, "--batch-size", "200", "-v")
        self.consumers.append(running)
        return running

    def take_one(self, chance: random.Random) -> Running:
        """Any consumer that lives; the caller ends it."""
        living = [consumer for consumer in self.consumers if consumer.alive()]
        assert living, "every consumer ended by itself: " + self.consumers[-1].stderr[-2000:]
        return chance.choice(living)

    def _produce(self) -> None:
        """Good messages, one in ten again later, bad and odd ones between; straight to Redis, which may be away."""
        chance = random.Random(self.seed)
        spoiled = [*bad(self.seed), *odd(self.seed)]
        again: list[Message] = []
        number = 0
        while not self._stop.is_set():
            batch = good(RATE // 10, seed=self.seed, start=number, size=500)
            number += len(batch)
            batch += [again.pop(chance.randrange(len(again))) for _ in range(4) if again]
            again = (again + chance.sample(batch, 4))[-500:]
            batch += [spoiled.pop()] if spoiled else []
            self._publish([_marked(message) for message in batch])
            self._stop.wait(0.1)

    def _publish(self, batch: list[Message]) -> None:
        try:
            with self.redis.client(socket_timeout=2) as client:
                self.published += [sent.id for sent in publish(client, batch)]
        except redis.RedisError:
            time.sleep(0.05)  # what of it arrived stands on the stream; what did not was never published

    def settle(self) -> None:
        """Heal everything, stop producing, and let a fresh consumer drain what is left."""
        self._stop.set()
        self._producer.join(30)
        self.redis_proxy.losses.clear()
        self.database_proxy.losses.clear()
        for running in self.consumers:
            if running.alive():
                running.thaw()
        self.dvctl.ok("consume", "--drain", "--claim-idle", CLAIM_IDLE, "--max-wait", "60s", timeout=90)
        for running in self.consumers:
            if running.alive():
                assert running.sigterm().code == 0, running.stderr[-2000:]

    def judge(self) -> oracle.Findings:
        """Oracle E over what stands on the stream; what Redis confirmed and lost would be `lost` as well."""
        with self.redis.client(socket_timeout=30) as client:
            there = [(given.decode(), fields) for given, fields in client.xrange(oracle.STREAM)]
        sent = [Sent(given, Message(fields, fields[REASON].decode() or None)) for given, fields in there]
        found = oracle.everything(self.redis.url, self.database_url, sent)
        found.lost += sorted(set(self.published) - {one.id for one in sent})
        return found

    def remove(self) -> None:
        """End every process and thread. Raises AssertionError if a proxy had failed."""
        self._stop.set()
        self._producer.join(30)
        self.dvctl.kill_all()
        try:
            self.redis_proxy.close()
            self.database_proxy.close()
        finally:
            self.redis.remove()
            self.postgres.remove()


def _marked(message: Message) -> Message:
    return Message(message.fields | {REASON: (message.reason or "").encode()}, message.reason)
