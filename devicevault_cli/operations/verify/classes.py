"""Which class an entry belongs to: the first that fits, judged a page at a time, with a second look before `lost`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from devicevault_cli.errors import MissingGroup
from devicevault_cli.messages import FIRST_ID, Decision, Decoded, Fields, Rejected, Skipped, first_id
from devicevault_cli.operations.save import UNENCODABLE
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.records import DeviceResult, Record
from devicevault_cli.repository.repository import Existing, Repository
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import Entry, EntryId
from devicevault_cli.streams.settled import given_up, with_letter

CLASSES = ("persisted", "dead", "discarded", "pending", "undelivered", "skipped", "lost", "lost_invalid")
BAD = frozenset(("lost", "lost_invalid"))


class Judged(NamedTuple):
    """An entry, its class, what consuming it would make of it, and the rows with its identity, lowest id first."""

    id: EntryId
    first: EntryId
    state: str
    decision: Decision
    rows: Sequence[Existing]
    refused: Rejected | None = None
    """Why its record would be rejected, where that is known and is not its device."""

    @property
    def device_id(self) -> int | None:
        """The device, where the message names one."""
        return self.decision.record.device_id if isinstance(self.decision, Decoded) else None

    @property
    def task_identifier(self) -> str | None:
        """The logical job, where the message could be decoded."""
        return self.decision.record.task_identifier if isinstance(self.decision, Decoded) else None


class Judge:
    """Knows the group's position and its dead letters and discards as they were when it was made.

    Position decides, not delivery: what a group passed over is the group's to answer for.
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

    def page(self, entries: Sequence[Entry], pending: Collection[EntryId]) -> list[Judged]:
        """Judge entries. `pending` are those of them that were pending after the entries were read."""
        decode, device_id_max = self.pipeline.decode, self.repository.device_id_max
        decisions = [decode(each.id.ms, each.id.seq, each.fields, device_id_max) for each in entries]
        found = iter(self.repository.find([each.record for each in decisions if isinstance(each, Decoded)]))
        judged = []
        for entry, decision in zip(entries, decisions, strict=True):
            rows = next(found) if isinstance(decision, Decoded) else ()
            first = EntryId(*(first_id(entry.fields) or entry.id)) if FIRST_ID in entry.fields else entry.id
            state = "persisted" if rows else self._state(entry.id, first, decision, pending)
            judged.append(Judged(entry.id, first, state, decision, rows))
        suspects = [each for each in judged if each.state in BAD]
        if not suspects:
            return judged
        fields = {entry.id: entry.fields for entry in entries}
        again = {each.id: each for each in self._second_look(suspects, fields)}
        return [again.get(each.id, each) for each in judged]

    def _state(self, key: EntryId, first: EntryId, decision: Decision, pending: Collection[EntryId]) -> str:
        """The class of an entry without a row, as far as the first look tells."""
        if first in self.dead or key in self.dead:
            return "dead"
        if first in self.discarded or key in self.discarded:
            return "discarded"
        if key in pending:
            return "pending"
        if self.position is None or key > self.position:
            return "undelivered"
        if isinstance(decision, Skipped):
            return "skipped"
        return "lost" if isinstance(decision, Decoded) else "lost_invalid"

    def _second_look(self, suspects: list[Judged], fields: Mapping[EntryId, Fields]) -> list[Judged]:
        """Everything anew, in the order in which entries move: pending, then a letter, then (retried) a row."""
        ids = [each.id for each in suspects]
        names = sorted({*ids, *(each.first for each in suspects)})
        position, pending = self._delivered_now(ids)
        dead = with_letter(self.group, names)
        discarded = given_up(self.group, names)
        records = [_sought(each, fields[each.id]) for each in suspects]
        found = iter(self.repository.find([record for record in records if record]))
        known = self.repository.known_devices({each.device_id for each in suspects if each.device_id is not None})
        looked = []
        for each, record in zip(suspects, records, strict=True):
            rows = next(found) if record else ()
            if rows:
                state = "persisted"
            elif not dead.isdisjoint((each.id, each.first)):
                state = "dead"
            elif not discarded.isdisjoint((each.id, each.first)):
                state = "discarded"
            elif each.id in pending:
                state = "pending"
            elif position is None or each.id > position:
                state = "undelivered"
            else:
                looked.append(_convicted(each, known, self.repository))
                continue
            looked.append(each._replace(state=state, rows=rows))
        return looked

    def _delivered_now(self, ids: list[EntryId]) -> tuple[EntryId | None, Collection[EntryId]]:
        """The group's position and which of the ids are pending: a group may be moved back, or destroyed, meanwhile."""
        info = self.group.info()
        if info is None:
            return None, ()
        try:
            return info.last_delivered_id, self.group.pending_ids(ids)
        except MissingGroup:
            return None, ()


def _sought(judged: Judged, fields: Fields) -> Record | None:
    """What a row is looked for by; None where nothing could be found.

    DeviceVault's own consumer is laxer: a message that would be rejected may have its row, known by its identifier.
    """
    if isinstance(judged.decision, Decoded):
        return judged.decision.record
    try:
        name = fields.get(b"task_identifier", b"").decode()
    except UnicodeDecodeError:
        return None
    if not name or "\0" in name:
        return None
    return DeviceResult("", name, 0, "", 0, "", None, None, None)


def _convicted(judged: Judged, known_devices: Collection[int], repository: Repository) -> Judged:
    """Lost: an entry that would become a row, or one that would be rejected."""
    if not isinstance(judged.decision, Decoded):
        return judged
    if judged.device_id not in known_devices:
        return judged._replace(state="lost_invalid")
    if not all(repository.encodable([judged.decision.record])):
        return judged._replace(state="lost_invalid", refused=UNENCODABLE)
    return judged


def reason(judged: Judged) -> Rejected:
    """Why a `lost_invalid` entry would be rejected."""
    if isinstance(judged.decision, Rejected):
        return judged.decision
    if judged.refused is not None:
        return judged.refused
    return Rejected("unknown-device", f"no device has the id {judged.device_id}")
