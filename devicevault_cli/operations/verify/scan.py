"""The merge: pages of the stream and of the pending list advance together in id order."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import NamedTuple, TypeVar

from devicevault_cli.errors import MissingGroup
from devicevault_cli.operations.rate_limit import RateLimiter
from devicevault_cli.operations.verify.classes import ClassifiedEntry, Classifier
from devicevault_cli.operations.verify.compare import Compared, ask
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, ZERO, EntryId, PendingEntry
from devicevault_cli.streams.page import Page as EntryPage
from devicevault_cli.streams.stream import ENTRIES_PER_READ
from devicevault_cli.times import Milliseconds

T = TypeVar("T")


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
    """A page of entries, and pending entries that are no longer on the stream.

    `others`: the entries that were classified one by one. `matched`: how many were not; these are persisted, no row of
    theirs conflicts, and `persisted` makes them. `first`, `last`: ids of the first and the last entry of the page.
    """

    others: Sequence[ClassifiedEntry] = ()
    gone: Sequence[PendingEntry] = ()
    matched: int = 0
    persisted: Callable[[], list[ClassifiedEntry]] = list
    first: EntryId | None = None
    last: EntryId | None = None

    @property
    def entries(self) -> list[ClassifiedEntry]:
        """All entries, in the order of their ids."""
        return sorted([*self.others, *self.persisted()], key=attrgetter("id")) if self.matched else list(self.others)


def scan(
    classifier: Classifier, scope: Scope, sleep: Callable[[float], None] = time.sleep, *, with_rows: bool = False
) -> Iterator[Page]:
    """Classify every entry of the scope that existed when the classifier was made. Only reads.

    `with_rows`: the rows of each entry are needed, so all are classified one by one.
    """
    if classifier.stream is None:
        return
    group = classifier.group
    end = min(scope.end, classifier.stream.last_generated_id)
    pending = _PendingList(group, scope.start, end)
    limiter = RateLimiter(scope.rate) if scope.rate else None
    # A limited rate lets a long time pass between two pages: then the next one is not asked for ahead.
    with closing(group.stream.column_pages(scope.start, end, ENTRIES_PER_READ, ahead=limiter is None)) as pages:
        asked = (_asked(page, classifier, with_rows=with_rows) for page in pages)
        for answer in asked if limiter else _one_behind(asked):
            compared = answer()
            ids = compared.page.ids
            for before in pending.below(ids[0]):
                yield Page(gone=_still_gone(group, before))
            within = pending.upto(ids[-1])
            missing = [within[key] for key in sorted(within.keys() - ids)] if within else []
            yield _classified(classifier, compared, within)._replace(gone=_still_gone(group, missing))
            if limiter:
                sleep(limiter.after(len(ids)))
    for behind in pending.below(end.next()):
        yield Page(gone=_still_gone(group, behind))


def _asked(page: EntryPage, classifier: Classifier, *, with_rows: bool) -> Callable[[], Compared]:
    if with_rows:
        return lambda: Compared(page, [False] * len(page))
    return ask(page, classifier.pipeline, classifier.repository)


def _one_behind(items: Iterable[T]) -> Iterator[T]:
    """Each item once the one after it was made: the servers work on that one meanwhile."""
    before: list[T] = []
    for item in items:
        yield from before
        before = [item]
    yield from before


def _classified(classifier: Classifier, compared: Compared, pending: Collection[EntryId]) -> Page:
    """The page of a scan. `pending`: those of its entries that were pending after they were read."""
    others = compared.others()
    return Page(
        others=classifier.page(others, pending) if others else (),
        matched=compared.matches.count(True),
        persisted=partial(compared.persisted, classifier.pipeline, classifier.repository.device_id_max),
        first=compared.page.ids[0],
        last=compared.page.ids[-1],
    )


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
