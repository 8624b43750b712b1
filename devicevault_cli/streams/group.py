"""A consumer group: its position, its consumers and its pending entries, read and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from devicevault_cli.errors import MissingGroup, Unavailable
from devicevault_cli.streams import keys, replies, scripts
from devicevault_cli.streams.connect import translated
from devicevault_cli.streams.model import (
    LAST,
    ZERO,
    Claimed,
    ConsumerInfo,
    EntryId,
    GroupInfo,
    PendingEntry,
    PendingSummary,
    Retired,
)
from devicevault_cli.streams.replies import raw
from devicevault_cli.streams.stream import ENTRIES_PER_READ, Stream

_SHOWN = "%d-%d".__mod__
"""str() of an id, in C: 0.25 us instead of 0.37."""


def _texts(reply: Any) -> list[str]:
    return [replies.text(name) for name in reply]


class Group:
    """One group of one stream. Every method but `info` and `create` raises MissingGroup where either is missing."""

    def __init__(self, stream: Stream, name: str) -> None:
        self.stream = stream
        self.name = name
        self._names = (stream.key, raw(name))

    def info(self) -> GroupInfo | None:
        """XINFO GROUPS for this group, or None."""
        return next((group for group in self.stream.groups() if group.name == self.name), None)

    def create(self, position: EntryId = ZERO) -> bool:
        """Create the group, and an empty stream, unless they exist. -> whether the group was created"""
        if self.info() is not None:
            return False
        try:
            self.stream.call("XGROUP", "CREATE", *self._names, str(position), "MKSTREAM")
        except Unavailable:
            # BUSYGROUP: another consumer that started in the same moment was quicker.
            if self.info() is None:
                raise
            return False
        return True

    def move(self, position: EntryId) -> None:
        """Set the position: XGROUP SETID."""
        self.stream.call("XGROUP", "SETID", *self._names, str(position))

    def move_as_planned(self, planned: GroupInfo, position: EntryId, entries_read: int | None = None) -> bool:
        """Set the position if the group still is as planned. -> whether it was; `entries_read` needs Redis 7.0"""
        return self._change(planned, "SETID", str(position), "" if entries_read is None else str(entries_read))

    def destroy_as_planned(self, planned: GroupInfo) -> bool:
        """Delete the group if it still is as planned. -> whether it was"""
        return self._change(planned, "DESTROY", "", "")

    def _change(self, planned: GroupInfo, *how: str) -> bool:
        state = raw(self.name), str(planned.last_delivered_id), planned.pending
        reply = self.stream.run_script("change_group", [self.stream.key], *state, *how, parse=int)
        if reply < 0:
            raise MissingGroup(f"no group {self.name} on {self.stream.key}")
        return reply == 1

    def consumers(self) -> list[ConsumerInfo]:
        """XINFO CONSUMERS."""
        return self.stream.read(replies.consumer_infos, "XINFO CONSUMERS", *self._names)

    def retire_if_empty(self, consumer: str) -> bool:
        """Delete a consumer if it has nothing pending. -> whether it is gone"""
        names = raw(self.name), raw(consumer)
        try:
            return bool(self.stream.run_script("delete_if_empty", [self.stream.key], *names, parse=int))
        except MissingGroup:
            return True

    def delete_idle(self, idle_ms: int, but: str) -> list[str]:
        """Delete the consumers that have nothing pending and were idle for so long, except one. -> their names"""
        arguments = raw(self.name), idle_ms, raw(but)
        return self.stream.run_script("delete_idle", [self.stream.key], *arguments, parse=_texts)

    def retire(self, consumers: Sequence[str], to: str, dead_for_ms: int | None = None) -> Retired:
        """Move the pending entries of consumers to `to` and delete the consumers, in one step of limited length.

        Consumers that were active within `dead_for_ms` are spared. Call again with `consumers[done:]` until none are
        left.
        """

        def parse(reply: Any) -> Retired:
            moved, gone, *names, done = reply
            retired, spared = ([*map(replies.text, some)] for some in names)
            return Retired(int(moved), int(gone), retired, spared, int(done))

        limits = -1 if dead_for_ms is None else dead_for_ms, scripts.ENTRIES_PER_SCRIPT
        arguments = (raw(self.name), raw(to), *limits, *map(raw, consumers))
        return self.stream.run_script("retire", [self.stream.key], *arguments, parse=parse)

    def summary(self) -> PendingSummary:
        """XPENDING: number of pending entries, their first and last id, and the number per consumer."""
        return self.stream.read(replies.pending_summary, "XPENDING", *self._names)

    def pending(
        self,
        start: EntryId = ZERO,
        end: EntryId = LAST,
        count: int = ENTRIES_PER_READ,
        *,
        consumer: str | None = None,
        min_idle_ms: int = 0,
    ) -> list[PendingEntry]:
        """One page of pending entries, by id."""
        idle = ("IDLE", min_idle_ms) if min_idle_ms else ()
        owner = (raw(consumer),) if consumer is not None else ()
        command = ("XPENDING", *self._names, *idle, str(start), str(end), count, *owner)
        return self.stream.read(replies.pending_entries, *command, parse_detail=True)

    def pending_pages(
        self,
        start: EntryId = ZERO,
        end: EntryId = LAST,
        count: int = ENTRIES_PER_READ,
        *,
        consumer: str | None = None,
        min_idle_ms: int = 0,
    ) -> Iterator[list[PendingEntry]]:
        """All pending entries of a range, a page at a time."""
        while page := self.pending(start, end, count, consumer=consumer, min_idle_ms=min_idle_ms):
            yield page
            if page[-1].id == LAST:
                return
            start = page[-1].id.next()

    def pending_ids(self, ids: Iterable[EntryId]) -> dict[EntryId, PendingEntry]:
        """Those of the ids that are pending."""
        commands = (("XPENDING", *self._names, key, key, 1) for key in map(str, ids))
        with translated(self.stream.client):
            pages = self.stream.call_many(commands, parse_detail=True)
            return {entry.id: entry for page in pages for entry in replies.pending_entries(page)}

    def claim(
        self,
        ids: Iterable[EntryId],
        to: str | None,
        *,
        owner: str | None = None,
        min_idle_ms: int = 0,
        idle_ms: int = 0,
        raise_count: bool = False,
    ) -> Claimed:
        """Give pending entries to a consumer (None: their present owner), with `idle_ms` as their idle time.

        Only entries of `owner` (None: any) and idle for `min_idle_ms`. For their present owner an idle time is never
        lowered. The delivery counts stay, or grow by one. Redis takes the new owner for active from now on.
        """

        def parse(reply: Any) -> Claimed:
            claimed, gone = reply
            return Claimed({replies.entry_id(key): int(count) for key, count in claimed}, replies.entry_ids(gone))

        names = raw(self.name), raw(to or ""), raw(owner or "")
        arguments = (*names, min_idle_ms, idle_ms, int(raise_count), *map(str, ids))
        return self.stream.run_script("claim", [self.stream.key], *arguments, parse=parse)

    def acknowledge(self, ids: Sequence[EntryId]) -> int:
        """XACK. -> number of entries that were pending until now"""
        return self.stream.read(int, "XACK", *self._names, *map(_SHOWN, ids))

    def begin_acknowledge(self, ids: Sequence[EntryId]) -> Callable[[], int]:
        """Send XACK. -> a function, to be called once, that waits for what `acknowledge` returns"""
        asked = self.stream.ask("XACK", *self._names, *map(_SHOWN, ids))

        def count() -> int:
            with translated(self.stream.client):
                return int(asked())

        return count

    def discard(self, ids: Iterable[EntryId], why: str) -> list[EntryId]:
        """Record as discarded, and acknowledge, in one step, those of the ids that are pending. -> these"""
        stream = self.stream.key
        names = [stream, keys.discarded(stream), keys.alone(stream)]
        records = [part for key in ids for part in (str(key), key.ms, keys.discard(key, self.name, why))]
        return self.stream.run_script("discard", names, raw(self.name), *records, parse=replies.entry_ids)
