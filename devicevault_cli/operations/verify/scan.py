"""The merge: pages of the stream and of the pending list advance together in id order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from devicevault_cli.errors import MissingGroup
from devicevault_cli.operations.verify.classes import Judge, Judged
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, ZERO, Entry, EntryId, PendingEntry
from devicevault_cli.streams.prefetch import read_ahead
from devicevault_cli.streams.stream import Stream

PAGE = 1000
PAGE_BYTES = 8 * 1024 * 1024
"""About so much of a stream is held at once; it may carry firmware images of 1.4 MB each."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which entries are judged, and at most how many a second."""

    start: EntryId = ZERO
    end: EntryId = LAST
    rate: float | None = None


class Page(NamedTuple):
    """Entries with their classes, and what is pending though it is on the stream no more."""

    judged: list[Judged]
    gone: list[PendingEntry]


def scan(judge: Judge, scope: Scope, sleep: Callable[[float], None] = time.sleep) -> Iterator[Page]:
    """Judge every entry of the scope that was there when the judge was made. Only reads."""
    if judge.stream is None:
        return
    end = min(scope.end, judge.stream.last_generated_id)
    held = _Held(judge.group, scope.start, end)
    started, done = time.monotonic(), 0
    with closing(read_ahead(_pages(judge.group.stream, scope.start, end))) as pages:
        for entries in pages:
            for behind in held.below(entries[0].id):
                yield Page([], _really_gone(judge.group, behind))
            within = held.upto(entries[-1].id)
            there = {each.id for each in entries}
            missing = [each for key, each in within.items() if key not in there]
            yield Page(judge.page(entries, within), _really_gone(judge.group, missing))
            done += len(entries)
            if scope.rate:
                sleep(max(0.0, done / scope.rate - (time.monotonic() - started)))
    for behind in held.below(end.next()):
        yield Page([], _really_gone(judge.group, behind))


def _pages(stream: Stream, start: EntryId, end: EntryId) -> Iterator[list[Entry]]:
    """Pages of at most 1000 entries and about PAGE_BYTES, going by the size of the entries before."""
    count = min(100, PAGE)
    while page := stream.range(start, end, count):
        mean = sum(len(entry.fields.get(b"device_config", b"")) for entry in page) // len(page) + 1
        count = max(4, min(PAGE, count * 2, PAGE_BYTES // mean))
        yield page
        if page[-1].id >= end:
            return
        start = page[-1].id.next()


class _Held:
    """The pending list, taken off in id order."""

    def __init__(self, group: Group, start: EntryId, end: EntryId) -> None:
        self._pages = group.pending_pages(start, end, PAGE)
        self._page: list[PendingEntry] = []

    def below(self, key: EntryId) -> Iterator[list[PendingEntry]]:
        """What is pending below an id, in pages: of a stream that was trimmed this may be much."""
        while taken := self._take(key.previous()):
            yield taken

    def upto(self, key: EntryId) -> dict[EntryId, PendingEntry]:
        """What is pending up to an id."""
        held = {}
        while taken := self._take(key):
            held.update({each.id: each for each in taken})
        return held

    def _take(self, key: EntryId) -> list[PendingEntry]:
        if not self._page:
            try:
                self._page = next(self._pages, [])
            except MissingGroup:
                self._page = []
        taken = [each for each in self._page if each.id <= key]
        self._page = self._page[len(taken) :]
        return taken


def _really_gone(group: Group, suspects: list[PendingEntry]) -> list[PendingEntry]:
    """First the entry, then whether it is pending still: what was acknowledged and trimmed meanwhile is not gone."""
    if not suspects:
        return []
    there = group.stream.get(each.id for each in suspects)
    missing = [each for each in suspects if each.id not in there]
    try:
        pending = group.pending_ids([each.id for each in missing])
    except MissingGroup:
        return []
    return [each for each in missing if each.id in pending]
