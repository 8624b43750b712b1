"""dlq show: dead letters whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.dead_letters.list import LetterRow
from devicevault_cli.operations.dead_letters.select import LetterFilter
from devicevault_cli.operations.entries.fields import shown_fields
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.model import EntryId


@dataclass(frozen=True, slots=True)
class ShownLetter(LetterRow):
    fields: Mapping[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class ShowAnswer(Answer):
    """The answer of `dlq show`. `unknown`: ids that no letter has."""

    total: int
    entries: tuple[ShownLetter, ...]
    unknown: tuple[EntryId, ...]


def show_letters(letters: DeadLetters, ids: Sequence[EntryId], *, reveal: bool = False) -> ShowAnswer:
    """Letters with every field; device_config only as size and hash unless `reveal`."""
    found = [
        ShownLetter.of(letter, fields=shown_fields(letter.fields, reveal))
        for page in LetterFilter(frozenset(ids)).pages(letters)
        for letter in page
    ]
    known = {letter.id for letter in found}
    return ShowAnswer(len(found), tuple(found), tuple(key for key in ids if key not in known))
