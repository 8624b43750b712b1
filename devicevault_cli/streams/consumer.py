"""One consumer of a group: reading and claiming entries, renewing, acknowledging and dead-lettering them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from devicevault_cli.errors import WrongType
from devicevault_cli.streams import keys
from devicevault_cli.streams.connect import translated
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, Claimed, EntryId
from devicevault_cli.streams.page import Page, page_of_one_stream
from devicevault_cli.streams.replies import raw
from devicevault_cli.streams.stream import Asked
from devicevault_cli.times import now_iso

PAST_THE_END = EntryId(LAST.ms - 1, 0)
"""Not LAST: Redis takes the largest id for `>`, and would deliver an entry that nobody then has in hand."""


class GroupConsumer:
    """What the daemon asks of Redis as one consumer of a group."""

    def __init__(self, group: Group, consumer: str) -> None:
        self.group = group
        self.stream = group.stream
        self.consumer = consumer
        self._names = (raw(group.name), raw(consumer))
        self.asked: Asked | None = None
        """The read of `ask_new`, until `read_new` returns its entries."""
        self.asked_count = 0
        """How many entries it brings at most; 0 without one."""

    def read_new(self, count: int, block_ms: int | None = None) -> Page:
        """XREADGROUP of entries not delivered yet; waits up to `block_ms` (5,000 at most), or not at all.

        After `ask_new`, returns the entries that were requested there, whatever is requested now.
        """
        if self.asked is not None:
            answer, self.asked, self.asked_count = self.asked, None, 0
            with translated(self.stream.client):
                return page_of_one_stream(answer())
        return self.stream.read(page_of_one_stream, *self._read_command(count, block_ms))

    def ask_new(self, count: int, block_ms: int | None = None) -> Asked:
        """Send the XREADGROUP whose answer the next `read_new` returns: Redis works on it, or waits, meanwhile."""
        self.asked, self.asked_count = self.stream.ask(*self._read_command(count, block_ms)), count
        return self.asked

    def forget_asked(self) -> None:
        """Give up what was asked for: what Redis delivers all the same is pending for this consumer."""
        if self.asked is not None:
            self.asked.drop()
            self.asked, self.asked_count = None, 0

    def _read_command(self, count: int, block_ms: int | None = None) -> tuple[Any, ...]:
        block = ("BLOCK", block_ms) if block_ms else ()
        return ("XREADGROUP", "GROUP", *self._names, "COUNT", count, *block, "STREAMS", self.stream.key, ">")

    def show_life(self) -> None:
        """Reset the consumer's idle time, delivering nothing, by reading its history past the end."""
        key = self.stream.key
        self.stream.call("XREADGROUP", "GROUP", *self._names, "COUNT", 1, "STREAMS", key, str(PAST_THE_END))

    def claim(
        self, ids: Iterable[EntryId], *, own: bool = False, min_idle_ms: int = 0, raise_count: bool = True
    ) -> Claimed:
        """Claim what is still pending, idle enough and (`own`) this consumer's already."""
        owner = self.consumer if own else None
        return self.group.claim(ids, self.consumer, owner=owner, min_idle_ms=min_idle_ms, raise_count=raise_count)

    def renew(self, counts: Mapping[EntryId, int | None]) -> int:
        """Reset the idle times of entries in hand, and set those delivery counts that are not None.

        -> number of entries that this consumer still holds
        """
        arguments = [part for key, count in counts.items() for part in (str(key), "" if count is None else count)]
        return self.stream.run_script("renew", [self.stream.key], *self._names, *arguments, parse=int)

    def dead_letter(self, key: EntryId, first: EntryId, reason: str, detail: str) -> bool:
        """Write the dead letter and acknowledge, in one step, while the entry is pending.

        -> False if it is no longer on the stream
        """
        stream = self.stream.key
        names = [stream, keys.dead(stream), keys.dead_ids(stream), keys.alone(stream)]
        group, consumer = self._names
        arguments = (group, str(key), str(first), consumer, reason, detail.encode("utf-8", "replace"), now_iso())
        return self.stream.run_script("dead_letter", names, *arguments, parse=int) >= 0

    def discard(self, key: EntryId, why: str) -> None:
        """Record the entry as discarded and acknowledge it, in one step, while it is pending."""
        self.group.discard([key], why)

    def begin_alone(self, key: EntryId) -> int:
        """Note that a quarantined entry is about to be processed alone. -> how often that was begun and not finished"""
        return self.stream.read(int, "HINCRBY", keys.alone(self.stream.key), self._member(key), 1) - 1

    def end_alone(self, key: EntryId, *, begun: int = 0) -> None:
        """Note that processing is finished; if the entry was deferred, put back what `begin_alone` returned."""
        with suppress(WrongType):  # then nothing was counted
            if begun:
                self.stream.call("HSET", keys.alone(self.stream.key), self._member(key), begun)
            else:
                self.stream.call("HDEL", keys.alone(self.stream.key), self._member(key))

    def _member(self, key: EntryId) -> bytes:
        return raw(keys.member(key, self.group.name))
