"""dvctl trim: remove old entries that no group and not the table needs any more."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devicevault_cli.broker.store_task import BACKENDS
from devicevault_cli.errors import Refused, Usage
from devicevault_cli.nearest import quoted, suggestion
from devicevault_cli.operations.answer import ChangeAnswer, optional
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.undo import Undo, by_command, impossible
from devicevault_cli.operations.entries.export import export_entries
from devicevault_cli.operations.entries.trim_floor import Block, Needs, fail_over_blocks, find_floor, group_blocks
from devicevault_cli.operations.wording import entries
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.model import ZERO, EntryId, StreamInfo
from devicevault_cli.streams.stream import Stream


@dataclass(frozen=True, slots=True)
class TrimAnswer(ChangeAnswer):
    """The answer of `trim`. `first_id`: of the trimmed stream, None if it is empty; a key only once it was trimmed.

    `exported`, `file`: what `--export` wrote before.
    """

    floor: EntryId
    would_remove: int
    removed: int
    blocked_by: Sequence[Block]
    first_id: EntryId | None = None
    exported: int | None = optional()
    file: str | None = optional()
    trimmed: bool = field(default=False, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        facts = ChangeAnswer.to_dict(self)
        if not facts.pop("trimmed"):
            del facts["first_id"]
        return facts


@dataclass(frozen=True, slots=True)
class Keep:
    """What is always kept: entries from an id on, and so many of the newest.

    export: the file that keeps what is removed, whole entries; nothing is removed where it cannot be written.
    """

    since: EntryId | None = None
    newest: int | None = None
    export: Path | None = None


def plan_trim(
    stream: Stream,
    letters: DeadLetters,
    pipeline: Pipeline,
    repository: Repository,
    keep: Keep,
    ignored: Sequence[str] = (),
    progress: Progress = quietly,
    *,
    dispatches: bool = False,
) -> Change[TrimAnswer]:
    """Remove the entries below the floor, which is computed from all groups and the table.

    dispatches: storage dispatch is on, so that the stream keeps what has no stored backup yet. Raises Usage where the
    file of the export exists.
    """
    export = keep.export
    if export is not None and export.exists():
        raise Usage(f"--export: {export} exists already", hint="choose another name, or remove it")
    info = stream.info()
    needed_again = fail_over_blocks(stream, ignored) if repository.may_fail_over() else []
    blocks = [*group_blocks(stream, ignored), *needed_again]
    limit = _limit(info, blocks, keep)
    spare = max(0, info.length - keep.newest) if info and keep.newest is not None else None
    needs = Needs(stream.key, pipeline, repository, letters.ids() | letters.discarded_ids(), dispatches)
    floor, would_remove, needed = find_floor(stream, limit, spare, needs, progress)
    answer = TrimAnswer(floor, would_remove, 0, [*needed, *blocks])
    unchecked = pipeline.dispatches and not dispatches and _may_be_stored(repository)

    def apply() -> TrimAnswer:
        exported = _export(stream, floor, export, progress) if export else None
        removed = stream.trim(floor)
        now = stream.info()
        return replace(
            answer, removed=removed, first_id=now.first_id if now else None, trimmed=True, exported=exported,
            file=None if export is None else str(export),
        )  # fmt: skip

    return Change(
        command=f"trim {stream.key}", answer=answer, size=would_remove, apply=apply, undo=_undo(export),
        says=tuple(_says(stream, info, answer, keep, ignored, unchecked=unchecked)),
        # A group whose position was moved back needs an entry below the floor.
        still_true=lambda: all(block.id >= floor for block in group_blocks(stream, ignored)),
    )  # fmt: skip


def _limit(info: StreamInfo | None, blocks: Sequence[Block], keep: Keep) -> EntryId:
    """The id up to which the groups and `keep` allow trimming."""
    end = info.last_id.next() if info and info.length else ZERO
    return min([end, *(block.id for block in blocks), *([] if keep.since is None else [keep.since])])


def _may_be_stored(repository: Repository) -> bool:
    """Whether any device has a location that a storage worker serves; also where the tables must not be read."""
    try:
        return repository.storage.any_device_at(BACKENDS)
    except Refused:
        return True


def _export(stream: Stream, floor: EntryId, file: Path, progress: Progress) -> int:
    """Write the entries below the floor to a new file, whole. -> their number. Raises DvctlError and Usage."""
    return export_entries(file, stream.pages(ZERO, floor.previous()), reveal=True, progress=progress).exported


def _undo(export: Path | None) -> Undo:
    """Copies of exported entries go to the end of the stream, where a group finds that they have their rows."""
    if export is None:
        return impossible(first="add --export FILE")
    return by_command(f"dvctl publish --file {shlex.quote(str(export))}", "to put copies back on the stream: ")


def _says(
    stream: Stream,
    info: StreamInfo | None,
    answer: TrimAnswer,
    keep: Keep,
    ignored: Sequence[str],
    *,
    unchecked: bool,
) -> Iterator[str]:
    length = info.length if info else 0
    yield f"{entries(answer.would_remove)} of {length:,} on {stream.key} would be removed, those before {answer.floor}"
    if answer.would_remove and (keep.since, keep.newest) == (None, None):
        yield "neither --keep nor --max-length is given: every entry that nothing blocks would be removed"
    if answer.would_remove and keep.export is not None:
        yield f"{keep.export} gets a copy of these entries first, with device_config, which may hold secrets"
    if unchecked:
        yield "storage dispatch is off: the plan does not check whether configurations have a stored backup"
    groups = [info.name for info in stream.groups()]
    for name in ignored:
        if name not in groups:
            yield f"--ignore-group: {stream.key} has no group {quoted(name)}; {suggestion(name, groups, 'groups')}"
    for block in answer.blocked_by:
        yield from block.says()
