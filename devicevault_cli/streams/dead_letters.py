"""Dead letters and discards: the messages that a group did not persist, kept beside its stream."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import chain
from typing import Any

from devicevault_cli.streams import keys, scripts
from devicevault_cli.streams.connect import translated
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.letters import PACKED, DeadLetter, LetterPage, letter_page
from devicevault_cli.streams.model import LAST, ZERO, EntryId, pairs_of
from devicevault_cli.streams.replies import entry_id, raw
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import now_iso

DISCARDS_PER_SCAN = 1000
"""Discards read in one step of ZSCAN."""


class DeadLetters:
    """The dead letters (`group` None: of every group) and discards of a stream."""

    def __init__(self, stream: Stream, group: str | None = None) -> None:
        self.stream = stream
        self.group = group
        self.letters = Stream(stream.client, keys.dead(stream.key))

    def pages(self, end: EntryId = LAST) -> Generator[LetterPage, None, None]:
        """All letters up to a letter id, oldest first, a page at a time, without entries that dvctl did not write.

        Close the generator where it may be left early.
        """
        with closing(self.letters.column_pages(end=end)) as pages:
            for page in pages:
                letters = letter_page(page)
                yield letters if self.group is None else letters.of_group(self.group)

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
        """Remove dead letters; with a reason, record the message as discarded. -> number removed"""
        known = [(str(letter.letter_id), raw(keys.member(letter.id, letter.group))) for letter, _ in letters]
        discards = {
            number: (letter.id.ms, keys.discard(letter.id, letter.group, why))
            for number, (letter, why) in enumerate(letters)
            if why is not None
        }
        return self._remove(known, discards)

    def remove(self, letters: Sequence[tuple[str, bytes]]) -> int:
        """Remove those dead letters that still exist, by `LetterPage.keys`. -> number removed"""
        return self._remove(letters, {})

    def _remove(self, letters: Sequence[tuple[str, bytes]], discards: dict[int, tuple[int, str]]) -> int:
        """Remove letters, many in one step: each by its id and its member of `dead ids`; `discards` by position."""
        names = [self.letters.key, keys.dead_ids(self.stream.key), keys.discarded(self.stream.key)]
        removed = 0
        for start in range(0, len(letters), scripts.ENTRIES_PER_SCRIPT):
            ids, members = zip(*letters[start : start + scripts.ENTRIES_PER_SCRIPT], strict=True)
            records = [(key, *discards[number]) for number, key in enumerate(ids, start) if number in discards]
            arguments = [len(ids), *ids, *members, *chain.from_iterable(records)]
            removed += self.stream.run_script("drop_letters", names, *arguments, parse=int)
        return removed

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
