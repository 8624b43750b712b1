"""dvctl show: entries with every field, their states, and what consuming them would do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicevault_cli.errors import MissingGroup
from devicevault_cli.messages import Decision, Decoded, Rejected
from devicevault_cli.operations.answer import Answer, optional
from devicevault_cli.operations.entries.fields import shown_fields
from devicevault_cli.operations.look_up import look_up
from devicevault_cli.operations.save import UNENCODABLE
from devicevault_cli.operations.verify.classes import GroupState
from devicevault_cli.pipelines import Pipeline, original_id
from devicevault_cli.repository.model import Existing
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import Entry, EntryId
from devicevault_cli.times import iso_micros


@dataclass(frozen=True, slots=True)
class Held(Answer):
    """`pending` of an entry: the consumer that holds it."""

    consumer: str
    idle_ms: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class ShownEntry(Answer):
    """An element of `entries[]`. `state`: a class of `verify`, or `gone`; `pending` is a key only of pending entries.

    `would`: what consuming would do, `insert`, `duplicate`, `replace: row ID (STATUS)` for a success whose row is that
    of a failed store, `skip` or `reject: REASON (DETAIL)`; of an entry that does not exist, a sentence.
    """

    id: EntryId
    time: str
    fields: Mapping[str, str | list[str]]
    row: Mapping[str, Any] | None
    state: str
    would: str
    pending: Held | None = optional()


@dataclass(frozen=True, slots=True)
class ShowAnswer(Answer):
    """The answer of `show`. `unknown`: ids that are neither on the stream, pending, dead nor discarded."""

    entries: Sequence[ShownEntry]
    unknown: Sequence[EntryId]


def show(
    ids: Iterable[EntryId],
    group: Group,
    letters: DeadLetters,
    pipeline: Pipeline,
    repository: Repository,
    *,
    reveal: bool = False,
) -> ShowAnswer:
    """The entries with these ids, in the order given."""
    wanted = list(ids)
    repository.check(writing=False)
    entries = group.stream.get(wanted)
    try:
        held = group.pending_ids(wanted)
    except MissingGroup:
        held = {}
    info = group.info()
    position = info.last_delivered_id if info else None
    state = GroupState(position, letters.ids(), letters.discarded_ids(), held)
    known = {*entries, *held, *state.dead, *state.discarded}
    shown = []
    for key in wanted:
        pending = held.get(key) and Held(held[key].consumer, held[key].idle_ms, held[key].deliveries)
        if entry := entries.get(key):
            shown.append(_shown(entry, state, pending, pipeline, repository, reveal))
        else:
            would = f"not found: the stream has no entry {key}"
            shown.append(ShownEntry(key, _time(key), {}, None, "gone", would, pending=pending))
    return ShowAnswer(shown, [key for key in wanted if key not in known])


def _shown(
    entry: Entry, group: GroupState, pending: Held | None, pipeline: Pipeline, repository: Repository, reveal: bool
) -> ShownEntry:
    [(_, decision, rows)] = look_up([entry], pipeline, repository)
    would = _would(decision, rows, repository)
    state = group.class_of(entry.id, original_id(entry), decision, has_row=bool(rows))
    if state == "lost" and would != "insert":
        state = "lost_invalid"
    fields = shown_fields(entry.fields, reveal)
    row = rows[0]._asdict() if rows else None
    return ShownEntry(entry.id, _time(entry.id), fields, row, state, would, pending=pending)


def _time(key: EntryId) -> str:
    return iso_micros(key.ms * 1000)


def _would(decision: Decision, rows: Sequence[Existing], repository: Repository) -> str:
    if isinstance(decision, Rejected):
        return f"reject: {decision.reason} ({decision.detail})"
    if not isinstance(decision, Decoded):
        return "skip"
    if not repository.known_devices([decision.record.device_id]):
        return "reject: unknown-device"
    if not all(repository.encodable([decision.record])):
        return f"reject: {UNENCODABLE.reason} ({UNENCODABLE.detail})"
    if failed := repository.row_to_replace(decision.record, rows):
        return f"replace: row {failed.id} ({failed.status})"
    return "duplicate" if rows else "insert"
