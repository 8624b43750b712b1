"""destroy-group: delete a group after writing a snapshot of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from devicevault_cli.directories import why_no_snapshot
from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.answer import ChangeAnswer, optional
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.undo import by_snapshot
from devicevault_cli.operations.groups import snapshots
from devicevault_cli.operations.monitoring.liveness import liveness_of, not_known, refusal
from devicevault_cli.operations.wording import entries, some
from devicevault_cli.streams import marker, written_to
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import GroupInfo


@dataclass(frozen=True, slots=True)
class DestroyAnswer(ChangeAnswer):
    """The answer of `destroy-group`; `gone` only once it is deleted."""

    group: str
    pending_lost: int
    snapshot: str | None
    refused: DvctlError | None
    gone: bool | None = optional()


def plan_destroy(group: Group, *, force: bool = False, progress: Progress = quietly) -> Change[DestroyAnswer]:
    """Delete the group after writing a snapshot. Raises MissingGroup."""
    info = snapshots.existing_group(group)
    liveness = liveness_of(group)
    refused = (None if force else refusal(liveness)) or why_no_snapshot()
    answer = DestroyAnswer(group.name, info.pending, snapshot=None, refused=refused)

    def apply() -> DestroyAnswer:
        before = snapshots.Before("destroy-group")
        path = snapshots.write_before(lambda: group.destroy_as_planned(info), group, info, before, progress)
        with suppress(DvctlError):
            marker.forget(group)  # deleted on purpose, which is no incident
            written_to.forget(group)
        gone = group.info() is None
        return replace(answer, snapshot=str(path), gone=gone, undo=snapshots.restore_command(path))

    return Change(
        command=f"destroy-group {group.name}", says=(*_says(group, info), *not_known(liveness)),
        undo=by_snapshot(snapshots.RESTORES_ALL), answer=answer, size=1, apply=apply,
        still_true=lambda: snapshots.as_planned(group, info), refusal=refused, typed=group.name,
    )  # fmt: skip


def _says(group: Group, info: GroupInfo) -> Iterator[str]:
    yield f"the group {group.name} of {group.stream.key}, at {info.last_delivered_id.shown}, would be deleted"
    owners = [f"{name} ({count:,})" for name, count in group.summary().consumers.items()]
    yield f"{entries(info.pending)} pending would be lost" + (f", held by {some(owners)}" if owners else "")
    yield "a running or new consumer creates the group again at 0, and every entry is delivered again"
