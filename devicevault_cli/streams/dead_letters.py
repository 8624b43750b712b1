"""Dead letters and discards: what a group gave up, kept beside its stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from devicevault_cli.errors import Damaged, Usage
from devicevault_cli.streams import keys
from devicevault_cli.streams.model import LAST, ZERO, Entry, EntryId, fields_of, pairs_of
from devicevault_cli.streams.stream import Stream, text

ABOUT = "_dvctl."
PACKED = b"_dvctl.packed"

_LENGTH = re.compile(rb"([0-9]{1,10}):")


class DeadLetter(NamedTuple):
    """One dead letter: `id` is the message's first id, `letter_id` the letter's own on the dead-letter stream."""

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
        """All letters up to an id of their own, oldest first, a page at a time; foreign entries are passed over."""
        for page in self.letters.pages(end=end):
            letters = [letter for letter in map(read_letter, page) if letter is not None]
            yield [letter for letter in letters if self.group is None or letter.group == self.group]

    def state(self) -> tuple[int, EntryId]:
        """How many letters of every group, and their end: equal as long as nothing is added or removed."""
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
        """Letters of every group."""
        return self.stream.read(int, "XLEN", self.letters.key)

    def discarded_count(self) -> int:
        """Discards of every group."""
        return self.stream.read(int, "ZCARD", keys.discarded(self.stream.key))

    def discarded_ids(self) -> set[EntryId]:
        """The ids that the group gave up on purpose."""

        def parse(reply: Any) -> tuple[int, set[EntryId | None]]:
            cursor, page = reply
            return int(cursor), {read_discard(member, self.group) for member, _ in page}

        found: set[EntryId | None] = set()
        cursor = 0
        while True:
            cursor, page = self.stream.read(parse, "ZSCAN", keys.discarded(self.stream.key), cursor, "COUNT", 1000)
            found |= page
            if cursor == 0:
                return {each for each in found if each is not None}


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


def read_discard(member: bytes, group: str | None) -> EntryId | None:
    """The id in the note of a discard; None for one of another group, and for what dvctl did not write."""
    try:
        note = json.loads(member)
        return EntryId.parse(note["id"]) if group in (None, note["group"]) else None
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError, Usage):
        return None


_OWN = tuple(
    f"{ABOUT}{name}".encode()
    for name in ("id", "reason", "detail", "group", "consumer", "deliveries", "at", "attempts", "packed")
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
