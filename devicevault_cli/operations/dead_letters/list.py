"""dlq list: dead letters and their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from devicevault_cli.operations.answer import Answer, optional
from devicevault_cli.operations.dead_letters.select import LetterFilter
from devicevault_cli.operations.entries.fields import field_text
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.letters import DeadLetter
from devicevault_cli.streams.model import EntryId


@dataclass(frozen=True, slots=True)
class LetterRow(Answer):
    """One dead letter. `id`: the first id of its message; `at`: ISO 8601."""

    id: EntryId
    at: str
    reason: str
    detail: str
    device_id: str | None
    task_identifier: str | None
    attempts: int
    deliveries: int
    consumer: str
    group: str
    letter_id: EntryId

    @classmethod
    def of(cls, letter: DeadLetter, **more: Any) -> Self:
        """The row of a letter; `more`: the fields that a subclass adds."""
        about = field_text(letter.fields, b"device_id"), field_text(letter.fields, b"task_identifier")
        return cls(
            letter.id, letter.at, letter.reason, letter.detail, *about, letter.attempts, letter.deliveries,
            letter.consumer, letter.group, letter.letter_id, **more,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ListAnswer(Answer):
    """The answer of `dlq list`; `unknown` where ids were chosen."""

    total: int
    reasons: Mapping[str, int]
    entries: tuple[LetterRow, ...]
    unknown: tuple[EntryId, ...] | None = optional()


def list_letters(letters: DeadLetters, chosen: LetterFilter, count: int | None = None) -> ListAnswer:
    """Totals of all that were chosen, and the oldest `count` of them (None: all) as entries."""
    reasons: Counter[str] = Counter()
    rows: list[LetterRow] = []
    unknown = set(chosen.ids or ())
    for page in chosen.pages(letters, unseen=unknown):
        reasons.update(letter.reason for letter in page)
        rows += map(LetterRow.of, page if count is None else page[: max(0, count - len(rows))])
    missing = None if chosen.ids is None else tuple(sorted(unknown))
    return ListAnswer(reasons.total(), dict(reasons.most_common()), tuple(rows), unknown=missing)
