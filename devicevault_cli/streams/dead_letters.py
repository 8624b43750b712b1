"""Dead letters and discards: the messages that a group did not persist, kept beside its stream."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from devicevault_cli.errors import Damaged, Usage
from devicevault_cli.paging import paged
from devicevault_cli.streams import keys, scripts
from devicevault_cli.streams.connect import translated
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, ZERO, Entry, EntryId, fields_of, pairs_of
from devicevault_cli.streams.replies import entry_id, raw, text
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import now_iso

PACKED = b"_dvctl.packed"
_OWN = tuple(
    f"_dvctl.{name}".encode()
    for name in ("id", "reason", "detail", "group", "consumer", "deliveries", "at", "attempts", "packed")
)
_LENGTH = re.compile(rb"([0-9]{1,10}):")
DISCARDS_PER_SCAN = 1000
"""Discards read in one step of ZSCAN."""


class DeadLetter(NamedTuple):
    """A dead letter: `id` is the first id of the message, `letter_id` its own on the stream of dead letters."""

    letter_id: EntryId
    id: EntryId
    reason: str
    detail: str
    group: str
    consumer: str
    deliveries: int
    attempts: int
    at: str
    fields: dict[bytes, bytes]
    packed: bool = False


class DeadLetters:
    """The dead letters (`group` None: of every group) and discards of a stream."""

    def __init__(self, stream: Stream, group: str | None = None) -> None:
        self.stream = stream
        self.group = group
        self.letters = Stream(stream.client, keys.dead(stream.key))

    def pages(self, end: EntryId = LAST) -> Iterator[list[DeadLetter]]:
        """All letters up to a letter id, oldest first, a page at a time, without entries that dvctl did not write."""
        for page in self.letters.pages(end=end):
            letters = [letter for letter in map(read_letter, page) if letter is not None]
            yield [letter for letter in letters if self.group is None or letter.group == self.group]

    def state(self) -> tuple[int, EntryId]:
        """Number of letters of every group, and their last id: equal as long as none is added or removed."""
        info = self.letters.info()
        return (info.length, info.last_generated_id) if info else (0, ZERO)

    def packed(self, letter_id: EntryId) -> bytes | None:
        """The one field of a message that had too many, else None."""
        entry = self.letters.get([letter_id]).get(letter_id)
        return entry.fields.get(PACKED) if entry else None

    def ids(self) -> set[EntryId]:
        """The first ids of all letters of the group."""
        return {letter.id for page in self.pages() for letter in page}

    def length(self) -> int:
        """Number of letters of every group."""
        return self.stream.read(int, "XLEN", self.letters.key)

    def drop(self, letters: Sequence[tuple[DeadLetter, str | None]]) -> int:
        """Remove dead letters, a page in one step; with a reason, record the message as discarded. -> number removed"""
        names = [self.letters.key, keys.dead_ids(self.stream.key), keys.discarded(self.stream.key)]
        dropped = 0
        for page in paged(letters, scripts.ENTRIES_PER_SCRIPT):
            arguments: list[Any] = []
            for letter, why in page:
                record = keys.discard(letter.id, letter.group, why) if why is not None else ""
                arguments += str(letter.letter_id), raw(keys.member(letter.id, letter.group)), letter.id.ms, record
            dropped += self.stream.run_script("drop_letters", names, *arguments, parse=int)
        return dropped

    def rewrite(self, letters: Sequence[tuple[DeadLetter, dict[bytes, bytes]]]) -> None:
        """Replace fields of dead letters that exist, each in a step of its own, all in one round trip."""
        names = [self.letters.key, keys.dead_ids(self.stream.key)]
        commands = []
        for letter, fields in letters:
            parts = [part for pair in pairs_of(fields) for part in pair]
            about = str(letter.letter_id), raw(keys.member(letter.id, letter.group))
            commands.append(scripts.command("rewrite_letter", names, *about, *parts))
        self.stream.call_many(commands)

    def discarded_count(self) -> int:
        """Number of discards of every group."""
        return self.stream.read(int, "ZCARD", keys.discarded(self.stream.key))

    def discarded_ids(self) -> set[EntryId]:
        """The ids that the group discarded."""

        def parse(reply: Any) -> tuple[int, set[EntryId | None]]:
            cursor, page = reply
            return int(cursor), {keys.discarded_id(member, self.group) for member, _ in page}

        key = keys.discarded(self.stream.key)
        found: set[EntryId | None] = set()
        cursor = 0
        while True:
            cursor, page = self.stream.read(parse, "ZSCAN", key, cursor, "COUNT", DISCARDS_PER_SCAN)
            found |= page
            if cursor == 0:
                return {entry for entry in found if entry is not None}


def dead_among(group: Group, ids: Sequence[EntryId]) -> set[EntryId]:
    """Those of the first ids that have a dead letter of the group now."""
    if not ids:
        return set()
    stream = group.stream
    members = [raw(keys.member(key, group.name)) for key in ids]

    def parse(reply: list[bytes | None]) -> list[tuple[EntryId, EntryId]]:
        return [(first, entry_id(letter)) for first, letter in zip(ids, reply, strict=True) if letter]

    candidates = stream.read(parse, "HMGET", keys.dead_ids(stream.key), *members)
    letters = Stream(stream.client, keys.dead(stream.key)).get(letter for _, letter in candidates)
    return {first for first, letter in candidates if letter in letters}


def discarded_among(group: Group, ids: Sequence[EntryId]) -> set[EntryId]:
    """Those of the ids that the group has discarded."""
    key = keys.discarded(group.stream.key)
    with translated(group.stream.client):
        replies = group.stream.call_many(("ZRANGEBYSCORE", key, entry.ms, entry.ms) for entry in ids)
        discarded = {keys.discarded_id(member, group.name) for reply in replies for member in reply}
    return {entry for entry in ids if entry in discarded}


def write_late_letter(group: Group, key: EntryId, first: EntryId, reason: str, detail: str) -> bool:
    """Write the dead letter of an entry that was acknowledged without one, unless it has one. -> whether it has

    False where the entry is pending (its consumer will decide) or no longer on the stream.
    """
    stream = group.stream.key
    names = [stream, keys.dead(stream), keys.dead_ids(stream)]
    message = raw(group.name), str(key), str(first)
    arguments = (*message, "dvctl verify", reason, detail.encode("utf-8", "replace"), now_iso())
    return group.stream.run_script("late_letter", names, *arguments, parse=int) == 1


def read_letter(entry: Entry) -> DeadLetter | None:
    """A letter from its entry; None for an entry that dvctl did not write."""
    own = [entry.fields.get(name, b"") for name in _OWN]
    fields = fields_of([pair for pair in pairs_of(entry.fields) if pair[0] not in _OWN])
    key, reason, detail, group, consumer, deliveries, at, attempts, packed = own
    try:
        first = EntryId.parse(key)
    except Usage:
        return None
    return DeadLetter(
        letter_id=entry.id,
        id=first,
        reason=reason.decode("utf-8", "replace"),
        detail=detail.decode("utf-8", "replace"),
        group=text(group),
        consumer=text(consumer),
        deliveries=_number(deliveries),
        attempts=_number(attempts),
        at=at.decode("utf-8", "replace"),
        fields=_unpacked(fields, packed) if packed else fields,
        packed=bool(packed),
    )


def _unpacked(own: dict[bytes, bytes], packed: bytes) -> dict[bytes, bytes]:
    try:
        parts = unpack(packed)
    except Damaged:
        parts = [PACKED, packed]  # a worker's field of that name must not hide the other letters
    return fields_of([*pairs_of(own), *zip(parts[::2], parts[1::2], strict=True)])


def unpack(packed: bytes) -> list[bytes]:
    """Netstrings (`LENGTH:BYTES,`...) to their parts, names and values in turn. Raises Damaged."""
    parts = []
    position = 0
    while position < len(packed):
        length = _LENGTH.match(packed, position)
        end = length.end() + int(length[1]) if length else len(packed)
        if length is None or packed[end : end + 1] != b",":
            raise Damaged(f"{PACKED.decode()} is damaged at byte {position}")
        parts.append(packed[length.end() : end])
        position = end + 1
    if len(parts) % 2:
        raise Damaged(f"{PACKED.decode()} ends with a name that has no value")
    return parts


def pack(parts: list[bytes]) -> bytes:
    """The inverse of `unpack`."""
    return b"".join(b"%d:%s," % (len(part), part) for part in parts)


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) < 20 else 0
