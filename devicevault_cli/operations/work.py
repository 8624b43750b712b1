"""A batch on its way: what its messages turned out to be, and the transaction that saves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from devicevault_cli.messages import FIRST_ID, Decoded, Decoder, Rejected, first_id
from devicevault_cli.operations.intake import Batch
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Save
from devicevault_cli.streams.model import EntryId


class Judged(NamedTuple):
    """A bad message: its entry id, the id it had first, and why."""

    id: EntryId
    first: EntryId
    rejected: Rejected


@dataclass(slots=True)
class Work:
    """A decoded batch. The messages themselves are let go: what is kept is small."""

    records: list[Record] = field(default_factory=list)
    record_ids: list[EntryId] = field(default_factory=list)
    rejected: list[tuple[EntryId, Rejected]] = field(default_factory=list)
    first_ids: dict[EntryId, EntryId] = field(default_factory=dict)
    """Of entries that were re-published: the id the message had first."""
    skipped: list[EntryId] = field(default_factory=list)
    save: Save | None = None
    begun: float = 0.0

    @property
    def size(self) -> int:
        """How many messages."""
        return len(self.records) + len(self.rejected) + len(self.skipped)

    def judged(self, key: EntryId, rejected: Rejected) -> Judged:
        """A bad message of this batch."""
        return Judged(key, self.first_ids.get(key, key), rejected)


def decoded(batch: Batch, decode: Decoder, device_id_max: int, note: Callable[[str, EntryId], None]) -> Work:
    """Decode a batch and empty it. `note` is told of each field that became NULL or was clamped."""
    work = Work()
    records, record_ids = work.records, work.record_ids
    for key, fields in batch.entries:
        decision = decode(*key, fields, device_id_max)
        if FIRST_ID in fields and (first := first_id(fields)):
            work.first_ids[key] = EntryId(*first)
        if isinstance(decision, Decoded):
            records.append(decision.record)
            record_ids.append(key)
            for name in decision.notes:
                note(name, key)
        elif isinstance(decision, Rejected):
            work.rejected.append((key, decision))
        else:
            work.skipped.append(key)
    batch.entries = []
    return work
