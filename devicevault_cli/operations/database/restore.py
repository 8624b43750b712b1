"""db restore: put the rows back that db dedupe removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from devicevault_cli.errors import DvctlError, RecordRejected, Usage
from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.undo import by_command
from devicevault_cli.operations.database.removed_rows import RemovedRows, read
from devicevault_cli.plural import number
from devicevault_cli.repository.repository import Repository

UNDO = by_command("dvctl db dedupe")


@dataclass(frozen=True, slots=True)
class RestoreRowsAnswer(ChangeAnswer):
    """The answer of `db restore`. `renumbered`: restored with a new id, since theirs is taken by another row.

    `present`: rows that are in the table already, equal and with their ids.
    """

    table: str
    restored: int
    renumbered: int
    present: int
    refused: DvctlError | None


def plan_restore_rows(repository: Repository, path: Path, progress: Progress = quietly) -> Change[RestoreRowsAnswer]:
    """Put rows back with their ids where these are free. Raises Damaged, and Usage for a file of another table.

    Refused while the unique index exists and one of the rows has an identifier: its other row is in the table.
    """
    stored = read(path)
    if stored.spec != repository.spec:
        pipeline = "storage" if repository.spec.name.startswith("devices") else "results"
        hint = f"add --pipeline {pipeline}"
        raise Usage(f"{path} has rows of {stored.spec.name}, not of {repository.spec.name}", hint=hint)
    counts = _count(repository, stored, progress)
    refused = _refusal(repository) if stored.named and counts["restored"] else None
    answer = RestoreRowsAnswer(
        repository.spec.name, counts["restored"], counts["renumbered"], counts["present"], refused
    )

    def apply() -> RestoreRowsAnswer:
        kept = renumbered = present = 0
        for page in stored.pages():
            try:
                done = repository.put_back(page)
            except RecordRejected as error:
                raise _rejected(error, page[0]["id"], kept + renumbered) from None
            kept, renumbered, present = kept + done.kept, renumbered + done.renumbered, present + done.present
            progress(kept + renumbered + present)
        return replace(answer, restored=kept + renumbered, renumbered=renumbered, present=present)

    return Change(
        command="db restore", says=tuple(_says(answer)), undo=UNDO, answer=answer, size=answer.restored, apply=apply,
        refusal=refused,
    )  # fmt: skip


def _count(repository: Repository, stored: RemovedRows, progress: Progress) -> Counter[str]:
    counts: Counter[str] = Counter()
    for page in stored.pages():
        there = repository.fetch(int(row["id"] or 0) for row in page)
        for row in page:
            taken = there.get(int(row["id"] or 0))
            counts["present" if taken == row else "restored"] += 1
            counts["renumbered"] += taken not in (None, row)
        progress(counts["present"] + counts["restored"])
    return counts


def _refusal(repository: Repository) -> DvctlError | None:
    if not repository.unique_index:
        return None
    name = repository.spec.index_name
    return DvctlError(f"the unique index {name} refuses duplicate rows", hint="drop the index first")


def _rejected(error: RecordRejected, first: object, restored: int) -> DvctlError:
    hint = "repair the table, for example a device that was deleted, and run the command again to continue"
    return DvctlError(
        f"the database refuses one of the rows from id {first} on: {error.detail}; {restored:,} restored", hint=hint
    )


def _says(answer: RestoreRowsAnswer) -> Iterator[str]:
    yield f"{number(answer.restored, 'row')} would be put back into {answer.table}"
    if answer.renumbered:
        yield f"{answer.renumbered:,} of them with a new id, since theirs is taken by another row"
    if answer.present:
        yield f"{number(answer.present, 'row')} are there already"
