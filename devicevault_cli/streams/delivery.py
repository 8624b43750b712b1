"""Consuming as one consumer of a group: read, take over, hold, settle. Everything the daemon asks of Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from devicevault_cli.errors import WrongType
from devicevault_cli.streams import keys, scripts
from devicevault_cli.streams.connect import translated
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, Entry, EntryId
from devicevault_cli.streams.stream import entry_id, ids_of, of_one_stream, raw

PAST_THE_END = EntryId(LAST.ms - 1, 0)
"""Not LAST: Redis takes the largest id for `>`, and would deliver an entry that nobody then has in hand."""


class Taken(NamedTuple):
    """What was claimed, with the delivery count found before; and what was pending but no longer exists."""

    deliveries: dict[EntryId, int]
    gone: list[EntryId]


class Delivery:
    """One consumer's side of a group."""

    def __init__(self, group: Group, consumer: str) -> None:
        self.group = group
        self.stream = group.stream
        self.consumer = consumer
        self._names = (raw(group.name), raw(consumer))
        self._asked: Callable[[], Any] | None = None

    def read_new(self, count: int, block_ms: int | None = None) -> list[Entry]:
        """XREADGROUP of entries nobody got yet; waits up to `block_ms` (5,000 at most), or not at all.

        What `ask_new` asked for is answered first, whatever is wanted now.
        """
        if self._asked is not None:
            answer, self._asked = self._asked, None
            with translated(self.stream.client):
                return of_one_stream(answer())
        return self.stream.read(of_one_stream, *self._new(count, block_ms))

    def ask_new(self, count: int) -> None:
        """Send the XREADGROUP that the next `read_new` takes the answer of: Redis works on it meanwhile."""
        self._asked = self.stream.ask(*self._new(count))

    def _new(self, count: int, block_ms: int | None = None) -> tuple[Any, ...]:
        block = ("BLOCK", block_ms) if block_ms else ()
        return ("XREADGROUP", "GROUP", *self._names, "COUNT", count, *block, "STREAMS", self.stream.key, ">")

    def show_life(self) -> None:
        """A history read past the end: refreshes the consumer's idle time, delivers nothing."""
        key = self.stream.key
        self.stream.call("XREADGROUP", "GROUP", *self._names, "COUNT", 1, "STREAMS", key, str(PAST_THE_END))

    def take(self, ids: list[EntryId], *, own: bool = False, min_idle_ms: int = 0, raise_count: bool = True) -> Taken:
        """Claim what is still pending and idle enough (`own`: and still this consumer's); clear what is gone."""
        owner = self._names[1] if own else b""
        how = (owner, min_idle_ms, int(raise_count))
        return self.stream.eval(_taken, scripts.TAKE, [self.stream.key], *self._names, *how, *map(str, ids))

    def hold(self, counts: dict[EntryId, int | None]) -> int:
        """Keep entries in hand fresh; a number puts the delivery count back. -> how many are still this consumer's"""
        arguments = [part for key, count in counts.items() for part in (str(key), "" if count is None else count)]
        return self.stream.eval(int, scripts.HOLD, [self.stream.key], *self._names, *arguments)

    def dead_letter(self, key: EntryId, first: EntryId, reason: str, detail: str) -> bool:
        """Write the dead letter and acknowledge, in one step, while the entry is pending. -> False if it is gone"""
        stream = self.stream.key
        names = [stream, keys.dead(stream), keys.dead_ids(stream), keys.alone(stream)]
        group, consumer = self._names
        arguments = (group, str(key), str(first), consumer, reason, detail.encode("utf-8", "replace"), now())
        return self.stream.eval(int, scripts.DEAD_LETTER, names, *arguments) >= 0

    def discard(self, key: EntryId, why: str) -> None:
        """Record that the entry is given up and acknowledge it, in one step, while it is pending."""
        stream = self.stream.key
        names = [stream, keys.discarded(stream), keys.alone(stream)]
        note = discard_note(key, self.group.name, why)
        self.stream.eval(int, scripts.DISCARD, names, self._names[0], str(key), key.ms, note)

    def begin_alone(self, key: EntryId) -> int:
        """Note that a suspect is about to be processed alone. -> how often that was begun without an end"""
        return self.stream.read(int, "HINCRBY", keys.alone(self.stream.key), self._alone(key), 1) - 1

    def end_alone(self, key: EntryId, *, begun: int = 0) -> None:
        """The suspect was settled (`begun` 0), or deferred: then as many attempts are left noted as before."""
        with suppress(WrongType):  # then nothing was counted
            if begun:
                self.stream.call("HSET", keys.alone(self.stream.key), self._alone(key), begun)
            else:
                self.stream.call("HDEL", keys.alone(self.stream.key), self._alone(key))

    def _alone(self, key: EntryId) -> bytes:
        return raw(keys.member(key, self.group.name))


def _taken(reply: Any) -> Taken:
    taken, gone = reply
    return Taken({entry_id(key): int(count) for key, count in taken}, ids_of(gone))


def discard_note(key: EntryId, group: str, why: str) -> str:
    """A member of the sorted set of discards: JSON with id, group, why, at."""
    return json.dumps({"id": str(key), "group": group, "why": why, "at": now()})


def now() -> str:
    """ISO 8601 UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
