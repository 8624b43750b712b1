"""A batch: what the messages of some entries are, decoded and ready to be saved."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from devicevault_cli.columns import decoded_parts, first_ids
from devicevault_cli.messages import CONFIGURATION, FIRST_ID, SUCCESS, Decoded, Decoder, Rejected
from devicevault_cli.pipelines import Pipeline, original_id
from devicevault_cli.record_columns import RecordColumns
from devicevault_cli.record_columns import joined as joined_records
from devicevault_cli.records import Record
from devicevault_cli.streams.model import Entry, EntryId
from devicevault_cli.streams.page import Page


class RejectedEntry(NamedTuple):
    """A bad message: the id of its entry, the id it had first, and the reason."""

    id: EntryId
    first: EntryId
    rejected: Rejected


class Note(NamedTuple):
    """A field of an entry that was replaced by NULL or clamped."""

    id: EntryId
    field: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries between stream and table. Of a message only the record is kept.

    `counts`: every entry, with the delivery count to restore if the batch is deferred. `record_ids`: the entry of each
    record, in the same order. `first_ids`: of re-published messages, the ids they had first. `gone`: entries that were
    pending but no longer exist on the stream. `reclaimed`: how many entries belonged to other consumers. `generation`:
    of the stream when the batch was read. `configurations`: those of successes, if they are to be dispatched, until
    that has begun. `redelivered`: entries that were pending when they were read.
    """

    counts: Mapping[EntryId, int] = field(default_factory=dict)
    records: Sequence[Record] = ()
    record_ids: Sequence[EntryId] = ()
    rejected: Sequence[RejectedEntry] = ()
    skipped: Sequence[EntryId] = ()
    first_ids: Mapping[EntryId, EntryId] = field(default_factory=dict)
    notes: Sequence[Note] = ()
    gone: Sequence[EntryId] = ()
    reclaimed: int = 0
    generation: int = 0
    configurations: dict[EntryId, bytes] = field(default_factory=dict, repr=False)
    redelivered: Collection[EntryId] = ()

    def __bool__(self) -> bool:
        return bool(self.counts)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An entry that was delivered too often, to be processed alone. Its content has not been read yet.

    `count`: its deliveries. `attempts`: how often it was processed alone before without coming to an end.
    """

    id: EntryId
    count: int
    attempts: int
    reclaimed: bool
    generation: int


def decode(
    page: Sequence[Entry],
    decoder: Decoder,
    device_id_max: int,
    counts: Mapping[EntryId, int] | None = None,
    *,
    keep_configurations: bool = False,
) -> Batch:
    """Decode entries. Without `counts` they were delivered for the first time."""
    records: list[Record] = []
    record_ids: list[EntryId] = []
    rejected: list[RejectedEntry] = []
    skipped: list[EntryId] = []
    notes: list[Note] = []
    first_ids: dict[EntryId, EntryId] = {}
    configurations: dict[EntryId, bytes] = {}
    for entry in page:
        key, fields = entry
        if FIRST_ID in fields:
            first_ids[key] = original_id(entry)
        decision = decoder(*key, fields, device_id_max)
        if isinstance(decision, Decoded):
            records.append(decision.record)
            record_ids.append(key)
            notes += [Note(key, name) for name in decision.notes]
            if keep_configurations and decision.record.status == SUCCESS:
                configurations[key] = fields.get(CONFIGURATION, b"")
        elif isinstance(decision, Rejected):
            rejected.append(RejectedEntry(key, first_ids.get(key, key), decision))
        else:
            skipped.append(key)
    found = {key: 1 if counts is None else counts[key] for key, _ in page}
    return Batch(
        found,
        records,
        record_ids,
        rejected,
        skipped,
        first_ids,
        notes,
        configurations=configurations,
        redelivered=() if counts is None else found,
    )


def decode_page(
    page: Page, pipeline: Pipeline, device_id_max: int, *, keep_configurations: bool = False
) -> Iterator[Batch]:
    """Decode entries that were delivered for the first time: by column, and one by one those beside an unusual one."""
    for part, records in decoded_parts(page, pipeline.decode_columns, device_id_max):
        if records is None:
            yield decode(part, pipeline.decode, device_id_max, keep_configurations=keep_configurations)
        else:
            yield _of_columns(part, records, keep_configurations=keep_configurations)


def _of_columns(page: Page, records: RecordColumns, *, keep_configurations: bool) -> Batch:
    configurations: dict[EntryId, bytes] = {}
    if keep_configurations:
        found = zip(page.ids, records.column("status"), page.column(CONFIGURATION), strict=True)
        configurations = {key: text for key, status, text in found if status == SUCCESS.encode()}
    first = dict(zip(page.ids, first_ids(page), strict=True)) if page.has(FIRST_ID) else {}
    counts = dict.fromkeys(page.ids, 1)
    return Batch(counts, records, page.ids, first_ids=first, configurations=configurations)


def joined(parts: Sequence[Batch], *, gone: Sequence[EntryId], reclaimed: int, generation: int) -> Batch:
    """One batch of several that were decoded page by page."""
    counts: dict[EntryId, int] = {}
    first_ids: dict[EntryId, EntryId] = {}
    configurations: dict[EntryId, bytes] = {}
    redelivered: set[EntryId] = set()
    for part in parts:
        counts.update(part.counts)
        first_ids.update(part.first_ids)
        configurations.update(part.configurations)
        redelivered.update(part.redelivered)
    return Batch(
        counts=counts,
        records=joined_records([part.records for part in parts]),
        record_ids=list(chain.from_iterable(part.record_ids for part in parts)),
        rejected=list(chain.from_iterable(part.rejected for part in parts)),
        skipped=list(chain.from_iterable(part.skipped for part in parts)),
        first_ids=first_ids,
        notes=list(chain.from_iterable(part.notes for part in parts)),
        gone=gone,
        reclaimed=reclaimed,
        generation=generation,
        configurations=configurations,
        redelivered=redelivered,
    )
