"""What persisting entries would do, in numbers: the part of a plan that knows the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from devicevault_cli.messages import Decoded, Rejected
from devicevault_cli.operations.save import UNENCODABLE, conflicting
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.records import Record, identity
from devicevault_cli.repository.repository import Repository, Saved
from devicevault_cli.streams.model import Entry

REMEMBERED = 1_000_000
"""Identities to be inserted that are remembered; a plan's numbers must not cost more memory than that."""


@dataclass(slots=True)
class Census:
    """Entries by what would become of them; every entry is in exactly one of inserts, present, rejected, skipped."""

    entries: int = 0
    inserts: int = 0
    present: int = 0
    conflicting: int = 0
    skipped: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    _seen: set[int] = field(default_factory=set)
    _devices: dict[int, bool] = field(default_factory=dict)

    def add(self, page: Iterable[Entry], pipeline: Pipeline, repository: Repository) -> None:
        """Judge a page of entries. Only reads; an identity that comes twice is inserted once."""
        records: list[Record] = []
        for entry in page:
            self.entries += 1
            decision = pipeline.decode(entry.id.ms, entry.id.seq, entry.fields, repository.device_id_max)
            if isinstance(decision, Decoded):
                records.append(decision.record)
            elif isinstance(decision, Rejected):
                self.rejected[decision.reason] += 1
            else:
                self.skipped += 1
        if not records:
            return
        self._ask_for_devices(records, repository)
        encodable = repository.encodable(records)
        for record, rows, fits in zip(records, repository.find(records), encodable, strict=True):
            self._judge(record, bool(rows), self._devices[record.device_id], fits)
            if rows and conflicting(Saved("duplicate", rows[0]), record):
                self.conflicting += 1

    def _ask_for_devices(self, records: list[Record], repository: Repository) -> None:
        """Each device once: they are few, and a plan may age anyway."""
        new = {record.device_id for record in records} - self._devices.keys()
        if new:
            known = repository.known_devices(new)
            self._devices.update((device, device in known) for device in new)

    def _judge(self, record: Record, there: bool, device_known: bool, encodable: bool) -> None:
        key = hash(identity(record))
        if there or key in self._seen:
            self.present += 1
        elif not device_known:
            self.rejected["unknown-device"] += 1
        elif not encodable:
            self.rejected[UNENCODABLE.reason] += 1
        else:
            self.inserts += 1
            if len(self._seen) < REMEMBERED:
                self._seen.add(key)
