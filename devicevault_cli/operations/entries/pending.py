"""What is delivered and not acknowledged, page by page, with what the entries are about."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from devicevault_cli.errors import MissingGroup
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, ZERO, EntryId, PendingEntry

COUNT_PAGE = 10_000
"""Pending entries asked for at once where they are only counted."""


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
    """The answer of `pending -o json`: totals of what matches, and its entries, oldest first, at most `count`.

    `next_from` is where the next page begins, None on the last page.
    """
    page: list[PendingEntry] = []
    try:
        owners = _owners(group, consumer, min_idle_ms, start, end)
        if not summary_only and owners:
            page = group.pending(start, end, count + 1, consumer=consumer, min_idle_ms=min_idle_ms)
    except MissingGroup:
        owners = Counter()
    more, page = len(page) > count, page[:count]
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
    return {
        "group": group.name,
        "total": owners.total(),
        "consumers": dict(owners),
        "entries": rows,
        "next_from": str(page[-1].id.next()) if more else None,
    }


def _owners(group: Group, consumer: str | None, min_idle_ms: int, start: EntryId, end: EntryId) -> Counter[str]:
    """How many pending entries match, by who holds them. Redis has these numbers at hand only without a filter."""
    if not min_idle_ms and (start, end) == (ZERO, LAST):
        owners = Counter(group.summary().consumers)
        return owners if consumer is None else Counter({consumer: owners[consumer]} if owners[consumer] else {})
    counted: Counter[str] = Counter()
    for page in group.pending_pages(start, end, COUNT_PAGE, consumer=consumer, min_idle_ms=min_idle_ms):
        counted.update(entry.consumer for entry in page)
    return counted


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
