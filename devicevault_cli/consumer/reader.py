"""Where the consumer's next work comes from: its own pending entries, abandoned ones, suspects, new ones."""

from __future__ import annotations

import logging
import time
from collections import deque

from devicevault_cli.consumer.batch import Decoding, Work
from devicevault_cli.errors import MissingGroup, WrongType
from devicevault_cli.streams.delivery import Delivery
from devicevault_cli.streams.model import ZERO, Entry, EntryId, PendingEntry

log = logging.getLogger("dvctl.consume")

BATCH_BYTES = 16 * 1024 * 1024
PER_READ, PER_READ_OF_SMALL, SMALL = 64, 128, 16 * 1024
"""Entries asked for at once, and where all were small (in bytes) lately: sizes are known only after reading, and should
all of them turn out to be firmware images, memory still has to hold them."""
DEATHS_ALONE = 3


class Intake:
    """Decides what is read next, in this order: own pending, abandoned, suspects, new.

    Entries are decoded as they are read, a few at a time: their bytes are warm, and firmware images do not pile up.
    `in_hand` is the consumer's dict of what this process holds already.
    """

    def __init__(
        self,
        delivery: Delivery,
        decoding: Decoding,
        in_hand: dict[EntryId, int],
        *,
        batch_size: int,
        claim_idle_s: float,
        max_deliveries: int,
    ) -> None:
        self.delivery = delivery
        self._decoding = decoding
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

    def restart(self) -> None:
        """The stream is another one: what is known of entries is no longer true."""
        self._suspects.clear()
        self.recover()

    def next(self, limit: int, block_ms: int | None) -> Work:
        """The next work, at most `limit` entries; empty where there is nothing."""
        limit = min(limit, self._batch_size)
        work = Work()
        if self._own_cursor is not None:
            self._own_cursor = self._from_pending(work, limit, self._own_cursor, own=True)
            if work:
                return work
        if self._claim_cursor is None and time.monotonic() >= self._next_claim:
            self._claim_cursor = ZERO
        if self._claim_cursor is not None:
            self._claim_cursor = self._from_pending(work, limit, self._claim_cursor, own=False)
            if self._claim_cursor is None:
                self._next_claim = time.monotonic() + min(15.0, self._claim_idle_ms / 2000)
            if work:
                return work
        while self._suspects and not work:
            self._take_suspect(work, self._suspects.popleft())
        if not work:
            self._read_new(work, limit, block_ms)
        return work

    def _read_new(self, work: Work, limit: int, block_ms: int | None) -> None:
        room = self._room(work, limit)
        while room > 0:
            try:
                fresh = self.delivery.read_new(room, None if work.deliveries else block_ms)
            except MissingGroup:
                if work:
                    return  # deleted in this moment: what was read before has nobody else
                raise
            self._learn(work, fresh)
            room = self._room(work, limit - len(fresh)) if len(fresh) == room else 0
            if room > 0:
                self.delivery.ask_new(room)  # Redis works on it while these are decoded
            self._decode(work, fresh)

    def _from_pending(self, work: Work, limit: int, cursor: EntryId | None, *, own: bool) -> EntryId | None:
        """Fill the work from pending entries at or above the cursor. -> where to go on, None at the end"""
        while cursor is not None and (room := self._room(work, limit)) > 0:
            try:
                page = self.delivery.group.pending(
                    cursor,
                    count=room,
                    consumer=self.delivery.consumer if own else None,
                    min_idle_ms=0 if own else self._claim_idle_ms,
                )
                cursor = page[-1].id.next() if len(page) == room else None
                self._take(work, [each for each in page if each.id not in self._in_hand], own=own)
            except MissingGroup:
                if work:
                    return cursor  # as in _read_new
                raise
        return cursor

    def _take(self, work: Work, candidates: list[PendingEntry], *, own: bool) -> None:
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
        self._add(work, list(found.values()), taken.deliveries)
        work.gone += taken.gone
        if not own:
            work.reclaimed += len(found)

    def _take_suspect(self, work: Work, key: EntryId) -> None:
        """One entry that may kill the process: noted before its content is looked at."""
        try:
            begun = self.delivery.begin_alone(key)
        except WrongType as error:
            log.error("entry %s stays pending, its attempts cannot be counted: %s", key, error)
            return
        mine = self.delivery.group.pending(key, key, 1, consumer=self.delivery.consumer)
        taken = self.delivery.take([key], own=bool(mine), min_idle_ms=0 if mine else self._claim_idle_ms)
        work.gone += taken.gone
        if not taken.deliveries:
            self.delivery.end_alone(key, begun=begun)
            return
        work.suspect, work.deaths_alone = key, begun
        work.reclaimed += not mine
        work.deliveries.update(taken.deliveries)

    def fetch(self, work: Work) -> bool:
        """Read and decode the suspect. -> whether it is still there"""
        found = list(self.delivery.stream.get(work.deliveries).values())
        self._add(work, found, dict(work.deliveries))
        return bool(found)

    def _room(self, work: Work, limit: int) -> int:
        """How many entries to ask for next: bounded by the work and by bytes, judged by the largest seen lately."""
        fitting = (BATCH_BYTES - work.bytes) // self._largest if work.bytes else max(1, BATCH_BYTES // self._largest)
        at_once = PER_READ_OF_SMALL if self._known and self._largest <= SMALL else PER_READ
        return min(limit - len(work.deliveries), at_once, fitting)

    def _add(self, work: Work, entries: list[Entry], deliveries: dict[EntryId, int]) -> None:
        self._learn(work, entries)
        self._decode(work, entries, deliveries)

    def _decode(self, work: Work, entries: list[Entry], deliveries: dict[EntryId, int] | None = None) -> None:
        self._decoding.into(work, entries, deliveries)
        self._last_read = entries

    def _learn(self, work: Work, entries: list[Entry]) -> None:
        """How large entries are."""
        sizes = [sum(map(len, fields.values())) for _, fields in entries]
        work.bytes += sum(sizes)
        self._largest = max(1024, self._largest * 3 // 4, *sizes)
        self._known = True
