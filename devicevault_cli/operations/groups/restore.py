"""restore-group: put a snapshot of a group back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.groups.snapshots import Snapshot, existing_group, read_snapshot
from devicevault_cli.operations.monitoring.liveness import liveness_of, refusal
from devicevault_cli.operations.wording import entries, some
from devicevault_cli.plural import number
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, GroupInfo
from devicevault_cli.streams.snapshot import PendingState, restore_group, restore_pending


@dataclass(frozen=True, slots=True)
class RestoreAnswer(ChangeAnswer):
    """The answer of `restore-group`. `unrestorable`: entries that were deleted from the stream since."""

    group: str
    restored: int
    unrestorable: tuple[EntryId, ...]
    to: EntryId
    refused: DvctlError | None


def plan_restore(
    group_at: Callable[[str, str], Group], path: Path, *, force: bool = False, progress: Progress = quietly
) -> Change[RestoreAnswer]:
    """Put a snapshot back, also onto an existing group: its other pending entries stay.

    `group_at` gives the group for the names of a stream and a group.  Entries that were deleted since cannot be
    restored, nor can the idle times of consumers, which Redis does not let anyone set.  A running `dvctl consume` is no
    obstacle; another client that waits for messages is one, unless `force`.
    """
    stored = read_snapshot(path)
    state = stored.state
    group = group_at(state.stream, state.group)
    info = group.info()
    lost = tuple(_each_page(stored, lambda page: group.stream.missing([held.id for held in page]), progress))
    refused = None if force or info is None else refusal(liveness_of(group), recent=False)
    answer = RestoreAnswer(state.group, stored.pending - len(lost), lost, state.position, refused)

    def apply() -> RestoreAnswer:
        restore_group(group, state)
        gone = tuple(_each_page(stored, lambda page: restore_pending(group, page), progress))
        position = existing_group(group).last_delivered_id
        return replace(answer, restored=stored.pending - len(gone), unrestorable=gone, to=position)

    return Change(
        command=f"restore-group {path}", says=tuple(_says(stored, info, lost)), answer=answer, size=1, apply=apply,
        still_true=lambda: (group.info() is None) == (info is None), refusal=refused,
    )  # fmt: skip


def _says(stored: Snapshot, info: GroupInfo | None, lost: tuple[EntryId, ...]) -> Iterator[str]:
    state = stored.state
    how = "be created at" if info is None else f"move from {info.last_delivered_id.shown} to"
    consumers = number(len(state.consumers), "consumer")
    yield f"{state.group} of {state.stream} would {how} {state.position.shown}, with {consumers}"
    yield f"{entries(stored.pending - len(lost))} would be pending as they were"
    if info is not None and info.pending:
        yield f"{entries(info.pending)} pending now would stay, those of the snapshot with their former owners"
    if lost:
        yield f"{entries(len(lost))} cannot be restored, deleted from the stream since: {some([*map(str, lost)])}"
    yield "the idle times of consumers cannot be restored"
    if info is None:
        yield f"to undo this: dvctl destroy-group --stream {state.stream} --group {state.group}"
    else:
        yield "this cannot be undone: no snapshot of the present state is written"


def _each_page(
    stored: Snapshot, step: Callable[[list[PendingState]], Iterable[EntryId]], progress: Progress
) -> Iterator[EntryId]:
    """What a step finds gone from the stream, over all pending entries of a snapshot."""
    done = 0
    for page in stored.pending_pages():
        yield from step(page)
        done += len(page)
        progress(done)
