"""Both brokers behind one set of functions, for tests that must hold on RabbitMQ and on Redis alike."""

from __future__ import annotations

from contextlib import closing
from typing import Protocol

import redis

from tests.support import amqp_queues, broker_samples, redis_queues
from tests.support.amqp_queues import Message
from tests.support.broker_samples import Sample


class Broker(Protocol):
    """A broker that is empty when the test begins."""

    name: str
    url: str

    def declare(self) -> None:
        """Create DeviceVault's queues as its worker does."""

    def length(self, queue: str) -> int:
        """How many messages wait in the queue; 0 if it does not exist."""

    def messages(self, queue: str, *, keep: bool = False) -> list[Message] | list[bytes]:
        """Take the messages of the queue in order: see celery_id and payload of broker_samples."""

    def texts(self, queue: str) -> list[str]:
        """The messages of the queue with their ids masked, for comparison with `samples`; they stay there."""

    def samples(self) -> tuple[Sample, ...]:
        """DeviceVault's own messages on this broker."""


class AmqpBroker:
    """RabbitMQ."""

    name = "amqp"

    def __init__(self, url: str) -> None:
        self.url = url

    def declare(self) -> None:
        amqp_queues.declare(self.url)

    def length(self, queue: str) -> int:
        return amqp_queues.length(self.url, queue) if amqp_queues.exists(self.url, queue) else 0

    def messages(self, queue: str, *, keep: bool = False) -> list[Message]:
        return amqp_queues.messages(self.url, queue, keep=keep) if amqp_queues.exists(self.url, queue) else []

    def texts(self, queue: str) -> list[str]:
        return [broker_samples.amqp_text(message) for message in self.messages(queue, keep=True)]

    def samples(self) -> tuple[Sample, ...]:
        return broker_samples.amqp_samples()


class RedisBroker:
    """Redis."""

    name = "redis"

    def __init__(self, url: str) -> None:
        self.url = url

    def declare(self) -> None:
        with closing(redis.Redis.from_url(self.url)) as client:
            redis_queues.declare(client)

    def length(self, queue: str) -> int:
        with closing(redis.Redis.from_url(self.url)) as client:
            return redis_queues.length(client, queue)

    def messages(self, queue: str, *, keep: bool = False) -> list[bytes]:
        with closing(redis.Redis.from_url(self.url)) as client:
            return redis_queues.messages(client, queue, keep=keep)

    def texts(self, queue: str) -> list[str]:
        return [broker_samples.redis_text(raw) for raw in self.messages(queue, keep=True)]

    def samples(self) -> tuple[Sample, ...]:
        return broker_samples.redis_samples()
