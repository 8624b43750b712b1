"""What is delivered and not acknowledged, page by page, with what the entries are about."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from devicevault_cli.errors import MissingGroup
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, ZERO, EntryId, PendingEntry, PendingSummary


def pending(
    group: Group,
    *,
    consumer: str | None = None,
    min_idle_ms: int = 0,
    count: int = 100,
    start: EntryId = ZERO,
    end: EntryId = LAST,
    claim_idle_ms: int = 60_000,
    summary_only: bool = False,
) -> dict[str, Any]:
    """The answer of `pending -o json`: totals of the whole group, entries oldest first, at most `count`."""
    try:
        summary = group.summary()
        page: list[PendingEntry] = []
        if not summary_only and summary.total:
            page = group.pending(start, end, count, consumer=consumer, min_idle_ms=min_idle_ms)
    except MissingGroup:
        summary, page = PendingSummary(0), []
    about = group.stream.get(each.id for each in page) if page else {}
    now_ms = time.time_ns() // 1_000_000
    rows = []
    for each in page:
        entry = about.get(each.id)
        state = "gone" if entry is None else "stuck" if each.idle_ms >= claim_idle_ms else "held"
        fields = entry.fields if entry else {}
        rows.append(
            {
                "id": str(each.id),
                "consumer": each.consumer,
                "idle_ms": each.idle_ms,
                "age_ms": max(0, now_ms - each.id.ms),
                "deliveries": each.deliveries,
                "state": state,
                "device_id": shown(fields, b"device_id"),
                "task_identifier": shown(fields, b"task_identifier"),
            }
        )
    return {"group": group.name, "total": summary.total, "consumers": summary.consumers, "entries": rows}


def all_pending(
    group: Group, *, consumer: str | None, min_idle_ms: int, start: EntryId, end: EntryId
) -> Iterator[dict[str, Any]]:
    """The ids of all of them, for another command's `--ids -`: a page of them would repair a page."""
    with suppress(MissingGroup):
        for page in group.pending_pages(start, end, consumer=consumer, min_idle_ms=min_idle_ms):
            yield from ({"id": str(each.id)} for each in page)


def shown(fields: dict[bytes, bytes], name: bytes) -> str | None:
    """A field's value as text; bytes that are not UTF-8 become backslash escapes."""
    value = fields.get(name)
    return None if value is None else value.decode("utf-8", "backslashreplace")
