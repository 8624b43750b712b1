"""reset-group: move a group's position; its pending entries stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.operations.answer import ChangeAnswer, optional
from devicevault_cli.operations.changes.change import (
    Change,
    Progress,
    quietly,
    reason,
    says_refused,
    snapshot_refusal,
    stale,
)
from devicevault_cli.operations.entries.positions import RANGE_ENDS, parse_start
from devicevault_cli.operations.groups import snapshots
from devicevault_cli.operations.monitoring.liveness import liveness_of, not_known, refusal
from devicevault_cli.operations.replay.preview import ReplayPreview
from devicevault_cli.operations.wording import entries, some
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, EntryId, GroupInfo

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

NAMED = 5
"""Skipped entries whose ids the plan shows."""


@dataclass(frozen=True, slots=True)
class ResetAnswer(ChangeAnswer):
    """The answer of `reset-group`. `redelivered` = already_persisted + would_insert + rejected and skipped messages."""

    group: str
    from_: EntryId
    to: EntryId
    redelivered: int
    already_persisted: int
    would_insert: int
    would_reject: Mapping[str, int]
    would_dispatch: int
    skipped: int
    pending: int
    snapshot: str | None
    refused: str | None
    undo: str | None = optional()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetGroup(Change[ResetAnswer]):
    """Moves the group to `position`, after writing a snapshot."""

    group: Group
    info: GroupInfo
    position: EntryId
    progress: Progress

    def still_true(self) -> bool:
        """The script that moves the group checks once more."""
        return snapshots.as_planned(self.group, self.info)

    def apply(self) -> ResetAnswer:
        path = snapshots.write_snapshot(self.group, self.info, self.progress)
        if not self.group.move_as_planned(self.info, self.position, _entries_read(self.group, self.position)):
            path.unlink()
            raise stale()
        now = snapshots.existing_group(self.group)
        return replace(self.answer, to=now.last_delivered_id, snapshot=str(path), undo=snapshots.restore_command(path))


def plan_reset(
    group: Group,
    target: EntryId | None,
    pipeline: Pipeline,
    repository: Repository,
    *,
    force: bool = False,
    progress: Progress = quietly,
) -> ResetGroup:
    """Move the group so that the first entry delivered is the first with an id >= `target` (None: the next to arrive).

    Raises MissingGroup.
    """
    info = snapshots.existing_group(group)
    old = info.last_delivered_id
    end, generated = _end(group, old)
    position = end if target is None else target.previous()
    preview = _preview(group, position, old, pipeline, repository, progress)
    skipped, first_skipped = _skipped(group, old, position)
    liveness = liveness_of(group)
    refused = snapshot_refusal(None if force else refusal(liveness), position != old)
    answer = _answer(group, old, position, preview, skipped, refused)
    says = (*_says(answer, info.pending, generated, first_skipped), *not_known(liveness), *says_refused(refused))
    return ResetGroup(
        command=f"reset-group {group.name}", says=says, answer=answer, size=int(position != old), refusal=refused,
        group=group, info=info, position=position, progress=progress,
    )  # fmt: skip


def _answer(
    group: Group, old: EntryId, position: EntryId, preview: ReplayPreview, skipped: int, refused: DvctlError | None
) -> ResetAnswer:
    return ResetAnswer(
        group=group.name,
        from_=old,
        to=position,
        redelivered=preview.entries,
        already_persisted=preview.present,
        would_insert=preview.inserts,
        would_reject=preview.rejected,
        would_dispatch=0,
        skipped=skipped,
        pending=_count_pending(group, position, old),
        snapshot=None,
        refused=reason(refused),
    )


def _says(answer: ResetAnswer, pending: int, generated: EntryId, first_skipped: list[str]) -> Iterator[str]:
    yield f"{answer.group} would move from {answer.from_.shown} to {answer.to.shown}"
    if answer.redelivered:
        yield (
            f"{entries(answer.redelivered)} would be delivered again: {answer.already_persisted:,} have a row already, "
            f"{answer.would_insert:,} would be inserted, {sum(answer.would_reject.values()):,} rejected"
        )
        yield (
            f"{entries(answer.pending)} of these are pending: they move to the consumer that reads them, and their"
            " delivery count restarts"
        )
    if answer.skipped:
        names = some(first_skipped, total=answer.skipped)
        yield f"{entries(answer.skipped)} would be SKIPPED, never delivered: {names}"
    if answer.to > generated:
        yield f"{answer.to.shown} is beyond the end: entries that arrive below it would never be delivered"
    yield f"{entries(pending - answer.pending)} pending would stay as they are"


def _end(group: Group, old: EntryId) -> tuple[EntryId, EntryId]:
    """The position that has passed every entry that exists, and the last id that Redis gave out.

    The latter may lie far ahead (XSETID): a group there would miss what arrives once it is set back.
    """
    about = group.stream.info()
    if about is None:
        return ZERO, ZERO
    passed_all = about.last_id <= old <= about.last_generated_id
    return old if passed_all else about.last_id, about.last_generated_id


def _preview(
    group: Group, position: EntryId, old: EntryId, pipeline: Pipeline, repository: Repository, progress: Progress
) -> ReplayPreview:
    """What consuming the entries that are delivered again would do."""
    preview = ReplayPreview(pipeline, repository)
    if position < old:
        for page in group.stream.pages(position.next(), old):
            preview.add(page)
            progress(preview.entries)
    return preview


def _skipped(group: Group, old: EntryId, position: EntryId) -> tuple[int, list[str]]:
    """How many entries lie between the positions, and the ids of the first of them."""
    count = 0
    first: list[str] = []
    if old < position:
        for page in group.stream.pages(old.next(), position):
            first = first or [str(entry.id) for entry in page[:NAMED]]
            count += len(page)
    return count, first


def _count_pending(group: Group, position: EntryId, old: EntryId) -> int:
    """Pending entries that would be delivered again."""
    if position >= old:
        return 0
    return sum(len(page) for page in group.pending_pages(position.next(), old))


def _entries_read(group: Group, position: EntryId) -> int | None:
    """What is certain about entries-read at a position: nothing before 7.0 or where entries were removed."""
    about = group.stream.info()
    if about is None or about.entries_added is None:
        return None
    if not about.has_entries_after(position):
        return about.entries_added
    return 0 if position == ZERO and about.entries_added == about.length else None


def target(words: str, now_ms: int) -> EntryId | None:
    """What `--to` means: `start`, `end` (None: the next to arrive), an id, a time, `-DURATION`. Raises Usage."""
    if words in RANGE_ENDS:
        raise Usage(f"not a position: {words!r}", hint="write start or end")
    return None if words == "end" else parse_start(words, now_ms)
