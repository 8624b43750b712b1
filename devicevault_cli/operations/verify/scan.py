"""The merge: pages of the stream and of the pending list advance together in id order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from devicevault_cli.errors import MissingGroup
from devicevault_cli.operations.rate_limit import RateLimiter
from devicevault_cli.operations.verify.classes import ClassifiedEntry, Classifier
from devicevault_cli.paging import read_ahead
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, ZERO, EntryId, PendingEntry
from devicevault_cli.streams.stream import ENTRIES_PER_READ
from devicevault_cli.times import Milliseconds


@dataclass(frozen=True, slots=True)
class Scope:
    """Which entries are verified, and at most how many per second.

    `grace_ms`: successes are followed on to their stored backups, which younger entries need not have yet; None: they
    are not followed.
    """

    start: EntryId = ZERO
    end: EntryId = LAST
    rate: float | None = None
    grace_ms: Milliseconds | None = None


class Page(NamedTuple):
    """Entries with their classes, and pending entries that are no longer on the stream."""

    entries: list[ClassifiedEntry]
    gone: list[PendingEntry]


def scan(classifier: Classifier, scope: Scope, sleep: Callable[[float], None] = time.sleep) -> Iterator[Page]:
    """Classify every entry of the scope that existed when the classifier was made. Only reads."""
    if classifier.stream is None:
        return
    group = classifier.group
    end = min(scope.end, classifier.stream.last_generated_id)
    pending = _PendingList(group, scope.start, end)
    limiter = RateLimiter(scope.rate) if scope.rate else None
    with closing(read_ahead(group.stream.pages(scope.start, end, ENTRIES_PER_READ))) as pages:
        for entries in pages:
            for before in pending.below(entries[0].id):
                yield Page([], _still_gone(group, before))
            within = pending.upto(entries[-1].id)
            there = {entry.id for entry in entries}
            missing = [held for key, held in within.items() if key not in there]
            yield Page(classifier.page(entries, within), _still_gone(group, missing))
            if limiter:
                sleep(limiter.after(len(entries)))
    for behind in pending.below(end.next()):
        yield Page([], _still_gone(group, behind))


class _PendingList:
    """The pending entries of a range, taken in id order."""

    def __init__(self, group: Group, start: EntryId, end: EntryId) -> None:
        self._pages = group.pending_pages(start, end, ENTRIES_PER_READ)
        self._page: list[PendingEntry] = []

    def below(self, key: EntryId) -> Iterator[list[PendingEntry]]:
        """What is pending below an id, in pages: of a stream that was trimmed this may be much."""
        while taken := self._take(key.previous()):
            yield taken

    def upto(self, key: EntryId) -> dict[EntryId, PendingEntry]:
        held = {}
        while taken := self._take(key):
            held.update({pending.id: pending for pending in taken})
        return held

    def _take(self, key: EntryId) -> list[PendingEntry]:
        if not self._page:
            try:
                self._page = next(self._pages, [])
            except MissingGroup:
                self._page = []
        taken = [pending for pending in self._page if pending.id <= key]
        self._page = self._page[len(taken) :]
        return taken


def _still_gone(group: Group, candidates: list[PendingEntry]) -> list[PendingEntry]:
    """Pending entries that are not on the stream: first the entry is looked for, then whether it is still pending.

    An entry that was acknowledged and trimmed meanwhile is not gone.
    """
    if not candidates:
        return []
    there = group.stream.get(pending.id for pending in candidates)
    missing = [pending for pending in candidates if pending.id not in there]
    try:
        still_pending = group.pending_ids([pending.id for pending in missing])
    except MissingGroup:
        return []
    return [pending for pending in missing if pending.id in still_pending]
