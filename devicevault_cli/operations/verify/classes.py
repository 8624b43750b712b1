"""The class of an entry: the first that fits, worked out a page at a time, and checked again before it is `lost`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from devicevault_cli.errors import MissingGroup
from devicevault_cli.messages import Decision, Decoded, Fields, Rejected, Skipped
from devicevault_cli.operations.dispatch.names import StorageState
from devicevault_cli.operations.look_up import look_up
from devicevault_cli.operations.save import UNENCODABLE, conflicting
from devicevault_cli.operations.verify.names import EntryClass
from devicevault_cli.pipelines import STORAGE, Pipeline, original_id
from devicevault_cli.records import DeviceResult, Record, StorageResult
from devicevault_cli.repository.model import Existing
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetters, dead_among, discarded_among
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import Entry, EntryId

LOST: frozenset[EntryClass] = frozenset(("lost", "lost_invalid"))


class GroupState(NamedTuple):
    """What the class of an entry without a row depends on. `position` is None where there is no group."""

    position: EntryId | None
    dead: Collection[EntryId]
    discarded: Collection[EntryId]
    pending: Collection[EntryId]

    def class_of(self, key: EntryId, first: EntryId, decision: Decision, *, has_row: bool) -> EntryClass:
        """The first class that fits. `first`: the id that the message had first."""
        if has_row:
            return "persisted"
        if first in self.dead or key in self.dead:
            return "dead"
        if first in self.discarded or key in self.discarded:
            return "discarded"
        if key in self.pending:
            return "pending"
        if self.position is None or key > self.position:
            return "undelivered"
        if isinstance(decision, Skipped):
            return "skipped"
        return "lost" if isinstance(decision, Decoded) else "lost_invalid"


class ClassifiedEntry(NamedTuple):
    """An entry, its class, what consuming it would do, and the rows with its identity, lowest id first.

    refused: why its record would be rejected, where that is known and is not its device.  storage: what became of its
    configuration, where that was looked up.
    """

    id: EntryId
    first: EntryId
    entry_class: EntryClass
    decision: Decision
    rows: Sequence[Existing]
    refused: Rejected | None = None
    storage: StorageState | None = None

    @property
    def record(self) -> Record | None:
        """The record, where the message can be decoded."""
        return self.decision.record if isinstance(self.decision, Decoded) else None

    @property
    def device_id(self) -> int | None:
        """The device, where the message can be decoded."""
        return self.record.device_id if self.record else None

    @property
    def conflicts(self) -> bool:
        """Whether its row has another device or status."""
        return self.record is not None and bool(self.rows) and conflicting(self.rows[0], self.record)

    @property
    def rejection(self) -> Rejected:
        """Why a `lost_invalid` entry would be rejected."""
        if isinstance(self.decision, Rejected):
            return self.decision
        return self.refused or Rejected("unknown-device", f"no device has the id {self.device_id}")


class Classifier:
    """Classifies entries by the group's position, dead letters and discards as they were when it was made.

    The position decides, not delivery: entries that a group passed over count as the group's.
    """

    def __init__(self, group: Group, pipeline: Pipeline, repository: Repository) -> None:
        repository.check(writing=False)
        self.group = group
        self.pipeline = pipeline
        self.repository = repository
        self.stream = group.stream.info()
        info = group.info()
        self.position = info.last_delivered_id if info else None
        letters = DeadLetters(group.stream, group.name)
        self.dead = letters.ids()
        self.discarded = letters.discarded_ids()

    def page(self, entries: Sequence[Entry], pending: Collection[EntryId]) -> list[ClassifiedEntry]:
        """Classify entries. `pending`: those of them that were pending after the entries were read."""
        state = GroupState(self.position, self.dead, self.discarded, pending)
        classified = []
        for entry, decision, found in look_up(entries, self.pipeline, self.repository):
            first = original_id(entry)
            entry_class = state.class_of(entry.id, first, decision, has_row=bool(found))
            classified.append(ClassifiedEntry(entry.id, first, entry_class, decision, found))
        if not any(entry.entry_class in LOST for entry in classified):
            return classified
        return self._check_lost(classified, {entry.id: entry.fields for entry in entries})

    def _check_lost(self, classified: list[ClassifiedEntry], fields: Mapping[EntryId, Fields]) -> list[ClassifiedEntry]:
        """The same entries, the lost ones classified again by the state as it is now."""
        lost = [entry for entry in classified if entry.entry_class in LOST]
        checked = {entry.id: entry for entry in self._second_look(lost, fields)}
        return [checked.get(entry.id, entry) for entry in classified]

    def _second_look(self, lost: list[ClassifiedEntry], fields: Mapping[EntryId, Fields]) -> list[ClassifiedEntry]:
        """Read everything again, in the order in which entries move: pending, then a letter, then (retried) a row."""
        ids = [entry.id for entry in lost]
        names = sorted({*ids, *(entry.first for entry in lost)})
        position, pending = self._delivered_now(ids)
        state = GroupState(position, dead_among(self.group, names), discarded_among(self.group, names), pending)
        records = [self._record_to_find(entry, fields[entry.id]) for entry in lost]
        found = iter(self.repository.find([record for record in records if record is not None]))
        known = self.repository.known_devices({entry.device_id for entry in lost if entry.device_id is not None})
        checked = []
        for entry, record in zip(lost, records, strict=True):
            rows = () if record is None else next(found)
            entry_class = state.class_of(entry.id, entry.first, entry.decision, has_row=bool(rows))
            again = entry._replace(entry_class=entry_class, rows=rows)
            checked.append(_check_valid(again, known, self.repository) if entry_class == "lost" else again)
        return checked

    def _record_to_find(self, entry: ClassifiedEntry, fields: Fields) -> Record | None:
        """The record whose row is looked for; None where no row can be found.

        DeviceVault's own consumer is laxer: a message that would be rejected may have a row, known by its identifier.
        """
        if entry.record:
            return entry.record
        try:
            name = fields.get(b"task_identifier", b"").decode()
        except UnicodeDecodeError:
            return None
        if not name or "\0" in name:
            return None
        if self.pipeline.name == STORAGE.name:
            return StorageResult("", name, 0, "", 0, "", "", "", None)
        return DeviceResult("", name, 0, "", 0, "", None, None, None)

    def _delivered_now(self, ids: list[EntryId]) -> tuple[EntryId | None, Collection[EntryId]]:
        """The group's position and which of the ids are pending: a group may be moved back, or destroyed, meanwhile."""
        info = self.group.info()
        if info is None:
            return None, ()
        try:
            return info.last_delivered_id, self.group.pending_ids(ids)
        except MissingGroup:
            return None, ()


def _check_valid(entry: ClassifiedEntry, known_devices: Collection[int], repository: Repository) -> ClassifiedEntry:
    """A lost entry; `lost_invalid` where the database would reject its record."""
    if entry.device_id not in known_devices:
        return entry._replace(entry_class="lost_invalid")
    if entry.record is not None and not all(repository.encodable([entry.record])):
        return entry._replace(entry_class="lost_invalid", refused=UNENCODABLE)
    return entry
