"""dvctl ack: acknowledge pending entries by hand, unprocessed, recorded as discarded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from devicevault_cli.messages import Decoded
from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.change import Change
from devicevault_cli.operations.changes.undo import Undo, impossible, one_by_one
from devicevault_cli.operations.entries.claim import MOVED
from devicevault_cli.operations.groups.snapshots import existing_group
from devicevault_cli.operations.look_up import look_up
from devicevault_cli.operations.named import named_pending
from devicevault_cli.operations.wording import chosen_number, entries
from devicevault_cli.paging import paged
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.streams import scripts
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

GONE = "no longer on the stream"
BRING_BACK = "to bring back what is on the stream: "
REPLAY = "to bring one back while its entry is on the stream: dvctl replay ID"
NO_COPY = impossible("the entries are no longer on the stream")
LISTED = 5
"""So many ids are named by the command that brings the entries back."""


@dataclass(frozen=True, slots=True)
class AckAnswer(ChangeAnswer):
    """The answer of `ack`. `given_up`: number of entries by what acknowledging them unprocessed means."""

    acked: Sequence[EntryId]
    unknown: Sequence[str | EntryId]
    selected: int
    given_up: Mapping[str, int]


def plan_ack(
    group: Group, ids: Sequence[EntryId], pipeline: Pipeline, repository: Repository | None, why: str = "ack by hand"
) -> Change[AckAnswer]:
    """Acknowledge entries by hand; without a repository the plan cannot say which have a row. Raises MissingGroup."""
    existing_group(group)
    pending: set[EntryId] = set()
    given_up: Counter[str] = Counter()
    for page in paged(ids, scripts.ENTRIES_PER_SCRIPT):
        here = group.pending_ids(page)
        pending.update(here)
        given_up += _given_up(group, list(here), pipeline, repository)
    named = named_pending(group, ids, [key for key in ids if key not in pending])
    planned = [key for key in ids if key in pending]
    answer = AckAnswer(planned, named.unknown, len(pending), given_up)

    def apply() -> AckAnswer:
        # An entry that was delivered since the plan was made stays pending: the plan did not say what it means.
        acked = [key for page in paged(planned, scripts.ENTRIES_PER_SCRIPT) for key in group.discard(page, why)]
        done = set(acked)
        return replace(
            answer,
            acked=acked,
            unknown=[key for key in ids if key not in done],
            undo=replay_command(group.stream, acked),
        )

    return Change(
        command="ack", says=tuple(_says(len(pending), given_up)), undo=_undo(len(pending), given_up),
        answer=answer, size=len(pending), named=named, apply=apply,
        still_true=partial(_all_pending, group, sorted(pending)),
        failure=lambda done: "" if done.acked else f"nothing was acknowledged: {MOVED}",
    )  # fmt: skip


def _all_pending(group: Group, ids: Sequence[EntryId]) -> bool:
    return all(len(group.pending_ids(page)) == len(page) for page in paged(ids, scripts.ENTRIES_PER_SCRIPT))


def _says(count: int, given_up: Counter[str]) -> Iterator[str]:
    yield f"{chosen_number(count, 'entry', 'entries')} would be acknowledged and recorded as discarded"
    for meaning, number in given_up.most_common():
        yield f"  {entries(number)}: {meaning}"


def _undo(count: int, given_up: Counter[str]) -> Undo:
    return one_by_one(REPLAY, BRING_BACK) if count > given_up[GONE] else NO_COPY


def replay_command(stream: Stream, ids: Sequence[EntryId]) -> str | None:
    """The command that brings these entries back; None where they are many, or none of them is on the stream."""
    if not ids or len(ids) > LISTED:
        return None
    gone = set(stream.missing(ids))
    there = " ".join(str(key) for key in ids if key not in gone)
    return f"dvctl replay {there}" if there else None


def _given_up(group: Group, ids: list[EntryId], pipeline: Pipeline, repository: Repository | None) -> Counter[str]:
    """Number of entries by what acknowledging them unprocessed means, in words."""
    found = group.stream.get(ids)
    meanings: Counter[str] = Counter()
    meanings.update({GONE: len(ids) - len(found)} if len(found) < len(ids) else {})
    if repository is None:
        meanings.update({"whether they have a row is unknown without a database": len(found)} if found else {})
        return meanings
    looked_up = look_up(found.values(), pipeline, repository)
    invalid = sum(not isinstance(decision, Decoded) for _, decision, _ in looked_up)
    meanings.update({"would be rejected or skipped": invalid} if invalid else {})
    for _, decision, rows in looked_up:
        if isinstance(decision, Decoded):
            if repository.row_to_replace(decision.record, rows):
                meanings["have the row of a failed store only: these successes would be lost"] += 1
            else:
                meanings["have a row already" if rows else "have NO row: these results would be lost"] += 1
    return meanings
