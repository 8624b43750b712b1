"""Entries in hand: what their messages turned out to be, and the transaction that saves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from devicevault_cli.messages import FIRST_ID, Decoded, Decoder, Rejected, first_id
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Save
from devicevault_cli.streams.model import Entry, EntryId


class Judged(NamedTuple):
    """A bad message: its entry id, the id it had first, and why."""

    id: EntryId
    first: EntryId
    rejected: Rejected


@dataclass(slots=True)
class Work:
    """A batch on its way from the stream to the table. What is kept of a message is small: itself it is let go.

    `deliveries`: every entry in hand, with the count to put back if it is deferred. `gone`: what was pending but is on
    the stream no more. `suspect`: an entry that is processed alone, after so many deaths alone.
    """

    deliveries: dict[EntryId, int] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    record_ids: list[EntryId] = field(default_factory=list)
    rejected: list[tuple[EntryId, Rejected]] = field(default_factory=list)
    first_ids: dict[EntryId, EntryId] = field(default_factory=dict)
    """Of entries that were re-published: the id the message had first."""
    skipped: list[EntryId] = field(default_factory=list)
    gone: list[EntryId] = field(default_factory=list)
    reclaimed: int = 0
    bytes: int = 0
    suspect: EntryId | None = None
    deaths_alone: int = 0
    save: Save | None = None
    begun: float = 0.0
    generation: int = 0
    """Of the stream, when it was read: after a restart the ids may mean other entries."""

    def __bool__(self) -> bool:
        return bool(self.deliveries or self.gone)

    def judged(self, key: EntryId, rejected: Rejected) -> Judged:
        """A bad message of this batch."""
        return Judged(key, self.first_ids.get(key, key), rejected)


class Decoding(NamedTuple):
    """Makes work of entries. `device_id_max` is asked each time: the database may have been another one before.

    `note` is told of each field that became NULL or was clamped.
    """

    decode: Decoder
    device_id_max: Callable[[], int]
    note: Callable[[str, EntryId], None]

    def into(self, work: Work, entries: list[Entry], deliveries: Mapping[EntryId, int] | None = None) -> None:
        """Add entries; without `deliveries` they were delivered for the first time."""
        decode, device_id_max = self.decode, self.device_id_max()
        records, record_ids = work.records, work.record_ids
        for key, fields in entries:
            work.deliveries[key] = 1 if deliveries is None else deliveries[key]
            decision = decode(*key, fields, device_id_max)
            if FIRST_ID in fields and (first := first_id(fields)):
                work.first_ids[key] = EntryId(*first)
            if isinstance(decision, Decoded):
                records.append(decision.record)
                record_ids.append(key)
                for name in decision.notes:
                    self.note(name, key)
            elif isinstance(decision, Rejected):
                work.rejected.append((key, decision))
            else:
                work.skipped.append(key)
