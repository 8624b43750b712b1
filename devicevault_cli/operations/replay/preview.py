"""What a replay would do, in numbers: the part of a plan that asks the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from devicevault_cli.messages import Decision, Decoded, Rejected
from devicevault_cli.operations.changes.change import Progress
from devicevault_cli.operations.dispatch.stored import served_devices
from devicevault_cli.operations.save import UNENCODABLE, conflicting
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.records import Record, identity
from devicevault_cli.repository.model import Existing
from devicevault_cli.repository.replacement import SUCCESS
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.model import Entry

REMEMBERED = 1_000_000
"""Identities to be inserted that are remembered; a plan's numbers must not cost more memory than that."""


@dataclass(slots=True)
class ReplayPreview:
    """Entries by outcome: each is in exactly one of inserts, present, replaces, rejected, skipped. Only reads.

    present: has a row, or repeats an identity that is inserted.  conflicting: those of `present` whose row has another
    device or status.  replaces: a success that takes the place of a failed row, also of one that the plan inserts.
    would_dispatch: with `dispatches`, those of `inserts` that are successes of a device whose location a storage worker
    serves.
    """

    pipeline: Pipeline
    repository: Repository
    dispatches: bool = False
    entries: int = 0
    inserts: int = 0
    present: int = 0
    conflicting: int = 0
    replaces: int = 0
    would_dispatch: int = 0
    skipped: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    _inserted: set[int] = field(default_factory=set)
    _failed: set[int] = field(default_factory=set)
    _replaced: dict[int, Existing] = field(default_factory=dict)
    _known_devices: dict[int, bool] = field(default_factory=dict)
    _served_devices: frozenset[int] = frozenset()

    def add_entries(self, pages: Iterable[Sequence[Entry]], progress: Progress, most: int | None = None) -> bool:
        """Decode and count entries; see `add`."""
        device_id_max = self.repository.device_id_max
        decided = ([self.pipeline.decode_entry(entry, device_id_max) for entry in page] for page in pages)
        return self.add(decided, progress, most)

    def add(self, pages: Iterable[list[Decision]], progress: Progress, most: int | None = None) -> bool:
        """Count pages of decoded entries. -> whether all were counted: it ends where there are more than `most`"""
        for page in pages:
            self._add_page(page)
            progress(self.entries)
            if most is not None and self.entries > most:
                return False
        return True

    def _add_page(self, decisions: list[Decision]) -> None:
        records: list[Record] = []
        for decision in decisions:
            self.entries += 1
            if isinstance(decision, Decoded):
                records.append(decision.record)
            elif isinstance(decision, Rejected):
                self.rejected[decision.reason] += 1
            else:
                self.skipped += 1
        if not records:
            return
        # Each device is looked up once: they are few, and a plan may age anyway.
        if new := {record.device_id for record in records} - self._known_devices.keys():
            known = self.repository.known_devices(new)
            self._known_devices.update((device, device in known) for device in new)
            if self.dispatches:
                self._served_devices |= served_devices(self.repository, known)
        encodable = self.repository.encodable(records)
        for record, rows, fits in zip(records, self.repository.find(records), encodable, strict=True):
            self._count(record, rows, fits)

    def _count(self, record: Record, rows: Sequence[Existing], encodable: bool) -> None:
        key = hash(identity(record))
        replaces = self._is_replacement(key, record, rows)
        if (rows or key in self._inserted) and not replaces:
            self.present += 1
            row = self._replaced.get(key, rows[0] if rows else None)
            self.conflicting += conflicting(row, record)
        elif not self._known_devices[record.device_id]:
            self.rejected["unknown-device"] += 1
        elif not encodable:
            self.rejected[UNENCODABLE.reason] += 1
        elif replaces:
            self.replaces += 1
            self._replaced[key] = Existing(0, record.device_id, record.status)
        else:
            self.inserts += 1
            self.would_dispatch += record.status == SUCCESS and record.device_id in self._served_devices
            if len(self._inserted) < REMEMBERED:
                self._inserted.add(key)
                if record.status != SUCCESS:
                    self._failed.add(key)

    def _is_replacement(self, key: int, record: Record, rows: Sequence[Existing]) -> bool:
        """Whether the record replaces a failed row: one that is there, or one that the plan inserts before."""
        if key in self._replaced:
            return False
        planned = [Existing(0, record.device_id, "")] if key in self._failed else []
        return self.repository.row_to_replace(record, rows or planned) is not None
