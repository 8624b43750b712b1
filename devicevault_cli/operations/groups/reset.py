"""reset-group: move a group's position; its pending entries stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from devicevault_cli.directories import why_no_snapshot
from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.undo import by_snapshot
from devicevault_cli.operations.entries.positions import RANGE_ENDS, parse_start
from devicevault_cli.operations.groups import snapshots
from devicevault_cli.operations.monitoring.liveness import liveness_of, not_known, refusal
from devicevault_cli.operations.replay.preview import ReplayPreview
from devicevault_cli.operations.wording import entries, some
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.plural import number
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, EntryId, GroupInfo

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
    refused: DvctlError | None


def plan_reset(
    group: Group,
    target: EntryId | None,
    pipeline: Pipeline,
    repository: Repository,
    *,
    force: bool = False,
    dispatches: bool = False,
    progress: Progress = quietly,
) -> Change[ResetAnswer]:
    """Move the group so that the first entry delivered is the first with an id >= `target` (None: the next to arrive).

    dispatches: storage dispatch is on, so that the consumer hands over the configurations of what it inserts.
    Raises MissingGroup.
    """
    info = snapshots.existing_group(group)
    old = info.last_delivered_id
    end, generated = _end(group, old)
    position = end if target is None else target.previous()
    preview = ReplayPreview(pipeline, repository, dispatches)
    if position < old:
        preview.add_entries(group.stream.pages(position.next(), old), progress)
    skipped, first_skipped = _skipped(group, old, position)
    liveness = liveness_of(group)
    refused = (None if force else refusal(liveness)) or (why_no_snapshot() if position != old else None)
    answer = _answer(group, old, position, preview, skipped, refused)
    return Change(
        command=f"reset-group {group.name}",
        says=(*_says(answer, info.pending, generated, first_skipped), *_replaced(preview), *not_known(liveness)),
        undo=by_snapshot(snapshots.RESTORES_ALL), answer=answer, size=int(position != old),
        apply=partial(_move, group, info, answer, progress),
        still_true=lambda: snapshots.as_planned(group, info), refusal=refused,
    )  # fmt: skip


def _move(group: Group, info: GroupInfo, answer: ResetAnswer, progress: Progress) -> ResetAnswer:
    def move() -> bool:
        return group.move_as_planned(info, answer.to, _entries_read(group, answer.to))

    path = snapshots.write_before(move, group, info, snapshots.Before("reset-group"), progress)
    now = snapshots.existing_group(group)
    return replace(answer, to=now.last_delivered_id, snapshot=str(path), undo=snapshots.restore_command(path))


def _answer(
    group: Group, old: EntryId, position: EntryId, preview: ReplayPreview, skipped: int, refused: DvctlError | None
) -> ResetAnswer:
    again = group.pending_pages(position.next(), old) if position < old else ()
    return ResetAnswer(
        group=group.name, from_=old, to=position, redelivered=preview.entries,
        already_persisted=preview.present + preview.replaces, would_insert=preview.inserts,
        would_reject=preview.rejected, would_dispatch=preview.would_dispatch, skipped=skipped,
        pending=sum(map(len, again)), snapshot=None, refused=refused,
    )  # fmt: skip


def _says(answer: ResetAnswer, pending: int, generated: EntryId, first_skipped: list[str]) -> Iterator[str]:
    yield f"{answer.group} would move from {answer.from_.shown} to {answer.to.shown}"
    if answer.redelivered:
        yield (
            f"{entries(answer.redelivered)} would be delivered again: {answer.already_persisted:,} have a row already, "
            f"{answer.would_insert:,} would be inserted, {sum(answer.would_reject.values()):,} rejected"
        )
        if answer.would_dispatch:
            yield f"{number(answer.would_dispatch, 'configuration')} of these would be handed to the storage workers"
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


def _replaced(preview: ReplayPreview) -> Iterator[str]:
    if preview.replaces:
        yield f"  of those with a row, {preview.replaces:,} would replace the row of a failed store"


def _end(group: Group, old: EntryId) -> tuple[EntryId, EntryId]:
    """The position that has passed every entry that exists, and the last id that Redis gave out.

    The latter may lie far ahead (XSETID): a group there would miss what arrives once it is set back.
    """
    about = group.stream.info()
    if about is None:
        return ZERO, ZERO
    passed_all = about.last_id <= old <= about.last_generated_id
    return old if passed_all else about.last_id, about.last_generated_id


def _skipped(group: Group, old: EntryId, position: EntryId) -> tuple[int, list[str]]:
    """How many entries lie between the positions, and the ids of the first of them."""
    count = 0
    first: list[str] = []
    if old < position:
        for page in group.stream.pages(old.next(), position):
            first = first or [str(entry.id) for entry in page[:NAMED]]
            count += len(page)
    return count, first


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
