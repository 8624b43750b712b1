"""Removing surplus rows: those equal to an older one in all that the message said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devicevault_cli.operations import sealed
from devicevault_cli.operations.plan import Answer, Plan, Progress, number, quietly, stale
from devicevault_cli.operations.snapshots import new_path
from devicevault_cli.repository.repository import Duplicate, Repository, Row

NOT_COMPARED = ("id", "timestamp", "overall_duration_ms")
"""DeviceVault writes the time of consumption into these, so two rows of one message differ in them."""
MOST = 100_000


def plan_dedupe(repository: Repository, progress: Progress = quietly) -> Plan:
    """Remove rows equal in all but id, timestamp and overall duration; of each identity the lowest id stays.

    What differs in more is only listed: which of two contradicting rows is true is the operator's to say.
    """
    surplus, conflicts = _judge(repository, repository.duplicates(MOST), progress)

    def still_true() -> bool:
        return _judge(repository, repository.duplicates(MOST), quietly)[0] == surplus

    def apply() -> Answer:
        path = new_path(repository.spec.name, "rows.jsonl")
        sealed.write_sealed(path, _rows(repository, surplus))
        if set(repository.fetch(surplus)) != set(surplus):
            path.unlink()
            raise stale()
        done = 0
        for start in range(0, len(surplus), 500):
            repository.remove(surplus[start : start + 500])
            done = start + len(surplus[start : start + 500])
            progress(done)
        return {"removed": len(surplus) - len(repository.fetch(surplus)), "snapshot": str(path)}

    says = [f"{number(len(surplus), 'surplus row')} of {repository.spec.name} would be removed; the oldest stays"]
    if conflicts:
        says.append(f"{number(len(conflicts), 'identity', 'identities')} with rows that contradict each other stay")
    if surplus:
        says.append("a file with these rows is written first")
    return Plan(
        command="db dedupe",
        says=tuple(says),
        answer={"removed": len(surplus), "conflicting": conflicts, "snapshot": None},
        size=len(surplus),
        apply=apply,
        still_true=still_true,
    )


def _judge(
    repository: Repository, found: list[Duplicate], progress: Progress
) -> tuple[list[int], list[dict[str, Any]]]:
    """Ids of surplus rows, and the identities whose rows contradict each other."""
    surplus: list[int] = []
    conflicts: list[dict[str, Any]] = []
    for done, duplicate in enumerate(found, 1):
        rows = repository.fetch(duplicate.ids)
        first, *others = (rows[key] for key in duplicate.ids if key in rows)
        surplus += [key for key in duplicate.ids[1:] if key in rows and _same(first, rows[key])]
        if not all(_same(first, row) for row in others):
            conflicts.append({"task_identifier": str(duplicate.identity), "rows": duplicate.ids})
        progress(done)
    return surplus, conflicts


def _same(one: Row, other: Row) -> bool:
    return all(value == other[name] for name, value in one.items() if name not in NOT_COMPARED)


def _rows(repository: Repository, ids: list[int]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(ids), 500):
        yield from ({"row": row} for row in repository.fetch(ids[start : start + 500]).values())
