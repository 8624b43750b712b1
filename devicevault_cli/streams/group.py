"""A consumer group: its position, its consumers and its pending entries; reading about it and making it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devicevault_cli.errors import MissingGroup, Unavailable
from devicevault_cli.streams import scripts
from devicevault_cli.streams.connect import translated
from devicevault_cli.streams.model import (
    LAST,
    ZERO,
    ConsumerInfo,
    EntryId,
    GroupInfo,
    PendingEntry,
    PendingSummary,
)
from devicevault_cli.streams.stream import Stream, entry_id, number, raw, text


class Group:
    """One group of one stream. Where either is missing, reading raises MissingGroup."""

    def __init__(self, stream: Stream, name: str) -> None:
        self.stream = stream
        self.name = name

    def info(self) -> GroupInfo | None:
        """XINFO GROUPS for this group, or None."""
        return next((group for group in self.stream.groups() if group.name == self.name), None)

    def create(self, position: EntryId = ZERO) -> bool:
        """Make the group (and an empty stream) unless it is there. -> whether it was made"""
        if self.info() is not None:
            return False
        try:
            self.stream.call("XGROUP", "CREATE", self.stream.key, raw(self.name), str(position), "MKSTREAM")
        except Unavailable:
            # BUSYGROUP: another consumer that started in the same moment was quicker.
            if self.info() is None:
                raise
            return False
        return True

    def move(self, position: EntryId) -> None:
        """XGROUP SETID."""
        self.stream.call("XGROUP", "SETID", self.stream.key, raw(self.name), str(position))

    def consumers(self) -> list[ConsumerInfo]:
        """XINFO CONSUMERS."""

        def parse(reply: list[dict[str, Any]]) -> list[ConsumerInfo]:
            return [
                ConsumerInfo(text(each["name"]), int(each["pending"]), int(each["idle"]), number(each.get("inactive")))
                for each in reply
            ]

        return self.stream.read(parse, "XINFO CONSUMERS", self.stream.key, raw(self.name))

    def summary(self) -> PendingSummary:
        """XPENDING: how many entries are pending, from where to where, and whose."""

        def parse(reply: dict[str, Any]) -> PendingSummary:
            if not reply["pending"]:
                return PendingSummary(0)
            owned = {text(each["name"]): int(each["pending"]) for each in reply["consumers"]}
            return PendingSummary(int(reply["pending"]), entry_id(reply["min"]), entry_id(reply["max"]), owned)

        return self.stream.read(parse, "XPENDING", self.stream.key, raw(self.name))

    def pending(
        self,
        start: EntryId = ZERO,
        end: EntryId = LAST,
        count: int = 1000,
        *,
        consumer: str | None = None,
        min_idle_ms: int = 0,
    ) -> list[PendingEntry]:
        """One page of pending entries, by id."""
        idle = ("IDLE", min_idle_ms) if min_idle_ms else ()
        owner = (raw(consumer),) if consumer is not None else ()
        asked = ("XPENDING", self.stream.key, raw(self.name), *idle, str(start), str(end), count, *owner)
        return self.stream.read(lambda reply: [_pending_entry(each) for each in reply], *asked, parse_detail=True)

    def pending_pages(
        self,
        start: EntryId = ZERO,
        end: EntryId = LAST,
        count: int = 1000,
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

    def pending_ids(self, ids: list[EntryId]) -> dict[EntryId, PendingEntry]:
        """Those of the ids that are pending."""
        asked = (("XPENDING", self.stream.key, raw(self.name), key, key, 1) for key in map(str, ids))
        with translated(self.stream.client):
            replies = self.stream.call_many(asked, parse_detail=True)
            found = [_pending_entry(each) for reply in replies for each in reply]
        return {each.id: each for each in found}

    def acknowledge(self, ids: list[EntryId]) -> int:
        """XACK. -> how many were pending until now"""
        return self.stream.read(int, "XACK", self.stream.key, raw(self.name), *map(str, ids))

    def retire_if_empty(self, consumer: str) -> bool:
        """Delete a consumer that holds nothing. -> whether it is gone"""
        try:
            return bool(self.stream.eval(int, scripts.RETIRE, [self.stream.key], raw(self.name), raw(consumer)))
        except MissingGroup:
            return True


def _pending_entry(reply: dict[str, Any]) -> PendingEntry:
    return PendingEntry(
        entry_id(reply["message_id"]),
        text(reply["consumer"]),
        int(reply["time_since_delivered"]),
        int(reply["times_delivered"]),
    )
