"""dvctl pending: entries that are delivered and not acknowledged, a page at a time, with their device and job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

from devicevault_cli.errors import MissingGroup
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.entries.fields import field_text
from devicevault_cli.operations.monitoring.limits import CLAIM_IDLE_MS
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, ZERO, EntryId, PendingEntry
from devicevault_cli.times import now_ms

State: TypeAlias = Literal["held", "stuck", "gone"]
COUNT_PAGE = 10_000
"""Pending entries read at once if they are only counted."""


@dataclass(frozen=True, slots=True)
class PendingRow(Answer):
    """An element of `entries[]`. `state`: `gone` from the stream, `stuck` (idle beyond claim-idle), or `held`."""

    id: EntryId
    consumer: str
    idle_ms: int
    age_ms: int
    deliveries: int
    state: State
    device_id: str | None
    task_identifier: str | None


@dataclass(frozen=True, slots=True)
class PendingPage(Answer):
    """The answer of `pending`. `total` and `consumers` count every match; `next_from` is None on the last page."""

    group: str
    total: int
    consumers: Mapping[str, int]
    entries: Sequence[PendingRow]
    next_from: EntryId | None


@dataclass(frozen=True, slots=True)
class PendingFilter:
    """Which pending entries are listed: of one consumer (None: all), idle for so long, with ids from start to end."""

    consumer: str | None = None
    min_idle_ms: int = 0
    start: EntryId = ZERO
    end: EntryId = LAST

    def pages(self, group: Group, count: int = 1000) -> Iterator[list[PendingEntry]]:
        """The entries, at most `count` at a time. Raises MissingGroup."""
        return group.pending_pages(self.start, self.end, count, consumer=self.consumer, min_idle_ms=self.min_idle_ms)


ALL = PendingFilter()


def pending(
    group: Group,
    chosen: PendingFilter = ALL,
    *,
    count: int = 100,
    claim_idle_ms: int = CLAIM_IDLE_MS,
    summary_only: bool = False,
) -> PendingPage:
    """The totals of the entries that match, and at most `count` of them, oldest first. Without a group: none."""
    page: list[PendingEntry] = []
    try:
        owners = _owners(group, chosen)
        if not summary_only and owners:
            page = next(chosen.pages(group, count + 1), [])
    except MissingGroup:
        owners = Counter()
    more, page = len(page) > count, page[:count]
    next_from = page[-1].id.next() if more else None
    return PendingPage(group.name, owners.total(), owners, _rows(group, page, claim_idle_ms), next_from)


def _rows(group: Group, page: Sequence[PendingEntry], claim_idle_ms: int) -> list[PendingRow]:
    found = group.stream.get(entry.id for entry in page) if page else {}
    now = now_ms()
    rows = []
    for key, consumer, idle_ms, deliveries in page:
        fields = found[key].fields if key in found else {}
        about = field_text(fields, b"device_id"), field_text(fields, b"task_identifier")
        state: State = "gone" if key not in found else "stuck" if idle_ms >= claim_idle_ms else "held"
        rows.append(PendingRow(key, consumer, idle_ms, max(0, now - key.ms), deliveries, state, *about))
    return rows


def _owners(group: Group, chosen: PendingFilter) -> Counter[str]:
    """The number of matching entries of each consumer. Redis has these numbers ready only without other filters."""
    owner = chosen.consumer
    if not chosen.min_idle_ms and (chosen.start, chosen.end) == (ZERO, LAST):
        owners = Counter(group.summary().consumers)
        return owners if owner is None else Counter({owner: owners[owner]} if owners[owner] else {})
    return Counter(entry.consumer for page in chosen.pages(group, COUNT_PAGE) for entry in page)


def pending_ids(group: Group, chosen: PendingFilter) -> Iterator[EntryId]:
    """The ids of all entries that match, for `--ids -` of another command. Without a group: none."""
    with suppress(MissingGroup):
        for page in chosen.pages(group):
            yield from (entry.id for entry in page)
