"""snapshots prune: delete old files that undo changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from devicevault_cli.directories import snapshot_directory
from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.change import Change
from devicevault_cli.operations.changes.undo import impossible
from devicevault_cli.operations.snapshots.list import files_in
from devicevault_cli.operations.wording import some
from devicevault_cli.plural import number
from devicevault_cli.times import iso

UNDO = impossible("the changes in question cannot be undone afterwards", "copy the files elsewhere")


@dataclass(frozen=True, slots=True)
class PruneAnswer(ChangeAnswer):
    """The answer of `snapshots prune`: the files."""

    deleted: Sequence[str]
    kept: int


def plan_prune(before_ms: int) -> Change[PruneAnswer]:
    """Delete the files that were written before a time. Raises NoStateDirectory, DvctlError."""
    files = files_in(snapshot_directory())
    old = [file for file in files if file.stat().st_mtime_ns // 1_000_000 < before_ms]
    answer = PruneAnswer([str(file) for file in old], len(files) - len(old))
    return Change(
        command="snapshots prune", says=tuple(_says(old, before_ms)), undo=UNDO, answer=answer, size=len(old),
        apply=lambda: replace(answer, deleted=_delete(old)),
    )  # fmt: skip


def _delete(files: Sequence[Path]) -> list[str]:
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise DvctlError(f"{file} cannot be deleted: {error.strerror}") from error
    return [str(file) for file in files]


def _says(old: Sequence[Path], before_ms: int) -> Iterator[str]:
    nothing = "" if old else "nothing matched: "
    yield f"{nothing}{number(len(old), 'snapshot')} from before {iso(before_ms)} would be deleted"
    if old:
        yield f"  {some([file.name for file in old])}"
