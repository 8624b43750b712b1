"""db index: the unique index on task_identifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from devicevault_cli.operations.answer import Answer, ChangeAnswer, optional
from devicevault_cli.operations.changes.change import journalled
from devicevault_cli.operations.changes.journal import Journal
from devicevault_cli.operations.changes.undo import Undo
from devicevault_cli.plural import number
from devicevault_cli.repository.model import Duplicate
from devicevault_cli.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class IdentityRows(Answer):
    task_identifier: str
    rows: Sequence[int]


@dataclass(frozen=True, slots=True)
class IndexAnswer(ChangeAnswer):
    """The answer of `db index`. `index`: its name, once it was tried to create it."""

    created: bool
    index: str | None = optional()
    duplicates: tuple[IdentityRows, ...] = ()


class IndexPlan(NamedTuple):
    """What `db index` would do, in a sentence. `duplicates`: identities that prevent the index."""

    says: str
    needed: bool = True
    possible: bool = False
    duplicates: tuple[IdentityRows, ...] = ()


def index_plan(repository: Repository) -> IndexPlan:
    """Whether the index is needed, and whether it is possible."""
    repository.check(writing=False)
    name = repository.spec.index_name
    if repository.unique_index:
        return IndexPlan(f"{repository.spec.name} already has a unique index", needed=False, possible=True)
    if obstacle := repository.index_obstacle():
        return IndexPlan(obstacle)
    found = [duplicate for duplicate in repository.duplicates() if isinstance(duplicate.identity, str)]
    if found:
        says = f"{name} cannot be created: {number(len(found), 'identity has', 'identities have')} more than one row"
        return IndexPlan(says, duplicates=_identities(found))
    return IndexPlan(repository.index_effect, possible=True)


def index_undo(repository: Repository) -> Undo:
    """Dropping an index is left to the database: dvctl has no command for that."""
    prefix = "to undo this, in the database: "
    statement = repository.drop_index_statement
    return Undo(f"{prefix}{statement}", command=statement, prefix=prefix)


def create_index(repository: Repository, journal: Journal) -> IndexAnswer:
    """Create the unique index and journal that."""

    def create() -> IndexAnswer:
        done = repository.create_index()
        undo = repository.drop_index_statement if done.created else None
        found = _identities(done.duplicates)
        return IndexAnswer(done.created, index=done.name, duplicates=found, undo=undo, applied=True)

    plan = {"index": repository.spec.index_name, "table": repository.spec.name}
    return journalled(journal, "db index", plan, create)


def _identities(duplicates: Sequence[Duplicate]) -> tuple[IdentityRows, ...]:
    return tuple(IdentityRows(str(duplicate.identity), duplicate.ids) for duplicate in duplicates)
