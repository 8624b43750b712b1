"""db dedupe: remove duplicate rows, equal to an older one in all that the message said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly, says_refused, snapshot_refusal, stale
from devicevault_cli.operations.database.index import IdentityRows
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.groups.snapshots import new_path
from devicevault_cli.paging import paged
from devicevault_cli.plural import number
from devicevault_cli.repository.model import Row

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

NOT_COMPARED = ("id", "timestamp", "overall_duration_ms")
"""DeviceVault writes the time of consumption into these, so two rows of one message differ in them."""
MOST = 100_000
"""Identities that one run looks at; where there are more, the command says so and is run again."""
ROWS_PER_STEP = 200
"""Whole rows, with their logs, are held in memory at once."""


@dataclass(frozen=True, slots=True)
class DedupeAnswer(ChangeAnswer):
    """The answer of `db dedupe`. `conflicting`: identities whose rows contradict each other, one row per version.

    `snapshot`: the file with the removed rows.
    """

    removed: int
    conflicting: tuple[IdentityRows, ...]
    snapshot: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveDuplicates(Change[DedupeAnswer]):
    """Removes rows by their ids, after writing them to a file."""

    repository: Repository
    ids: tuple[int, ...]
    progress: Progress

    def still_true(self) -> bool:
        return _duplicate_rows(self.repository, quietly).ids == self.ids

    def apply(self) -> DedupeAnswer:
        path = new_path(self.repository.spec.name, "rows.jsonl")
        if checksummed.write(path, _rows(self.repository, self.ids)) != len(self.ids):
            path.unlink()
            raise stale()
        removed = 0
        for page in paged(self.ids, ROWS_PER_STEP):
            self.repository.remove(page)
            removed += len(page) - len(self.repository.fetch(page))
            self.progress(removed)
        return replace(self.answer, removed=removed, snapshot=str(path))


@dataclass(frozen=True, slots=True)
class _DuplicateRows:
    """ids: rows that can go.  conflicting: as in the answer.  identities: how many were looked at."""

    ids: tuple[int, ...]
    conflicting: tuple[IdentityRows, ...]
    identities: int


def plan_dedupe(repository: Repository, progress: Progress = quietly) -> RemoveDuplicates:
    """Remove rows equal in all but id, timestamp and overall duration; of equal ones the lowest id stays.

    What differs in more is only listed: which of two contradicting rows is true is for the operator to say.
    """
    found = _duplicate_rows(repository, progress)
    refused = snapshot_refusal(None, len(found.ids))
    return RemoveDuplicates(
        command="db dedupe",
        says=(*_says(repository, found), *says_refused(refused)),
        answer=DedupeAnswer(len(found.ids), found.conflicting, snapshot=None),
        size=len(found.ids),
        refusal=refused,
        repository=repository,
        ids=found.ids,
        progress=progress,
    )


def _says(repository: Repository, found: _DuplicateRows) -> Iterator[str]:
    yield f"{number(len(found.ids), 'duplicate row')} of {repository.spec.name} would be removed; the oldest stays"
    if found.conflicting:
        identities = number(len(found.conflicting), "identity", "identities")
        yield f"{identities} with rows that contradict each other stay"
    if found.identities == MOST:
        yield f"only the first {MOST:,} identities are looked at; run the command again for the others"
    if found.ids:
        yield "a file with these rows is written first"


def _duplicate_rows(repository: Repository, progress: Progress) -> _DuplicateRows:
    found = repository.duplicates(MOST)
    ids: list[int] = []
    conflicting: list[IdentityRows] = []
    for done, duplicate in enumerate(found, 1):
        rows = repository.fetch(duplicate.ids)
        kept: dict[object, int] = {}
        compared = {key: _compared(rows[key]) for key in duplicate.ids if key in rows}
        ids += [key for key, values in compared.items() if kept.setdefault(values, key) != key]
        if len(kept) > 1:
            conflicting.append(IdentityRows(str(duplicate.identity), tuple(kept.values())))
        progress(done)
    return _DuplicateRows(tuple(ids), tuple(conflicting), len(found))


def _compared(row: Row) -> object:
    """The values that are equal in two rows of one message."""
    return tuple(value for name, value in row.items() if name not in NOT_COMPARED)


def _rows(repository: Repository, ids: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for page in paged(ids, ROWS_PER_STEP):
        yield from ({"row": row} for row in repository.fetch(page).values())
