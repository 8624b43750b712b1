"""What Redis replies, as values. A reply of another shape raises one of Python's errors: see `connect.translated`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from devicevault_cli.streams.model import (
    ZERO,
    ConsumerInfo,
    Entry,
    EntryId,
    GroupInfo,
    PendingEntry,
    PendingSummary,
    RepeatedFields,
    StreamInfo,
)


def text(value: bytes | str) -> str:
    """A name as Redis holds it; bytes that are not UTF-8 survive the round trip."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def raw(value: str | bytes) -> bytes:
    """The inverse of `text`."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def number(value: Any) -> int | None:
    """A number, or None where Redis knows none."""
    return None if value is None else int(value)


_make = tuple.__new__
"""Makes a NamedTuple without its own constructor, a Python function that takes twice as long."""


def entries(reply: Iterable[tuple[bytes, list[bytes] | dict[bytes, bytes] | None]]) -> list[Entry]:
    """Entries as Redis sends them, (id, [name, value, ...]), or as redis-py's own parser has made dicts of them.

    Redis 6.2 names entries that no longer exist with nil instead of fields: these are left out.
    """
    found = []
    for key, fields in reply:
        if fields is None:
            continue
        ms, _, seq = key.partition(b"-")
        if not isinstance(fields, dict):
            names, values = fields[::2], fields[1::2]
            fields = dict(zip(names, values, strict=True))  # noqa: PLW2901
            if len(fields) != len(names):
                fields = RepeatedFields([*zip(names, values, strict=True)])  # noqa: PLW2901
        found.append(_make(Entry, (_make(EntryId, (int(ms), int(seq))), fields)))
    return found


def entries_of_one_stream(reply: Any) -> list[Entry]:
    """The entries in an answer of XREAD or XREADGROUP that asked for one stream; [] where there are none."""
    return entries(reply[0][1]) if reply else []


def entry_id(key: bytes) -> EntryId:
    """An id that Redis sent: well-formed by origin, so without the checks of EntryId.parse."""
    ms, _, seq = key.partition(b"-")
    return EntryId(int(ms), int(seq))


def entry_ids(reply: Iterable[bytes]) -> list[EntryId]:
    """A list of ids."""
    return [entry_id(key) for key in reply]


def stream_info(key: str, reply: dict[str, Any]) -> StreamInfo:
    """XINFO STREAM."""
    first, last = reply["first-entry"], reply["last-entry"]
    deleted = reply.get("max-deleted-entry-id")
    return StreamInfo(
        key=key,
        length=int(reply["length"]),
        first_id=entry_id(first[0]) if first else None,
        last_id=entry_id(last[0]) if last else ZERO,
        last_generated_id=entry_id(reply["last-generated-id"]),
        entries_added=number(reply.get("entries-added")),
        max_deleted_id=entry_id(deleted) if deleted else None,
    )


def group_infos(reply: list[dict[str, Any]]) -> list[GroupInfo]:
    """XINFO GROUPS."""
    return [
        GroupInfo(
            text(group["name"]),
            int(group["consumers"]),
            int(group["pending"]),
            entry_id(group["last-delivered-id"]),
            number(group.get("entries-read")),
            number(group.get("lag")),
        )
        for group in reply
    ]


def consumer_infos(reply: list[dict[str, Any]]) -> list[ConsumerInfo]:
    """XINFO CONSUMERS."""
    return [
        ConsumerInfo(text(found["name"]), int(found["pending"]), int(found["idle"]), number(found.get("inactive")))
        for found in reply
    ]


def pending_summary(reply: dict[str, Any]) -> PendingSummary:
    """XPENDING without a range."""
    if not reply["pending"]:
        return PendingSummary(0)
    consumers = {text(consumer["name"]): int(consumer["pending"]) for consumer in reply["consumers"]}
    return PendingSummary(int(reply["pending"]), entry_id(reply["min"]), entry_id(reply["max"]), consumers)


def pending_entries(reply: list[dict[str, Any]]) -> list[PendingEntry]:
    """XPENDING with a range."""
    return [
        PendingEntry(
            entry_id(entry["message_id"]),
            text(entry["consumer"]),
            int(entry["time_since_delivered"]),
            int(entry["times_delivered"]),
        )
        for entry in reply
    ]
