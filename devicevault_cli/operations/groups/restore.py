"""restore-group: put a snapshot of a group back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly, reason, says_refused
from devicevault_cli.operations.groups.snapshots import Snapshot, existing_group, read_snapshot
from devicevault_cli.operations.monitoring.liveness import liveness_of, refusal
from devicevault_cli.operations.wording import entries, some
from devicevault_cli.plural import number
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, GroupInfo
from devicevault_cli.streams.snapshot import restore_group, restore_pending


@dataclass(frozen=True, slots=True)
class RestoreAnswer(ChangeAnswer):
    """The answer of `restore-group`. `unrestorable`: entries that were deleted from the stream since."""

    group: str
    restored: int
    unrestorable: tuple[EntryId, ...]
    to: EntryId
    refused: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreGroup(Change[RestoreAnswer]):
    """Creates or moves the group, then makes the entries of the snapshot pending as they were."""

    group: Group
    info: GroupInfo | None
    stored: Snapshot
    progress: Progress

    def still_true(self) -> bool:
        """Whether the group still exists, or still does not."""
        return (self.group.info() is None) == (self.info is None)

    def apply(self) -> RestoreAnswer:
        restore_group(self.group, self.stored.state)
        gone: list[EntryId] = []
        done = 0
        for page in self.stored.pending_pages():
            gone += restore_pending(self.group, page)
            done += len(page)
            self.progress(done)
        position = existing_group(self.group).last_delivered_id
        return replace(self.answer, restored=done - len(gone), unrestorable=tuple(gone), to=position)


def plan_restore(
    group_at: Callable[[str, str], Group], path: Path, *, force: bool = False, progress: Progress = quietly
) -> RestoreGroup:
    """Put a snapshot back, also onto an existing group: its other pending entries stay.

    `group_at` gives the group for the names of a stream and a group.  Entries that were deleted since cannot be
    restored, nor can the idle times of consumers, which Redis does not let anyone set.  A running `dvctl consume` is no
    obstacle; another client that waits for messages is one, unless `force`.
    """
    stored = read_snapshot(path)
    state = stored.state
    group = group_at(state.stream, state.group)
    info = group.info()
    lost = tuple(_missing(group, stored, progress))
    refused = None if force or info is None else refusal(liveness_of(group), recent=False)
    answer = RestoreAnswer(state.group, stored.pending - len(lost), lost, state.position, reason(refused))
    return RestoreGroup(
        command=f"restore-group {path}", says=(*_says(stored, info, lost), *says_refused(refused)), answer=answer,
        size=1, refusal=refused, group=group, info=info, stored=stored, progress=progress,
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


def _missing(group: Group, stored: Snapshot, progress: Progress) -> Iterator[EntryId]:
    done = 0
    for page in stored.pending_pages():
        yield from group.stream.missing([held.id for held in page])
        done += len(page)
        progress(done)
