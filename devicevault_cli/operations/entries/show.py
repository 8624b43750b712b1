"""dvctl show: entries with every field, their states, and what consuming them would do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicevault_cli.errors import MissingGroup
from devicevault_cli.messages import Decision, Decoded, Rejected
from devicevault_cli.operations.answer import Answer, optional
from devicevault_cli.operations.entries.fields import shown_fields
from devicevault_cli.operations.save import UNENCODABLE
from devicevault_cli.pipelines import Pipeline, original_id
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import Entry, EntryId, PendingEntry
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

    `would`: what consuming would do, `insert`, `duplicate`, `skip` or `reject: REASON (DETAIL)`; of an entry that does
    not exist, a sentence.
    """

    id: EntryId
    time: str
    fields: Mapping[str, str | list[str]]
    row: Mapping[str, Any] | None
    state: str
    would: str
    pending: Held | None = optional()  # noqa: RUF009 - a field, like dataclasses.field()


@dataclass(frozen=True, slots=True)
class ShowAnswer(Answer):
    """The answer of `show`. `unknown`: ids that are neither on the stream, pending, dead nor discarded."""

    entries: Sequence[ShownEntry]
    unknown: Sequence[EntryId]


@dataclass(frozen=True, slots=True)
class _Group:
    """The state of a group. `position` is None without a group."""

    position: EntryId | None
    held: Mapping[EntryId, PendingEntry]
    dead: Collection[EntryId]
    discarded: Collection[EntryId]

    def state(self, entry: Entry, row: object, would: str) -> str:
        """The class of an entry in the order that `verify` has."""
        first = original_id(entry)
        if row:
            return "persisted"
        if first in self.dead:
            return "dead"
        if first in self.discarded or entry.id in self.discarded:
            return "discarded"
        if entry.id in self.held:
            return "pending"
        if self.position is None or entry.id > self.position:
            return "undelivered"
        return {"skip": "skipped", "insert": "lost"}.get(would, "lost_invalid")

    def pending(self, key: EntryId) -> Held | None:
        found = self.held.get(key)
        return found and Held(found.consumer, found.idle_ms, found.deliveries)


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
    known = _Group(info.last_delivered_id if info else None, held, letters.ids(), letters.discarded_ids())
    return ShowAnswer(
        [
            _shown(entries[key], known, pipeline, repository, reveal) if key in entries else _gone(key, known)
            for key in wanted
        ],
        [key for key in wanted if not any(key in ids for ids in (entries, held, known.dead, known.discarded))],
    )


def _shown(entry: Entry, group: _Group, pipeline: Pipeline, repository: Repository, reveal: bool) -> ShownEntry:
    decision = pipeline.decode_entry(entry, repository.device_id_max)
    rows = repository.find([decision.record])[0] if isinstance(decision, Decoded) else []
    row = rows[0]._asdict() if rows else None
    would = _would(decision, row is not None, repository)
    return ShownEntry(
        entry.id,
        _time(entry.id),
        shown_fields(entry.fields, reveal),
        row,
        group.state(entry, row, would),
        would,
        pending=group.pending(entry.id),
    )


def _gone(key: EntryId, group: _Group) -> ShownEntry:
    would = f"not found: the stream has no entry {key}"
    return ShownEntry(key, _time(key), {}, None, "gone", would, pending=group.pending(key))


def _time(key: EntryId) -> str:
    return iso_micros(key.ms * 1000)


def _would(decision: Decision, has_row: bool, repository: Repository) -> str:
    if isinstance(decision, Rejected):
        return f"reject: {decision.reason} ({decision.detail})"
    if not isinstance(decision, Decoded):
        return "skip"
    if not repository.known_devices([decision.record.device_id]):
        return "reject: unknown-device"
    if not all(repository.encodable([decision.record])):
        return f"reject: {UNENCODABLE.reason} ({UNENCODABLE.detail})"
    return "duplicate" if has_row else "insert"
