"""What the consumer reads next: its own pending entries, abandoned ones, quarantined ones, new ones."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from devicevault_cli.consumer.batch import Batch, Quarantined, decode, decode_page, joined
from devicevault_cli.consumer.in_hand import InHand
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.errors import MissingGroup, WrongType
from devicevault_cli.log_fields import fields
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.model import ZERO, Entry, EntryId, PendingEntry
from devicevault_cli.streams.page import Page

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")

BATCH_BYTES = 16 * 1024 * 1024
PER_READ, PER_READ_OF_SMALL, SMALL = 64, 128, 16 * 1024
"""Entries per read, and where all were small (in bytes) lately: sizes are known only after reading, and if all of them
turn out to be firmware images, memory still has to hold them."""
FEW, FEW_BYTES = 16, 1024 * 1024
"""What one of many streams brings at once while it is waited for."""
MAX_ATTEMPTS_ALONE = 3
"""After so many attempts alone that did not come to an end, a quarantined entry is given up."""


@dataclass(slots=True)
class _Pages:
    """What was read for one batch so far."""

    limit: int
    most_bytes: int = BATCH_BYTES
    decoded: list[Batch] = field(default_factory=list)
    gone: list[EntryId] = field(default_factory=list)
    entries: int = 0
    bytes: int = 0
    reclaimed: int = 0

    def __bool__(self) -> bool:
        return bool(self.entries or self.gone)


class EntryReader:
    """Reads batches, decoding them page by page, so that messages of megabytes do not pile up.

    Entries that are in hand already are left alone.
    """

    def __init__(
        self,
        consumer: GroupConsumer,
        pipeline: Pipeline,
        repository: Repository,
        in_hand: InHand,
        options: ConsumeOptions,
        *,
        keep_configurations: bool = False,
    ) -> None:
        self._keep_configurations = keep_configurations
        self._consumer = consumer
        self._pipeline = pipeline
        self._repository = repository
        self._in_hand = in_hand
        self._generation = in_hand.generation
        self._batch_size = options.batch_size
        self._claim_idle_ms = max(1, int(options.claim_idle_s * 1000))
        self._max_deliveries = options.max_deliveries
        self._own_cursor: EntryId | None = ZERO
        self._count_own = True
        self._claim_cursor: EntryId | None = ZERO
        self._next_claim = 0.0
        self._quarantine: deque[EntryId] = deque()
        self._largest, self._largest_known = 1024, False
        self._new_left = False
        self.bytes = 0
        """Of the batch that was read last."""

    def recover(self) -> None:
        """After an error of Redis: a reply may be lost, so look at the own pending entries first."""
        if self._own_cursor is None:
            # These were not pending before the error: their delivery is no sign of a crash.
            self._count_own = False
        self._own_cursor = ZERO

    @property
    def has_more(self) -> bool:
        """Whether there is something to read without waiting, as far as is known."""
        pending = self._own_cursor is not None or self._claim_cursor is not None or bool(self._quarantine)
        return self._new_left or pending or time.monotonic() >= self._next_claim

    @property
    def few(self) -> int:
        """How many entries to wait for at once where many streams are waited for: together not more than a batch."""
        return max(1, min(FEW, FEW_BYTES // self._largest))

    def next(
        self, limit: int, block_ms: int | None, most_bytes: int = BATCH_BYTES, *, new: bool = True
    ) -> Batch | Quarantined:
        """Read at most `limit` entries, waiting at most `block_ms` for new ones. The batch may be empty.

        new: False leaves out entries not delivered yet, as where they are being waited for already.
        """
        if self._generation != self._in_hand.generation:
            self._generation = self._in_hand.generation
            self._quarantine.clear()
            self.recover()
        pages = _Pages(min(limit, self._batch_size), most_bytes)
        try:
            return self._next(pages, block_ms, new=new)
        finally:
            self.bytes = pages.bytes

    def _next(self, pages: _Pages, block_ms: int | None, *, new: bool) -> Batch | Quarantined:
        self._read_pending(pages)
        while self._quarantine and not pages:
            quarantined = self._take_quarantined(pages, self._quarantine.popleft())
            if quarantined is not None:
                return quarantined
        if new and not pages:
            self._read_new(pages, block_ms)
        return joined(pages.decoded, gone=pages.gone, reclaimed=pages.reclaimed, generation=self._generation)

    def read(self, quarantined: Quarantined) -> Batch | None:
        """Read and decode a quarantined entry. -> None if it no longer exists"""
        found = list(self._consumer.stream.get([quarantined.id]).values())
        if not found:
            return None
        return replace(self._decode(found, {quarantined.id: quarantined.count}), generation=quarantined.generation)

    # --- pending entries

    def _read_pending(self, pages: _Pages) -> None:
        if self._own_cursor is not None:
            self._own_cursor = self._take_pages(pages, self._own_cursor, own=True)
            if pages:
                return
        if self._claim_cursor is None and time.monotonic() >= self._next_claim:
            self._claim_cursor = ZERO
        if self._claim_cursor is not None:
            self._claim_cursor = self._take_pages(pages, self._claim_cursor, own=False)
            if self._claim_cursor is None:
                self._next_claim = time.monotonic() + min(15.0, self._claim_idle_ms / 2000)

    def _take_pages(self, pages: _Pages, cursor: EntryId | None, *, own: bool) -> EntryId | None:
        """Take pending entries at or above the cursor. -> where to go on, None at the end"""
        while cursor is not None and (room := self._room(pages)) > 0:
            try:
                page = self._consumer.group.pending(
                    cursor,
                    count=room,
                    consumer=self._consumer.consumer if own else None,
                    min_idle_ms=0 if own else self._claim_idle_ms,
                )
                cursor = page[-1].id.next() if len(page) == room else None
                self._take(pages, [entry for entry in page if entry.id not in self._in_hand], own=own)
            except MissingGroup:
                if pages:
                    return cursor  # deleted in this moment: what was read before has nobody else
                raise
        return cursor

    def _take(self, pages: _Pages, candidates: list[PendingEntry], *, own: bool) -> None:
        wanted = []
        for entry in candidates:
            if not self._max_deliveries or entry.deliveries < self._max_deliveries:
                wanted.append(entry.id)
            elif entry.id not in self._quarantine:
                self._quarantine.append(entry.id)
        if not wanted:
            return
        taken = self._consumer.claim(
            wanted,
            own=own,
            min_idle_ms=0 if own else self._claim_idle_ms,
            raise_count=self._count_own if own else True,
        )
        found = list(self._consumer.stream.get(taken.deliveries).values())
        sizes = [sum(map(len, entry.fields.values())) for entry in found]
        self._learn(pages, len(found), sum(sizes), max(sizes, default=0))
        pages.decoded.append(self._decode(found, taken.deliveries))
        pages.gone += taken.gone
        if not own:
            pages.reclaimed += len(found)

    def _take_quarantined(self, pages: _Pages, key: EntryId) -> Quarantined | None:
        """Take an entry that may kill the process; the attempt is counted before its content is read."""
        try:
            attempts = self._consumer.begin_alone(key)
        except WrongType as error:
            text = "entry %s stays pending, its attempts cannot be counted: %s"
            log.error(text, key, error, extra=fields(entry=str(key)))
            return None
        mine = self._consumer.group.pending(key, key, 1, consumer=self._consumer.consumer)
        taken = self._consumer.claim([key], own=bool(mine), min_idle_ms=0 if mine else self._claim_idle_ms)
        pages.gone += taken.gone
        if not taken.deliveries:
            self._consumer.end_alone(key, begun=attempts)
            return None
        return Quarantined(key, taken.deliveries[key], attempts, not mine, self._generation)

    # --- new entries

    def _read_new(self, pages: _Pages, block_ms: int | None) -> None:
        room = self._room(pages)
        while room > 0:
            wanted = self._consumer.asked_count or room
            try:
                page = self._consumer.read_new(room, None if pages else block_ms)
            except MissingGroup:
                if pages:
                    return  # as in _take_pages
                raise
            self._learn(pages, len(page), page.size, page.largest)
            self._new_left = len(page) == wanted
            room = self._room(pages) if self._new_left else 0
            if room > 0:
                self._consumer.ask_new(room)  # Redis works on it while these are decoded
            pages.decoded += self._decode_page(page)

    def _room(self, pages: _Pages) -> int:
        """How many entries to ask for next: bounded by the limit and by bytes, by the largest seen lately."""
        fitting = max(0 if pages.bytes else 1, (pages.most_bytes - pages.bytes) // self._largest)
        per_read = PER_READ_OF_SMALL if self._largest_known and self._largest <= SMALL else PER_READ
        return min(pages.limit - pages.entries, per_read, fitting)

    def _learn(self, pages: _Pages, entries: int, size: int, largest: int) -> None:
        """Count entries and their bytes."""
        pages.entries += entries
        pages.bytes += size
        self._largest = max(1024, self._largest * 3 // 4, largest)
        self._largest_known = True

    def _decode(self, page: list[Entry], counts: Mapping[EntryId, int] | None = None) -> Batch:
        # The largest id is asked for each time: a database that came back may be another one.
        return decode(
            page,
            self._pipeline.decode,
            self._repository.device_id_max,
            counts,
            keep_configurations=self._keep_configurations,
        )

    def _decode_page(self, page: Page) -> list[Batch]:
        most = self._repository.device_id_max
        return list(decode_page(page, self._pipeline, most, keep_configurations=self._keep_configurations))
