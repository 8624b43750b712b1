"""What a dead letter is: read from its entry, or a page of them by column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import NamedTuple, overload

from devicevault_cli.errors import Damaged, Usage
from devicevault_cli.streams import keys
from devicevault_cli.streams.model import Entry, EntryId, fields_of, pairs_of
from devicevault_cli.streams.page import Columns, Page
from devicevault_cli.streams.replies import entry_id, raw, text

PACKED = b"_dvctl.packed"
_OWN = tuple(
    f"_dvctl.{name}".encode()
    for name in ("id", "reason", "detail", "group", "consumer", "deliveries", "at", "attempts", "packed")
)
_LENGTH = re.compile(rb"([0-9]{1,10}):")


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


class LetterPage(Sequence[DeadLetter]):
    """Dead letters in the order of their own ids. A DeadLetter is made only where one is asked for.

    `messages`: their messages, under the ids these had first; None where the letters do not all have the same fields or
    are packed, and each has to be looked at alone.
    """

    __slots__ = ("_columns", "_letters", "messages")

    def __init__(self, content: list[DeadLetter] | _Columns, messages: Page | None = None) -> None:
        self._letters = content if isinstance(content, list) else None
        self._columns = None if isinstance(content, list) else content
        self.messages = messages

    def keys(self) -> list[tuple[str, bytes]]:
        """Of each letter its own id, and its member in the hash of dead letters."""
        if self._columns is None:
            return [(str(each.letter_id), raw(keys.member(each.id, each.group))) for each in self]
        members = map(b"%b %b".__mod__, zip(self._columns.own[_ID], self._columns.own[_GROUP], strict=True))
        return list(zip(map(str, self._columns.letter_ids), members, strict=True))

    def of_group(self, group: str) -> LetterPage:
        """Those that the group wrote."""
        if self._columns is None:
            return self.where([letter.group == group for letter in self])
        return self.where(list(map(raw(group).__eq__, self._columns.own[_GROUP])))

    def where(self, chosen: Sequence[bool]) -> LetterPage:
        """The letters for which this is true."""
        if all(chosen):
            return self
        if self._columns is None:
            return LetterPage(list(compress(self, chosen)))
        return LetterPage(self._columns.where(chosen), self.messages and self.messages.where(chosen))

    def without_messages(self) -> LetterPage:
        """The same letters without the fields of their messages, which may be large."""
        if self._columns is None:
            return LetterPage([letter._replace(fields={}) for letter in self])
        return LetterPage(self._columns)

    def _all(self) -> list[DeadLetter]:
        if self._letters is None:
            self._letters = [*self._columns.letters(self.messages)] if self._columns else []
        return self._letters

    def __len__(self) -> int:
        return len(self._all() if self._columns is None else self._columns.letter_ids)

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter(self._all())

    @overload
    def __getitem__(self, which: int) -> DeadLetter: ...
    @overload
    def __getitem__(self, which: slice) -> LetterPage: ...
    def __getitem__(self, which: int | slice) -> DeadLetter | LetterPage:
        if isinstance(which, int):
            return self._all()[which]
        if self._columns is None:
            return LetterPage(self._all()[which])
        return LetterPage(self._columns.slice(which), self.messages and self.messages[which])


class _Columns(NamedTuple):
    """Letters without their messages. `ids`: what the messages had first. `own`: the fields that dvctl added."""

    letter_ids: Sequence[EntryId]
    ids: Sequence[EntryId]
    own: Columns

    def where(self, chosen: Sequence[bool]) -> _Columns:
        own = {name: tuple(compress(column, chosen)) for name, column in self.own.items()}
        return _Columns(list(compress(self.letter_ids, chosen)), list(compress(self.ids, chosen)), own)

    def slice(self, which: slice) -> _Columns:
        own = {name: column[which] for name, column in self.own.items()}
        return _Columns(self.letter_ids[which], self.ids[which], own)

    def letters(self, messages: Page | None) -> Iterator[DeadLetter]:
        rows = zip(self.letter_ids, self.ids, zip(*(self.own[name] for name in _COLUMNS), strict=True), strict=True)
        for number, (letter_id, first, own) in enumerate(rows):
            yield _letter(letter_id, first, (*own, b""), messages[number].fields if messages else {})


_ID, _GROUP, _COLUMNS = _OWN[0], _OWN[3], _OWN[:-1]
_USUAL_IDS = re.compile(rb"(?:(?:0|[1-9][0-9]{0,18})-(?:0|[1-9][0-9]{0,18})\n)+")
"""Ids as Redis writes them, each with a line end, and below 2**63."""


def letter_page(page: Page) -> LetterPage:
    """The letters among entries, without those that dvctl did not write."""
    columns = page.columns
    if columns is not None and PACKED not in columns and columns.keys() >= set(_COLUMNS):
        own = {name: columns[name] for name in _COLUMNS}
        message = {name: column for name, column in columns.items() if name not in own}
        together = b"\n".join((*own[_ID], b""))
        if message and _USUAL_IDS.fullmatch(together) and together.count(b"\n") == len(page):
            ids = list(map(entry_id, own[_ID]))
            return LetterPage(_Columns(page.ids, ids, own), Page(ids, message))
    return LetterPage([letter for letter in map(read_letter, page) if letter is not None])


def read_letter(entry: Entry) -> DeadLetter | None:
    """A letter from its entry; None for an entry that dvctl did not write."""
    own = [entry.fields.get(name, b"") for name in _OWN]
    fields = fields_of([pair for pair in pairs_of(entry.fields) if pair[0] not in _OWN])
    try:
        first = EntryId.parse(own[0])
    except Usage:
        return None
    return _letter(entry.id, first, own, fields)


def _letter(letter_id: EntryId, first: EntryId, own: Sequence[bytes], fields: dict[bytes, bytes]) -> DeadLetter:
    """`own`: the values of dvctl's own fields; `fields`: the others."""
    _, reason, detail, group, consumer, deliveries, at, attempts, packed = own
    return DeadLetter(
        letter_id=letter_id,
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
