"""Moving, deleting and restoring a consumer group; each leaves what is needed to take it back."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.operations.changes.plan import Answer, Plan, Progress, entries, number, quietly, some, stale
from devicevault_cli.operations.entries.positions import RANGE_ENDS, parse_start
from devicevault_cli.operations.groups import snapshots
from devicevault_cli.operations.monitoring.liveness import liveness_of, not_known, refusal
from devicevault_cli.operations.replay.preview import Census
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import admin, marker
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, EntryId, GroupInfo
from devicevault_cli.streams.snapshot import missing, put_back, put_back_held

NAMED = 5
DISPATCHED = 0
"""dvctl hands nothing to storage; the number is part of the answer because a version that does will need it."""


def plan_reset(
    group: Group,
    target: EntryId | None,
    pipeline: Pipeline,
    repository: Repository,
    *,
    force: bool = False,
    progress: Progress = quietly,
) -> Plan:
    """Move the group so that the first entry delivered is the first with an id >= `target` (None: the next to arrive).

    Raises MissingGroup.
    """
    info = snapshots.existing_group(group)
    old = info.last_delivered_id
    end, generated = _end(group, old)
    position = end if target is None else target.previous()
    census = _redelivered(group, position, old, pipeline, repository, progress)
    skipped, named = _skipped(group, old, position)
    again = _count_pending(group, position, old)
    still_true = _unchanged(group, info)
    liveness = liveness_of(group)
    refused = None if force else refusal(liveness)

    def apply() -> Answer:
        path = snapshots.write_snapshot(group, info, progress)
        if not admin.move_group(group, info, position, _entries_read(group, position)):
            path.unlink()
            raise stale()
        now = snapshots.existing_group(group)
        return {"to": str(now.last_delivered_id), "snapshot": str(path), "undo": undo(path)}

    says = [f"{group.name} would move from {old.shown} to {position.shown}"]
    if census.entries:
        says += [
            f"{entries(census.entries)} would be delivered again: {census.present:,} have their row already, "
            f"{census.inserts:,} would be inserted, {census.rejected.total():,} rejected",
            f"{entries(again)} of these are pending: they move to whoever reads them, their delivery count restarts",
        ]
    if skipped:
        says.append(f"{entries(skipped)} would be SKIPPED, never delivered: {some(named, total=skipped)}")
    if position > generated:
        says.append(f"{position.shown} is beyond the end: what arrives below it would never be delivered")
    says.append(f"{entries(info.pending - again)} pending would stay as they are")
    says += [*not_known(liveness), *_refused(refused)]
    return Plan(
        command=f"reset-group {group.name}",
        says=tuple(says),
        answer={
            "group": group.name,
            "from": str(old),
            "to": str(position),
            "redelivered": census.entries,
            "already_persisted": census.present,
            "would_insert": census.inserts,
            "would_reject": dict(census.rejected),
            "would_dispatch": DISPATCHED,
            "skipped": skipped,
            "pending": again,
            "snapshot": None,
            "refused": str(refused) if refused else None,
        },
        size=int(position != old),
        apply=apply,
        still_true=still_true,
        refusal=refused,
        snapshot=True,
    )


def _end(group: Group, old: EntryId) -> tuple[EntryId, EntryId]:
    """The position that has passed every entry that exists, and the last id that Redis gave out.

    The latter may lie far ahead (XSETID): a group there would miss what arrives once it is set back.
    """
    about = group.stream.info()
    if about is None:
        return ZERO, ZERO
    passed_all = about.last_id <= old <= about.last_generated_id
    return old if passed_all else about.last_id, about.last_generated_id


def _redelivered(
    group: Group, position: EntryId, old: EntryId, pipeline: Pipeline, repository: Repository, progress: Progress
) -> Census:
    census = Census()
    if position < old:
        for page in group.stream.pages(position.next(), old):
            census.add(page, pipeline, repository)
            progress(census.entries)
    return census


def _skipped(group: Group, old: EntryId, position: EntryId) -> tuple[int, list[str]]:
    """How many entries lie between, and the first of them."""
    count = 0
    named: list[str] = []
    if old < position:
        for page in group.stream.pages(old.next(), position):
            named = named or [str(entry.id) for entry in page[:NAMED]]
            count += len(page)
    return count, named


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


def plan_destroy(group: Group, *, force: bool = False, progress: Progress = quietly) -> Plan:
    """Delete the group after writing a snapshot. Raises MissingGroup."""
    info = snapshots.existing_group(group)
    liveness = liveness_of(group)
    refused = None if force else refusal(liveness)

    def apply() -> Answer:
        path = snapshots.write_snapshot(group, info, progress)
        if not admin.destroy_group(group, info):
            path.unlink()
            raise stale()
        with suppress(DvctlError):
            marker.forget(group)  # deleted on purpose, which is no incident
        return {"snapshot": str(path), "gone": group.info() is None, "undo": undo(path)}

    owners = group.summary().consumers
    return Plan(
        command=f"destroy-group {group.name}",
        says=(
            f"the group {group.name} of {group.stream.key}, at {info.last_delivered_id.shown}, would be deleted",
            f"{entries(info.pending)} pending would be forgotten"
            + (f", held by {some([f'{name} ({held:,})' for name, held in owners.items()])}" if owners else ""),
            "a consumer that runs, or starts, creates it again at 0: then every entry comes again",
            "a snapshot is written first; restore-group puts all of this back",
            *not_known(liveness),
            *_refused(refused),
        ),
        answer={
            "group": group.name,
            "pending_lost": info.pending,
            "snapshot": None,
            "refused": str(refused) if refused else None,
        },
        size=1,
        apply=apply,
        still_true=_unchanged(group, info),
        refusal=refused,
        typed=group.name,
        snapshot=True,
    )


def plan_restore(
    group_at: Callable[[str, str], Group], path: Path, *, force: bool = False, progress: Progress = quietly
) -> Plan:
    """Put a snapshot back, also onto a group that is there again: its other pending entries stay.

    `group_at` gives the group for the names of a stream and a group.  Entries that were deleted since cannot come back;
    nor can the idle times of consumers, which Redis keeps to itself.  A running `dvctl consume` is no obstacle; another
    client that waits for messages is one, unless `force`.
    """
    snapshot = snapshots.read_snapshot(path)
    state = snapshot.state
    group = group_at(state.stream, state.group)
    there = group.info()
    lost = _missing(group, snapshot, progress)
    says = [
        f"{state.group} of {state.stream} would "
        + ("be created at" if there is None else f"move from {there.last_delivered_id.shown} to")
        + f" {state.position.shown}, with {number(len(state.consumers), 'consumer')}",
        f"{entries(snapshot.pending - len(lost))} would be pending as they were",
    ]
    if there is not None and there.pending:
        says.append(f"{entries(there.pending)} pending now would stay, those of the snapshot with their former owners")
    if lost:
        says.append(f"{entries(len(lost))} cannot come back, deleted from the stream since: {some(lost)}")
    says.append("the idle times of consumers cannot come back")
    refused = None if force or there is None else refusal(liveness_of(group), recent=False)
    says += _refused(refused)

    def still_true() -> bool:
        return (group.info() is None) == (there is None)

    def apply() -> Answer:
        put_back(group, state)
        gone: list[str] = []
        done = 0
        for page in snapshot.held_pages():
            gone += map(str, put_back_held(group, page))
            done += len(page)
            progress(done)
        now = snapshots.existing_group(group)
        return {"restored": done - len(gone), "unrestorable": gone, "to": str(now.last_delivered_id)}

    return Plan(
        command=f"restore-group {path}",
        says=tuple(says),
        answer={
            "group": state.group,
            "restored": snapshot.pending - len(lost),
            "unrestorable": lost,
            "to": str(state.position),
            "refused": str(refused) if refused else None,
        },
        size=1,
        apply=apply,
        still_true=still_true,
        refusal=refused,
    )


def _missing(group: Group, snapshot: snapshots.Snapshot, progress: Progress) -> list[str]:
    lost: list[str] = []
    done = 0
    for page in snapshot.held_pages():
        lost += map(str, missing(group.stream, [each.id for each in page]))
        done += len(page)
        progress(done)
    return lost


def undo(path: Path) -> str:
    """The command that takes a change of a group back."""
    return f"dvctl restore-group {shlex.quote(str(path))}"


def _refused(refusal: DvctlError | None) -> list[str]:
    """A dry run is not refused; it says what would be."""
    return [f"this would be REFUSED: {refusal}; {refusal.hint}"] if refusal else []


def _unchanged(group: Group, planned: GroupInfo) -> Callable[[], bool]:
    """Whether position and pending list are as planned; the script that applies the plan asks once more."""

    def look() -> bool:
        now = snapshots.existing_group(group)
        return (now.last_delivered_id, now.pending) == (planned.last_delivered_id, planned.pending)

    return look


def target(words: str, now_ms: int) -> EntryId | None:
    """What `--to` means: `start`, `end` (None: the next to arrive), an id, a time, `-DURATION`. Raises Usage."""
    if words in RANGE_ENDS:
        raise Usage(f"not a position: {words!r}", hint="write start or end")
    return None if words == "end" else parse_start(words, now_ms)
