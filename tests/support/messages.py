"""Messages for the tests, from a seed: good ones, odd ones to be kept, one of every bad kind with its reason."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from tests.support.schema import DEVICES

Fields = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Message:
    """What a worker would publish, and the reason for which it must be rejected (None: it must be persisted)."""

    fields: Fields
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A message with the id that Redis gave it."""

    id: str
    message: Message


def good(count: int, *, seed: int = 1, size: int = 200, start: int = 0) -> list[Message]:
    """Distinct good messages; `size`: bytes of device_config, `start`: the number of the first one."""
    chance = random.Random(f"{seed}-{start}")
    return [Message(_good(number, seed, chance, size)) for number in range(start, start + count)]


def _good(number: int, seed: int, chance: random.Random, size: int) -> Fields:
    device = chance.randint(1, DEVICES)
    status = chance.choice(("success", "success", "success", "failure"))
    log = [{"source": "ssh", "severity": "INFO", "message": f"step {step}"} for step in range(chance.randint(0, 3))]
    return _fields(
        task_id=f"{seed:08x}-{number:08x}",
        task_identifier=f"collect:{device}:{seed}:{number}",
        device_id=device,
        status=status,
        log=json.dumps(log),
        device_config="x" * size if status == "success" else "",
        collection_duration_ms=chance.randint(0, 90_000),
        initiated_at="2026-01-12T04:47:00.123456+00:00",
        is_binary=False,
    )


def storage(count: int, *, seed: int = 1, start: int = 0) -> list[Message]:
    """Good messages of the stream `storage:results`, as the answer to `good` with the same seed."""
    messages = []
    for answered in good(count, seed=seed, start=start):
        kept = {name: answered.fields[name] for name in (b"task_id", b"task_identifier", b"device_id", b"log")}
        more = {"operation": "store", "status": "success", "storage_backend": "git", "storage_ref": "0" * 40}
        messages.append(Message(kept | _fields(**more, storage_duration_ms=12)))
    return messages


def odd(seed: int = 1) -> list[Message]:
    """Messages that look wrong and must be persisted as they are."""
    base = good(1, seed=seed, start=1_000_000)[0].fields
    variants: list[dict[str, Any]] = [
        {"unknown_field": "kept wherever the message is copied"},
        {"log": json.dumps(["\N{ROCKET} done", "'; DROP TABLE devices_device; --"], ensure_ascii=False)},
        {"log": json.dumps(["a\nb", "\x1b[31mred\x1b[0m", "[bold]markup[/bold]", "\u202eright to left"])},
        {"log": '["\\ud800", "\\u0000"]'},
        {"log": '[{"key": 1, "key": 2}]'},
        {"log": ""},
        {"status": ""},
        {"status": "partial"},
        {"initiated_at": "2026-02-30T00:00:00"},
        {"initiated_at": "2026-01-01T00:00:60Z"},
        {"initiated_at": "infinity"},
        {"collection_duration_ms": "NaN"},
        {"collection_duration_ms": "1_000"},
        {"collection_duration_ms": "2147483648"},
        {"collection_duration_ms": b"\xff"},
        *(
            {"task_identifier": name}
            for name in (f"Odd:{seed}", f"odd:{seed}", f"o\u0308dd:{seed}", f"\u00f6dd:{seed}")
        ),
        {"task_identifier": f"odd:{seed} "},
        {"task_identifier": ""},
    ]
    return [
        Message(base | _fields(task_identifier=f"odd:{seed}:{number}") | _fields(**changes))
        for number, changes in enumerate(variants)
    ]


def bad(seed: int = 1) -> list[Message]:
    """One message of every bad kind, with the reason that its dead letter must have."""
    base = good(1, seed=seed, start=2_000_000)[0].fields
    by_reason: dict[str, list[dict[str, Any]]] = {
        "missing-device-id": [{"device_id": ""}],
        "invalid-device-id": [
            *({"device_id": text} for text in ("abc", "-1", "0", "1e3", "12.0", "1_000", "١٢", " 7x", 2147483648)),
            {"device_id": b"\xff"},
            {"device_id": b"7\x00"},
            {"device_id": "many", **{f"extra_{number}": number for number in range(5_000)}},
        ],
        "unknown-device": [{"device_id": DEVICES + 949}],
        "invalid-encoding": [{name: b"\xff\xfe"} for name in ("task_id", "task_identifier", "status", "log")],
        "nul-character": [{name: b"a\x00b"} for name in ("task_id", "task_identifier", "status", "log")],
        "value-too-long": [{"task_id": "t" * 65}, {"task_identifier": "i" * 129}, {"status": "s" * 17}],
        "malformed-log": [{"log": text} for text in ("{", '"x"', "{}", "[1")],
    }
    messages = [
        Message(base | _fields(task_identifier=f"bad:{seed}:{reason}:{number}") | _fields(**changes), reason)
        for reason, kinds in by_reason.items()
        for number, changes in enumerate(kinds)
    ]
    without_device = Message({k: v for k, v in base.items() if k != b"device_id"}, "missing-device-id")
    return [*messages, without_device, Message({b"hello": b"world"}, "empty-message")]


def mixed(count: int, *, seed: int = 1, repeated: float = 0.1) -> list[Message]:
    """Good messages, some of them twice, and all odd and bad ones, shuffled."""
    chance = random.Random(seed)
    messages = good(count, seed=seed)
    messages += chance.sample(messages, int(count * repeated)) + odd(seed) + bad(seed)
    chance.shuffle(messages)
    return messages


def publish(
    client: redis.Redis, messages: Iterable[Message], *, stream: str = "device:results", together: bool = False
) -> list[Sent]:
    """XADD them in order, a thousand a round trip; `together`: so that nobody can read only the first of these."""
    sent: list[Sent] = []
    waiting: list[Message] = []
    for message in messages:
        waiting.append(message)
        if len(waiting) == 1000:
            sent += _add(client, waiting, stream, together)
            waiting = []
    return sent + _add(client, waiting, stream, together)


def _add(client: redis.Redis, messages: Sequence[Message], stream: str, together: bool) -> list[Sent]:
    with client.pipeline(transaction=together) as pipeline:
        for message in messages:
            pipeline.xadd(stream, cast(dict[Any, Any], message.fields))
        ids = pipeline.execute()
    return [Sent(given.decode(), message) for given, message in zip(ids, messages, strict=True)]


def _fields(**values: Any) -> Fields:
    return {
        name.encode(): value if isinstance(value, bytes) else str(value).encode("utf-8")
        for name, value in values.items()
    }
