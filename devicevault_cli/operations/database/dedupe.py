"""db dedupe: remove duplicate rows, equal to an older one in all that the message said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from devicevault_cli.directories import why_no_snapshot
from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly, stale
from devicevault_cli.operations.changes.undo import by_snapshot
from devicevault_cli.operations.database import removed_rows
from devicevault_cli.operations.database.index import IdentityRows
from devicevault_cli.paging import paged
from devicevault_cli.plural import number
from devicevault_cli.repository.model import Row
from devicevault_cli.repository.repository import Repository

NOT_COMPARED = ("id", "timestamp", "overall_duration_ms")
"""DeviceVault writes the time of consumption into these, so two rows of one message differ in them."""
MOST = 100_000
"""Identities that one run looks at; where there are more, the command says so and is run again."""
ROWS_PER_STEP = 200
"""Whole rows, with their logs, are held in memory at once."""
UNDO = by_snapshot("db restore puts the rows back")


@dataclass(frozen=True, slots=True)
class DedupeAnswer(ChangeAnswer):
    """The answer of `db dedupe`. `conflicting`: identities whose rows contradict each other, one row per version.

    `snapshot`: the file with the removed rows.
    """

    removed: int
    conflicting: tuple[IdentityRows, ...]
    snapshot: str | None


class _DuplicateRows(NamedTuple):
    """ids: rows that can go.  conflicting: as in the answer.  identities: how many were looked at."""

    ids: tuple[int, ...]
    conflicting: tuple[IdentityRows, ...]
    identities: int


def plan_dedupe(repository: Repository, progress: Progress = quietly) -> Change[DedupeAnswer]:
    """Remove rows equal in all but id, timestamp and overall duration; of equal ones the lowest id stays.

    What differs in more is only listed: which of two contradicting rows is true is for the operator to say.
    """
    found = _duplicate_rows(repository, progress)
    answer = DedupeAnswer(len(found.ids), found.conflicting, snapshot=None)
    return Change(
        command="db dedupe", says=tuple(_says(repository, found)), undo=UNDO, answer=answer, size=len(found.ids),
        apply=lambda: _remove(repository, found.ids, answer, progress),
        still_true=lambda: _duplicate_rows(repository, quietly).ids == found.ids,
        refusal=why_no_snapshot() if found.ids else None,
    )  # fmt: skip


def _remove(repository: Repository, ids: tuple[int, ...], answer: DedupeAnswer, progress: Progress) -> DedupeAnswer:
    """Write the rows to a file, then remove them."""
    rows = (row for page in paged(ids, ROWS_PER_STEP) for row in repository.fetch(page).values())
    path, written = removed_rows.write(repository, "db dedupe", rows)
    if written != len(ids):
        path.unlink()
        raise stale()
    removed = 0
    for page in paged(ids, ROWS_PER_STEP):
        repository.remove(page)
        removed += len(page) - len(repository.fetch(page))
        progress(removed)
    return replace(answer, removed=removed, snapshot=str(path), undo=removed_rows.restore_command(path))


def _says(repository: Repository, found: _DuplicateRows) -> Iterator[str]:
    yield f"{number(len(found.ids), 'duplicate row')} of {repository.spec.name} would be removed; the oldest stays"
    if found.conflicting:
        identities = number(len(found.conflicting), "identity", "identities")
        yield f"{identities} with rows that contradict each other stay"
    if found.identities == MOST:
        yield f"only the first {MOST:,} identities are looked at; run the command again for the others"


def _duplicate_rows(repository: Repository, progress: Progress) -> _DuplicateRows:
    found = repository.duplicates(MOST)
    ids: list[int] = []
    conflicting: list[IdentityRows] = []
    for done, duplicate in enumerate(found, 1):
        rows = repository.fetch(duplicate.ids)
        kept: dict[object, int] = {}
        ids += [key for key in duplicate.ids if key in rows and kept.setdefault(_compared(rows[key]), key) != key]
        if len(kept) > 1:
            conflicting.append(IdentityRows(str(duplicate.identity), tuple(kept.values())))
        progress(done)
    return _DuplicateRows(tuple(ids), tuple(conflicting), len(found))


def _compared(row: Row) -> object:
    """The values that are equal in two rows of one message."""
    return tuple(value for name, value in row.items() if name not in NOT_COMPARED)
