"""restore-group: put a snapshot of a group, or of some of its pending entries, back."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.answer import ChangeAnswer, optional
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.undo import Undo, by_command
from devicevault_cli.operations.groups import snapshots
from devicevault_cli.operations.groups.snapshots import Snapshot, existing_group, read_snapshot
from devicevault_cli.operations.monitoring.liveness import liveness_of, refusal
from devicevault_cli.operations.wording import entries, some
from devicevault_cli.plural import number
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, GroupInfo, PendingEntry
from devicevault_cli.streams.snapshot import PendingState, PutBack, restore_group, restore_pending


@dataclass(frozen=True, slots=True)
class RestoreAnswer(ChangeAnswer):
    """The answer of `restore-group`. `unrestorable`: entries that were deleted from the stream since.

    `whole`: the snapshot is of a whole group.  `acknowledged`: number of entries that were acknowledged since and stay
    so; of a whole group none do.  `snapshot`: the state before this command.
    """

    stream: str
    group: str
    whole: bool
    restored: int
    unrestorable: tuple[EntryId, ...]
    acknowledged: int
    to: EntryId
    refused: DvctlError | None
    snapshot: str | None = optional()


class _Now(NamedTuple):
    """What is there of a snapshot. newly_pending: number of its entries that are on the stream, and not pending."""

    info: GroupInfo | None
    gone: tuple[EntryId, ...]
    newly_pending: int
    created: tuple[str, ...]


def plan_restore(
    group_at: Callable[[str, str], Group], path: Path, *, force: bool = False, progress: Progress = quietly
) -> Change[RestoreAnswer]:
    """Put a snapshot back, also onto an existing group: its other pending entries stay.

    `group_at` gives the group for the names of a stream and a group.  A snapshot of `claim` or `consumers retire` has
    no position: its entries go back to their owners unless they were acknowledged since. Raises MissingGroup then.
    Entries that were deleted since cannot be restored, nor can the idle times of consumers, which Redis does not let
    anyone set.  A running `dvctl consume` is no obstacle; another client that waits for messages is one, unless
    `force`.
    """
    stored = read_snapshot(path)
    state = stored.state
    group = group_at(state.stream, state.group)
    now = _look(group, stored, progress)
    refused = None if force or now.info is None else refusal(liveness_of(group), recent=False)
    acknowledged = 0 if _whole(stored) else now.newly_pending
    position = state.position or existing_group(group).last_delivered_id
    answer = RestoreAnswer(
        state.stream, state.group, _whole(stored), stored.pending - len(now.gone) - acknowledged, now.gone,
        acknowledged, position, refused,
    )  # fmt: skip
    undo, can_write = _undo(stored, now)

    def apply() -> RestoreAnswer:
        before = _write(group, stored, now, progress) if can_write else None
        done = _put_back(group, stored, answer, progress)
        return done if before is None else replace(done, snapshot=str(before), undo=snapshots.restore_command(before))

    return Change(
        command=f"restore-group {path}", says=tuple(_says(stored, now)), undo=undo, answer=answer, size=1, apply=apply,
        still_true=lambda: (group.info() is None) == (now.info is None), refusal=refused,
    )  # fmt: skip


def _whole(stored: Snapshot) -> bool:
    """Whether a snapshot is of a whole group, with its position."""
    return stored.state.position is not None


def _look(group: Group, stored: Snapshot, progress: Progress) -> _Now:
    """Compare the snapshot with the group. Raises MissingGroup where the snapshot does not say how to create it."""
    info = group.info() if _whole(stored) else existing_group(group)
    gone: list[EntryId] = []
    newly_pending = done = 0
    for page in stored.pending_pages():
        missing = set(group.stream.missing([held.id for held in page]))
        gone += sorted(missing)
        newly_pending += sum(1 for _ in _not_pending(group, page, missing)) if info is not None else 0
        done += len(page)
        progress(done)
    there = {consumer.name for consumer in group.consumers()} if info is not None else set()
    return _Now(info, tuple(gone), newly_pending, tuple(name for name in stored.state.consumers if name not in there))


def _not_pending(group: Group, page: list[PendingState], missing: Iterable[EntryId]) -> Iterator[EntryId]:
    pending = group.pending_ids(held.id for held in page)
    return (held.id for held in page if held.id not in pending and held.id not in missing)


def _undo(stored: Snapshot, now: _Now) -> tuple[Undo, bool]:
    """How the restoration is undone. -> and whether a snapshot can be written for that"""
    state = stored.state
    if now.info is None:
        names = shlex.quote(state.stream), shlex.quote(state.group)
        return by_command(f"dvctl destroy-group --stream {names[0]} --group {names[1]}"), False
    return snapshots.undo_by_snapshot("restore-group puts the present state back")


def _write(group: Group, stored: Snapshot, now: _Now, progress: Progress) -> Path:
    """Write what the restoration changes, as it is now: the whole group, or the entries and consumers in question."""
    if _whole(stored):
        newly_pending = (
            key
            for page in stored.pending_pages()
            for key in _not_pending(group, page, group.stream.missing([held.id for held in page]))
        )
        before = snapshots.Before("restore-group", now.created, newly_pending)
        return snapshots.write_snapshot(group, existing_group(group), before, progress)
    deleted = [consumer.name for consumer in group.consumers() if consumer.name in stored.created]
    before = snapshots.Before("restore-group", now.created)
    pages = (_held(group, page) for page in stored.pending_pages())
    return snapshots.write_entries(group, before, pages, deleted, progress).path


def _held(group: Group, page: list[PendingState]) -> list[PendingEntry]:
    return [*group.pending_ids(held.id for held in page).values()]


def _put_back(group: Group, stored: Snapshot, answer: RestoreAnswer, progress: Progress) -> RestoreAnswer:
    """Restore the snapshot, and take back what the change made that it was written before."""
    restore_group(group, stored.state)
    put = partial(restore_pending, group, acknowledged=_whole(stored))
    gone: list[EntryId] = []
    acknowledged = 0
    for found in _each_page(stored, put, progress):
        gone += found.gone
        acknowledged += len(found.acknowledged)
    for page in stored.newly_pending_pages():
        group.acknowledge(page)
    for name in stored.created:
        group.retire_if_empty(name)
    restored = stored.pending - len(gone) - acknowledged
    position = existing_group(group).last_delivered_id
    return replace(answer, restored=restored, unrestorable=tuple(gone), acknowledged=acknowledged, to=position)


def _each_page(
    stored: Snapshot, step: Callable[[list[PendingState]], PutBack], progress: Progress
) -> Iterator[PutBack]:
    done = 0
    for page in stored.pending_pages():
        yield step(page)
        done += len(page)
        progress(done)


def _says(stored: Snapshot, now: _Now) -> Iterator[str]:
    state = stored.state
    restored = stored.pending - len(now.gone)
    if state.position is None:
        held = entries(restored - now.newly_pending)
        yield f"{held} of {state.group} of {state.stream} would go back to their owners"
        if now.newly_pending:
            yield f"{entries(now.newly_pending)} acknowledged since would stay so"
        if now.created:
            yield f"{number(len(now.created), 'consumer')} would be created: {some([*now.created])}"
    else:
        how = "be created at" if now.info is None else f"move from {now.info.last_delivered_id.shown} to"
        consumers = number(len(state.consumers), "consumer")
        yield f"{state.group} of {state.stream} would {how} {state.position.shown}, with {consumers}"
        yield f"{entries(restored)} would be pending as they were"
        if now.info is not None and now.info.pending:
            yield f"{entries(now.info.pending)} pending now would stay, those of the snapshot with their former owners"
    if stored.newly_pending:
        yield f"{entries(stored.newly_pending)} that {stored.command} made pending would be acknowledged"
    if stored.created:
        created = f"{number(len(stored.created), 'consumer')} that {stored.command} created"
        yield f"{created} would be deleted, unless holding other entries: {some([*stored.created])}"
    if now.gone:
        gone = some([*map(str, now.gone)])
        yield f"{entries(len(now.gone))} cannot be restored, deleted from the stream since: {gone}"
    yield "the idle times of consumers cannot be restored"
