"""The real messages of DeviceVault's dispatch, and the comparison with them: byte for byte, but for what must differ.

What differs: the Celery id, `argsrepr`, `origin`, `reply_to` and, on Redis, `delivery_tag`. The samples stand in
`tests/data`: made by DeviceVault's consumer and the celery and kombu that they name.
"""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.amqp_queues import Message

_DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True, slots=True)
class Sample:
    """One job of DeviceVault: where it goes, the payload it carries, and the whole message with its ids masked."""

    queue: str
    payload: dict[str, Any]
    text: str


@cache
def amqp_samples() -> tuple[Sample, ...]:
    """What DeviceVault publishes through RabbitMQ: a job with everything in it, and one with nothing."""
    return tuple(
        Sample(entry["routing_key"], json.loads(entry["body"])[0][0], _amqp_text(entry, entry["body"]))
        for entry in _document("amqp")["messages"]
    )


@cache
def redis_samples() -> tuple[Sample, ...]:
    """The same jobs through Redis."""
    return tuple(
        Sample(entry["list"], json.loads(entry["body_decoded"])[0][0], redis_text(entry["raw"]))
        for entry in _document("redis")["messages"]
    )


def sample_bindings() -> dict[str, list[str]]:
    """The sets that stand on a Redis broker before the first message."""
    bindings: dict[str, list[str]] = _document("redis")["sets_before_push"]
    return bindings


def amqp_text(message: Message) -> str:
    """A message of RabbitMQ as text, for comparison with a sample's. Raises ValueError if its ids do not agree."""
    entry = {
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "properties": message.properties,
        "headers": message.headers,
    }
    return _amqp_text(entry, message.body.decode())


def redis_text(raw: bytes | str) -> str:
    """A message of a Redis broker, for comparison with a sample's. Raises ValueError if its ids do not agree."""
    text = raw.decode() if isinstance(raw, bytes) else raw
    message = json.loads(text)
    _check_ids(message["headers"], message["properties"])
    uuid.UUID(message["properties"]["delivery_tag"])
    return _masked(text, message["headers"], message["properties"])


def celery_id(message: Message | bytes) -> str:
    """The id under which the worker will report this job."""
    headers = message.headers if isinstance(message, Message) else json.loads(message)["headers"]
    return str(headers["id"])


def payload(message: Message | bytes) -> dict[str, Any]:
    """What the task will be given."""
    body = message.body if isinstance(message, Message) else base64.b64decode(json.loads(message)["body"])
    [argument], _, _ = json.loads(body)
    given: dict[str, Any] = argument
    return given


def _amqp_text(entry: dict[str, Any], body: str) -> str:
    _check_ids(entry["headers"], entry["properties"])
    envelope = json.dumps({name: entry[name] for name in ("exchange", "routing_key", "properties", "headers")})
    return f"{_masked(envelope, entry['headers'], entry['properties'])}\n{body}"


def _check_ids(headers: dict[str, Any], properties: dict[str, Any]) -> None:
    """The three places of the Celery id agree, and each value that differs from message to message is well formed."""
    ids = {headers["id"], headers["root_id"], properties["correlation_id"]}
    if len(ids) != 1:
        raise ValueError(f"one Celery id expected: {sorted(ids)}")
    for value in (headers["id"], properties["reply_to"]):
        uuid.UUID(value)
    for name in ("argsrepr", "origin"):
        if not (isinstance(headers[name], str) and headers[name]):
            raise ValueError(f"{name} must be text: {headers[name]!r}")


def _masked(text: str, headers: dict[str, Any], properties: dict[str, Any]) -> str:
    varying = [headers["id"], headers["argsrepr"], headers["origin"], properties["reply_to"]]
    for value in [*varying, properties.get("delivery_tag")]:
        if value is not None:
            text = text.replace(json.dumps(value), '"*"')
    return text


def _document(broker: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((_DATA / f"storage-store.{broker}.json").read_text())
    return document
