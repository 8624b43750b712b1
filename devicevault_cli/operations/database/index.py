"""What dvctl offers for the database: the unique index, and tables for a trial."""

from __future__ import annotations

from typing import Any

from devicevault_cli.operations.changes import journal
from devicevault_cli.repository.repository import Duplicate, Repository


def index_plan(repository: Repository) -> dict[str, Any]:
    """What `db index` would do: `needed`, `possible`, the duplicates in its way, and a sentence."""
    repository.check(writing=False)
    name = repository.spec.index_name
    if repository.unique_index:
        plan = f"a unique index stands on {repository.spec.name} already"
        return {"needed": False, "possible": True, "duplicates": [], "plan": plan}
    if repository.dialect == "mysql":
        plan = "no unique index is possible on MySQL or MariaDB, and none is needed"
        return {"needed": True, "possible": False, "duplicates": [], "plan": plan}
    if obstacle := repository.index_obstacle():
        return {"needed": True, "possible": False, "duplicates": [], "plan": obstacle}
    found = [each for each in repository.duplicates() if isinstance(each.identity, str)]
    if found:
        return {
            "needed": True,
            "possible": False,
            "duplicates": _shown(found),
            "plan": f"{name} cannot be created: {len(found)} identities stand more than once",
        }
    return {"needed": True, "possible": True, "duplicates": [], "plan": f"creates the unique index {name}"}


def create_index(repository: Repository) -> dict[str, Any]:
    """The answer of `db index -o json`."""
    with journal.opened() as opened:
        done = repository.create_index()
        answer = {"created": done.created, "index": done.name, "duplicates": _shown(done.duplicates)}
        opened.record("db index", {"index": repository.spec.index_name, "table": repository.spec.name}, answer)
    return answer


def init_tables(repository: Repository, devices: int) -> dict[str, Any]:
    """The answer of `db init -o json`."""
    repository.create_tables()
    if devices:
        repository.add_devices(devices)
    return {"tables": 4, "devices": devices}


def _shown(found: list[Duplicate]) -> list[dict[str, Any]]:
    return [{"task_identifier": str(each.identity), "rows": each.ids} for each in found]
