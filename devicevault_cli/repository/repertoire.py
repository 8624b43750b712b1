"""Text that a database cannot store: an identity with a character outside the column's character set has no row.

So look-ups leave such a record out, and saving rejects it, also where the server would store something similar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias
from unicodedata import combining

from devicevault_cli.records import Record
from devicevault_cli.repository.tables import TableSpec

REMEMBERED = 100_000
_PRINTABLE = [chr(code) for code in range(0x20, 0x7F)]


class Repertoire:
    """The characters of one character set, learned from the server as they come up."""

    def __init__(self, unchanged: Callable[[list[str]], Iterable[str]]) -> None:
        """`unchanged`: those of the given characters that the server can convert to its character set and back."""
        self._unchanged = unchanged
        self._known: dict[str, bool] = {}
        self._has_ascii: bool | None = None

    def lacks(self, texts: Iterable[str]) -> set[str]:
        """Those of the texts that the character set cannot represent."""
        if self._has_ascii is None:  # swe7 has letters in the place of brackets
            self._has_ascii = set(_PRINTABLE) == set(self._unchanged(_PRINTABLE))
        characters = {text: _characters(text) for text in texts if not (self._has_ascii and text.isascii())}
        self._learn(set().union(*characters.values()))
        return {text for text, parts in characters.items() if not all(self._known[part] for part in parts)}

    def _learn(self, characters: set[str]) -> None:
        if len(self._known) > REMEMBERED:
            self._known.clear()
        if new := sorted(characters - self._known.keys()):
            unchanged = set(self._unchanged(new))
            self._known.update((character, character in unchanged) for character in new)


def _characters(text: str) -> set[str]:
    """The characters but for control characters, each with its combining marks: EUC_JIS_2004 has some as pairs only."""
    parts = set(text)
    if any(map(combining, parts)):
        parts = set(_clusters(text))
    return {part for part in parts if part >= " "}


def _clusters(text: str) -> Iterator[str]:
    cluster = ""
    for character in text:
        if cluster and not combining(character):
            yield cluster
            cluster = ""
        cluster += character
    yield cluster


Repertoires: TypeAlias = Mapping[tuple[str, str], Repertoire]
"""By table and column; a column that holds all of Unicode has none."""


def identifiable(repertoires: Repertoires, spec: TableSpec, records: Sequence[Record]) -> list[bool]:
    """For each record whether the table can hold its identity."""
    parts = ("task_id", "status", "log")
    answers = _representable(repertoires, spec, records, ("task_identifier",))
    unnamed = [position for position, record in enumerate(records) if not record.task_identifier]
    found = _representable(repertoires, spec, [records[position] for position in unnamed], parts)
    for position, answer in zip(unnamed, found, strict=True):
        answers[position] = answer
    return answers


def encodable(repertoires: Repertoires, spec: TableSpec, records: Sequence[Record]) -> list[bool]:
    """For each record whether the table can hold all of its text."""
    return _representable(repertoires, spec, records, [name for name in spec.columns if spec.kind(name) == "text"])


def _representable(
    repertoires: Repertoires, spec: TableSpec, records: Sequence[Record], columns: Sequence[str]
) -> list[bool]:
    answers = [True] * len(records)
    for column in columns if records else ():
        if repertoire := repertoires.get((spec.name, column)):
            texts = [getattr(record, column) for record in records]
            lacking = repertoire.lacks(texts)
            answers = [answer and text not in lacking for answer, text in zip(answers, texts, strict=True)]
    return answers
