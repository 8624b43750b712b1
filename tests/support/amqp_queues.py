"""Queues of RabbitMQ as a plain py-amqp client sees them: declared, counted, filled and read; no dvctl, no kombu."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp

QUEUES = ("storage.git", "storage.fs")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the node keeps it."""

    body: bytes
    properties: dict[str, Any]
    headers: dict[str, Any]
    exchange: str
    routing_key: str
    redelivered: bool


@contextmanager
def channel(url: str, **options: Any) -> Iterator[Any]:
    """A channel on a connection of its own; options: of amqp.Connection."""
    parts = urlsplit(url)
    settings = {
        "host": f"{parts.hostname}:{parts.port}",
        "userid": unquote(parts.username or "guest"),
        "password": unquote(parts.password or "guest"),
        "virtual_host": unquote(parts.path[1:]) or "/",
        "connect_timeout": 20,
        "read_timeout": 20,
        "write_timeout": 20,
    }
    with amqp.Connection(**settings | options) as connection:
        yield connection.channel()


def declare(url: str, *queues: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Create queues (DeviceVault's, unless named) as Celery does: bound to a durable direct exchange of the same name.

    arguments: of the queues, where an operator has given them some (x-queue-type, x-max-length, x-overflow).
    """
    with channel(url) as opened:
        for queue in queues or QUEUES:
            opened.exchange_declare(queue, "direct", durable=True, auto_delete=False)
            opened.queue_declare(queue, durable=True, auto_delete=False, arguments=dict(arguments or {}))
            opened.queue_bind(queue, queue, queue)


def remove_queues(url: str) -> None:
    """Delete DeviceVault's queues and exchanges, with everything in them."""
    with channel(url) as opened:
        for queue in QUEUES:
            opened.queue_delete(queue)
            opened.exchange_delete(queue)


def exists(url: str, queue: str) -> bool:
    """Whether there is such a queue."""
    try:
        length(url, queue)
    except amqp.NotFound:
        return False
    return True


def length(url: str, queue: str) -> int:
    """How many messages are ready in it. Raises amqp.NotFound."""
    with channel(url) as opened:
        return int(opened.queue_declare(queue, passive=True).message_count)


def consumers(url: str, queue: str) -> int:
    """How many consumers are on it. Raises amqp.NotFound."""
    with channel(url) as opened:
        return int(opened.queue_declare(queue, passive=True).consumer_count)


def messages(url: str, queue: str, *, keep: bool = False) -> list[Message]:
    """Take what is ready in it, in order; `keep`: give everything back afterwards."""
    found = []
    with channel(url) as opened:
        while (got := opened.basic_get(queue, no_ack=not keep)) is not None:
            found.append(_message(got))
    return found


def publish(url: str, queue: str, body: str | bytes, **properties: Any) -> None:
    """Put a persistent message into the queue, confirmed by the node."""
    with channel(url, confirm_publish=True) as opened:
        message = amqp.Message(body, **{"delivery_mode": 2} | properties)
        opened.basic_publish(message, "", queue, mandatory=True, confirm_timeout=20)


def _message(got: Any) -> Message:
    properties = dict(got.properties)
    headers = properties.pop("application_headers", {})
    about = got.delivery_info
    body = got.body if isinstance(got.body, bytes) else got.body.encode()
    return Message(body, properties, headers, about["exchange"], about["routing_key"], bool(about["redelivered"]))
