"""Putting messages on a stream as a worker would: made up, or from a file."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from devicevault_cli.errors import Usage
from devicevault_cli.operations import sealed
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream

Message = Mapping[bytes, bytes]
EXPORTED = b'{"id":"'
"""How each line of `dvctl export` begins: such a file must be whole, or nothing of it is published."""
BASE64 = "_base64"
"""In a JSON line, `{"_base64": "..."}` stands for a value that is not UTF-8."""


def sample_messages(count: int, device_id: int, status: str, log: str) -> Iterator[Message]:
    """Messages as DeviceVault's worker writes them, one per made-up job."""
    for _ in range(count):
        now = datetime.now(UTC).isoformat()
        yield {
            b"task_id": str(uuid.uuid4()).encode(),
            b"task_identifier": f"collect:{device_id}:{now}:{uuid.uuid4().hex[:8]}".encode(),
            b"device_id": str(device_id).encode(),
            b"status": status.encode(),
            b"log": json.dumps([log]).encode(),
            b"device_config": b"",
            b"collection_duration_ms": b"0",
            b"initiated_at": now.encode(),
            b"is_binary": b"False",
        }


def sample_storage_messages(count: int, device_id: int, status: str, log: str) -> Iterator[Message]:
    """Messages as DeviceVault's storage worker writes them."""
    for message in sample_messages(count, device_id, status, log):
        shared = {name: message[name] for name in (b"task_id", b"task_identifier", b"device_id", b"status", b"log")}
        yield {
            b"operation": b"store",
            **shared,
            b"storage_backend": b"git",
            b"storage_ref": uuid.uuid4().hex.encode(),
            b"storage_duration_ms": b"0",
        }


def read_messages(path: Path) -> Iterator[Message]:
    """Messages from a JSONL file: an object of wire fields a line, or a line of `dvctl export`. Raises Usage."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if number == 1 and line.startswith(EXPORTED):
                    sealed.check_seal(path)
                if line.strip() and not line.startswith(sealed.SEAL_LINE):
                    yield parse_line(line, f"{path.name}, line {number}")
    except OSError as error:
        raise Usage(f"{path} cannot be read: {error.strerror}") from error


def parse_line(line: bytes, where: str) -> Message:
    """One JSON object of wire fields; an export wraps it into `fields` beside `id`."""
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Usage(f"{where}: not JSON") from error
    fields = value.get("fields", value) if isinstance(value, dict) else None
    if not isinstance(fields, dict) or not fields:
        raise Usage(f"{where}: not an object of wire fields")
    message = {_wire_name(name, where): _wire(each, where) for name, each in fields.items()}
    if fields is not value and isinstance(value.get("id"), str):
        message.setdefault(b"_dvctl.id", str(EntryId.parse(value["id"])).encode())
    return message


def _wire_name(name: str, where: str) -> bytes:
    """The inverse of what `export` does to a name: bytes that are not UTF-8 stand in it as lone surrogates."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise Usage(f"{where}: a field's name is no text") from error


def _wire(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise Usage(f"{where}: a value is no text") from error
    if isinstance(value, dict) and isinstance(value.get(BASE64), str):
        try:
            return base64.b64decode(value[BASE64], validate=True)
        except ValueError as error:
            raise Usage(f"{where}: {BASE64} is not base64") from error
    raise Usage(f"{where}: a field's value is neither text nor {BASE64}")


def publish(
    stream: Stream, messages: Iterable[Message], rate: float | None = None, page: int = 500
) -> Iterator[list[EntryId]]:
    """XADD, a page at a time, no faster than `rate` messages a second. Yields the ids of each page."""
    source = iter(messages)
    started, sent = time.monotonic(), 0
    size = max(1, min(page, int(rate / 10))) if rate else page
    while batch := list(islice(source, size)):
        if rate:
            time.sleep(max(0.0, started + sent / rate - time.monotonic()))
        yield stream.add(batch)
        sent += len(batch)


def publish_all(
    stream: Stream, messages: Iterable[Message], rate: float | None, show: Callable[[int], None]
) -> dict[str, Any]:
    """The answer of `publish -o json`."""
    first: EntryId | None = None
    last: EntryId | None = None
    published = 0
    for ids in publish(stream, messages, rate):
        first, last = first or ids[0], ids[-1]
        published += len(ids)
        show(published)
    return {
        "published": published,
        "first_id": str(first) if first else None,
        "last_id": str(last) if last else None,
    }
