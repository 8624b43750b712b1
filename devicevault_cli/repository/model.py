"""The values that a repository takes and answers; they know no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from devicevault_cli.records import Identity

Row: TypeAlias = dict[str, str | int | None]
"""A whole row by column, `id` included; times are Micros."""


class Existing(NamedTuple):
    """A row found by the identity of a record."""

    id: int
    device_id: int
    status: str


class Saved(NamedTuple):
    """What became of a record.

    `existing`: for a duplicate, the row with its identity that has the lowest id; for `replaced`, the row of the failed
    store as it was before: it keeps its id, and all else is the record's now.
    """

    outcome: Literal["inserted", "duplicate", "replaced", "unknown-device"]
    existing: Existing | None = None


INSERTED = Saved("inserted")


class Duplicate(NamedTuple):
    """An identity with more than one row, and the ids of its rows, lowest first."""

    identity: Identity
    ids: list[int]


class IndexAnswer(NamedTuple):
    """The answer of `create_index`. `created`: the index exists now because of this call."""

    name: str
    created: bool
    duplicates: list[Duplicate]
    """The duplicates that prevent the index."""


class PutBack(NamedTuple):
    """Rows that were put back: with their ids, with new ids because theirs were taken, and those that were there."""

    kept: int
    renumbered: int
    present: int


class PendingSave(Protocol):
    """A submitted transaction."""

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`. -> True once `result()` will not block"""

    def result(self) -> list[Saved]:
        """One answer for each record, in order, after COMMIT. On an error no record was saved, and it is raised."""


@dataclass(frozen=True, slots=True)
class CompletedSave:
    """A transaction that has already ended."""

    answers: list[Saved]

    def wait(self, seconds: float) -> bool:
        return True

    def result(self) -> list[Saved]:
        return self.answers
