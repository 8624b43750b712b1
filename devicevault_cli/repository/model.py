"""The values that a repository takes and answers; they know no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from devicevault_cli.records import Identity

Row: TypeAlias = dict[str, str | int | None]
"""A whole row by column, `id` included; times are Micros."""


@dataclass(frozen=True, slots=True)
class Server:
    """Which database server this is. Only of PostgreSQL can that be told, and not of a standby.

    `system`: the identifier of the cluster, which all its standbys share; '' where the user may not read it.
    `timeline` grows with each promotion of a standby. `position`: of the write-ahead log, as `0/3000060`.
    """

    system: str
    timeline: int
    position: str = ""

    def is_same(self, other: Server) -> bool:
        """Whether nobody was promoted in between."""
        return self.timeline == other.timeline and self.same_system(other)

    def same_system(self, other: Server) -> bool:
        """Whether it belongs to the same cluster, as far as that is known."""
        return "" in (self.system, other.system) or self.system == other.system


class Standbys(NamedTuple):
    """Synchronous replication. `names`: `synchronous_standby_names`. `needed`: how many have to confirm each commit.

    `synchronous`: how many are connected and confirm; None where the user may not see that, but only how many standbys
    are `connected`. `waiting`: sessions of this user whose commit waits for a standby.
    """

    names: str
    needed: int
    connected: int
    synchronous: int | None
    waiting: int


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
