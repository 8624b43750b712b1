"""Where the consumer's next batch comes from: its own pending entries, abandoned ones, suspects, new ones."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from devicevault_cli.streams.delivery import Delivery
from devicevault_cli.streams.model import ZERO, Entry, EntryId, PendingEntry

BATCH_BYTES = 16 * 1024 * 1024
PER_READ, PER_READ_OF_SMALL, SMALL = 64, 128, 16 * 1024
"""Entries asked for at once, and where all were small (in bytes) lately: sizes are known only after reading, and should
all of them turn out to be firmware images, memory still has to hold them."""
DEATHS_ALONE = 3


@dataclass(slots=True)
class Batch:
    """Entries in hand. `deliveries`: the count to put back if they are deferred."""

    entries: list[Entry] = field(default_factory=list)
    deliveries: dict[EntryId, int] = field(default_factory=dict)
    gone: list[EntryId] = field(default_factory=list)
    reclaimed: int = 0
    bytes: int = 0
    suspect: EntryId | None = None
    deaths_alone: int = 0

    def add(self, entries: list[Entry], deliveries: dict[EntryId, int] | None = None) -> int:
        """Take entries in hand; without `deliveries` they were delivered for the first time. -> the largest size"""
        ids = [entry.id for entry in entries]
        self.deliveries.update(dict.fromkeys(ids, 1) if deliveries is None else {key: deliveries[key] for key in ids})
        self.entries += entries
        sizes = list(map(size_of, entries))
        self.bytes += sum(sizes)
        return max(sizes, default=0)

    def __bool__(self) -> bool:
        return bool(self.entries or self.gone)


class Intake:
    """Decides what is read next, in this order: own pending, abandoned, suspects, new.

    `in_hand` is the consumer's dict of what this process holds already.
    """

    def __init__(
        self,
        delivery: Delivery,
        in_hand: dict[EntryId, int],
        *,
        batch_size: int,
        claim_idle_s: float,
        max_deliveries: int,
    ) -> None:
        self.delivery = delivery
        self._in_hand = in_hand
        self._batch_size = batch_size
        self._claim_idle_ms = max(1, int(claim_idle_s * 1000))
        self._max_deliveries = max_deliveries
        self._own_cursor: EntryId | None = ZERO
        self._own_is_evidence = True
        self._claim_cursor: EntryId | None = ZERO
        self._next_claim = 0.0
        self._suspects: deque[EntryId] = deque()
        self._largest, self._known = 1024, False
        # Held until the next ones are read: with all of it free, malloc gives the memory of large messages back to the
        # system, and taking it again, page by page, costs as much as reading them.
        self._last_read: list[Entry] = []

    def recover(self) -> None:
        """After an error of Redis: a reply may be lost, so look at the own pending entries first."""
        if self._own_cursor is None:
            self._own_is_evidence = False
        self._own_cursor = ZERO

    def next(self, limit: int, block_ms: int | None) -> Batch:
        """The next batch, at most `limit` entries; empty where there is nothing."""
        limit = min(limit, self._batch_size)
        batch = Batch()
        if self._own_cursor is not None:
            self._own_cursor = self._from_pending(batch, limit, self._own_cursor, own=True)
            if batch:
                return batch
        if self._claim_cursor is None and time.monotonic() >= self._next_claim:
            self._claim_cursor = ZERO
        if self._claim_cursor is not None:
            self._claim_cursor = self._from_pending(batch, limit, self._claim_cursor, own=False)
            if self._claim_cursor is None:
                self._next_claim = time.monotonic() + min(15.0, self._claim_idle_ms / 2000)
            if batch:
                return batch
        while self._suspects and not batch:
            self._take_suspect(batch, self._suspects.popleft())
        if not batch:
            self._read_new(batch, limit, block_ms)
        self._last_read = batch.entries
        return batch

    def _read_new(self, batch: Batch, limit: int, block_ms: int | None) -> None:
        while (room := self._room(batch, limit)) > 0:
            fresh = self.delivery.read_new(room, None if batch.entries else block_ms)
            self._learn(batch.add(fresh))
            if len(fresh) < room:
                return

    def _from_pending(self, batch: Batch, limit: int, cursor: EntryId | None, *, own: bool) -> EntryId | None:
        """Fill the batch from pending entries at or above the cursor. -> where to go on, None at the end"""
        while cursor is not None and (room := self._room(batch, limit)) > 0:
            page = self.delivery.group.pending(
                cursor,
                count=room,
                consumer=self.delivery.consumer if own else None,
                min_idle_ms=0 if own else self._claim_idle_ms,
            )
            cursor = page[-1].id.next() if len(page) == room else None
            self._take(batch, [each for each in page if each.id not in self._in_hand], own=own)
        return cursor

    def _take(self, batch: Batch, candidates: list[PendingEntry], *, own: bool) -> None:
        trusted = []
        for each in candidates:
            if self._max_deliveries and each.deliveries >= self._max_deliveries:
                if each.id not in self._suspects:
                    self._suspects.append(each.id)
            else:
                trusted.append(each.id)
        if not trusted:
            return
        taken = self.delivery.take(
            trusted,
            own=own,
            min_idle_ms=0 if own else self._claim_idle_ms,
            raise_count=self._own_is_evidence if own else True,
        )
        found = self.delivery.stream.get(taken.deliveries)
        self._learn(batch.add(list(found.values()), taken.deliveries))
        batch.gone += taken.gone
        if not own:
            batch.reclaimed += len(found)

    def _take_suspect(self, batch: Batch, key: EntryId) -> None:
        """One entry that may kill the process: noted before its content is even fetched."""
        begun = self.delivery.begin_alone(key)
        mine = self.delivery.group.pending(key, key, 1, consumer=self.delivery.consumer)
        taken = self.delivery.take([key], own=bool(mine), min_idle_ms=0 if mine else self._claim_idle_ms)
        batch.gone += taken.gone
        if not taken.deliveries:
            self.delivery.end_alone(key, begun=begun)
            return
        batch.suspect, batch.deaths_alone = key, begun
        batch.reclaimed += not mine
        if begun >= DEATHS_ALONE:
            batch.add([Entry(key, {})], taken.deliveries)
        else:
            batch.add(list(self.delivery.stream.get([key]).values()), taken.deliveries)

    def _room(self, batch: Batch, limit: int) -> int:
        """How many entries to ask for next: bounded by the batch and by bytes, judged by the largest seen lately."""
        fitting = (
            max(1, BATCH_BYTES // self._largest) if not batch.entries else (BATCH_BYTES - batch.bytes) // self._largest
        )
        at_once = PER_READ_OF_SMALL if self._known and self._largest <= SMALL else PER_READ
        return min(limit - len(batch.entries), at_once, fitting)

    def _learn(self, largest: int) -> None:
        self._largest = max(1024, largest, self._largest * 3 // 4)
        self._known = True


def size_of(entry: Entry) -> int:
    """Bytes of its values."""
    return sum(map(len, entry.fields.values()))
