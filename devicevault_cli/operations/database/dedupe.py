"""Removing surplus rows: those equal to an older one in all that the message said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devicevault_cli.operations.changes.plan import Answer, Plan, Progress, number, quietly, stale
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.groups.snapshots import new_path
from devicevault_cli.paging import paged
from devicevault_cli.repository.repository import Duplicate, Repository, Row

NOT_COMPARED = ("id", "timestamp", "overall_duration_ms")
"""DeviceVault writes the time of consumption into these, so two rows of one message differ in them."""
MOST = 100_000
"""Identities that one run looks at; where there are more, the command says so and is run again."""
PAGE = 200


def plan_dedupe(repository: Repository, progress: Progress = quietly) -> Plan:
    """Remove rows equal in all but id, timestamp and overall duration; of equal ones the lowest id stays.

    What differs in more is only listed: which of two contradicting rows is true is the operator's to say.
    """
    found = repository.duplicates(MOST)
    surplus, conflicts = _judge(repository, found, progress)

    def still_true() -> bool:
        return _judge(repository, repository.duplicates(MOST), quietly)[0] == surplus

    def apply() -> Answer:
        path = new_path(repository.spec.name, "rows.jsonl")
        if checksummed.write_sealed(path, _rows(repository, surplus)) != len(surplus):
            path.unlink()
            raise stale()
        removed = 0
        for page in paged(surplus, PAGE):
            repository.remove(page)
            removed += len(page) - len(repository.fetch(page))
            progress(removed)
        return {"removed": removed, "snapshot": str(path)}

    says = [f"{number(len(surplus), 'surplus row')} of {repository.spec.name} would be removed; the oldest stays"]
    if conflicts:
        says.append(f"{number(len(conflicts), 'identity', 'identities')} with rows that contradict each other stay")
    if len(found) == MOST:
        says.append(f"only the first {MOST:,} identities are looked at: run it again for the others")
    if surplus:
        says.append("a file with these rows is written first")
    return Plan(
        command="db dedupe",
        says=tuple(says),
        answer={"removed": len(surplus), "conflicting": conflicts, "snapshot": None},
        size=len(surplus),
        apply=apply,
        still_true=still_true,
        snapshot=True,
    )


def _judge(
    repository: Repository, found: list[Duplicate], progress: Progress
) -> tuple[list[int], list[dict[str, Any]]]:
    """Ids of surplus rows, and the identities whose rows contradict each other."""
    surplus: list[int] = []
    conflicts: list[dict[str, Any]] = []
    for done, duplicate in enumerate(found, 1):
        rows = repository.fetch(duplicate.ids)
        kept: dict[object, int] = {}
        said = {key: _said(rows[key]) for key in duplicate.ids if key in rows}
        surplus += [key for key, what in said.items() if kept.setdefault(what, key) != key]
        if len(kept) > 1:
            conflicts.append({"task_identifier": str(duplicate.identity), "rows": list(kept.values())})
        progress(done)
    return surplus, conflicts


def _said(row: Row) -> object:
    """What is equal in two rows of one message."""
    return tuple(value for name, value in row.items() if name not in NOT_COMPARED)


def _rows(repository: Repository, ids: list[int]) -> Iterator[dict[str, Any]]:
    for page in paged(ids, PAGE):
        yield from ({"row": row} for row in repository.fetch(page).values())
