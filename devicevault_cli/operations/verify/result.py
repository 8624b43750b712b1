"""What a scan found, summed up in bounded memory: the answer of `verify`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from devicevault_cli.operations.answer import INLINED, Answer, optional
from devicevault_cli.operations.dispatch.names import STORAGE_STATES, UNSTORED, StorageState
from devicevault_cli.operations.verify.classes import LOST, ClassifiedEntry
from devicevault_cli.operations.verify.names import CLASSES
from devicevault_cli.operations.verify.rows import IdentityIds
from devicevault_cli.operations.verify.scan import Page
from devicevault_cli.operations.verify.timeline import LossSpan, Timeline
from devicevault_cli.streams.model import EntryId, PendingEntry
from devicevault_cli.times import iso

EXAMPLES = 10
"""Of each kind of finding."""
DEVICES = 20


@dataclass(frozen=True, slots=True)
class FoundEntry(Answer):
    """An entry in a line, without its configuration. `reason`, `detail`: of lost_invalid; `row`: of conflicting."""

    id: EntryId
    time: str
    device_id: int | None
    task_identifier: str | None
    reason: str | None = optional()
    detail: str | None = optional()
    row: int | None = optional()

    @classmethod
    def of(cls, entry: ClassifiedEntry, row: int | None = None) -> Self:
        """An entry; `row`: the id of the row that conflicts with it."""
        why = entry.rejection if entry.entry_class == "lost_invalid" else None
        name = entry.record.task_identifier if entry.record else None
        reason, detail = (why.reason, why.detail) if why else (None, None)
        return cls(entry.id, iso(entry.id.ms), entry.device_id, name, reason=reason, detail=detail, row=row)


@dataclass(frozen=True, slots=True)
class GoneEntry(Answer):
    """A pending entry that is no longer on the stream."""

    id: EntryId
    time: str
    consumer: str

    @classmethod
    def of(cls, pending: PendingEntry) -> Self:
        return cls(pending.id, iso(pending.id.ms), pending.consumer)


@dataclass(frozen=True, slots=True)
class Example(Answer):
    """A finding and what kind it is: a class, a state of storage, `gone` or `conflicting`."""

    class_: str
    finding: FoundEntry | GoneEntry = field(metadata=INLINED)


@dataclass(frozen=True, slots=True)
class DeviceLoss(Answer):
    """How many results of a device are lost. `name` is None for an unknown device."""

    device_id: int
    name: str | None
    lost: int


@dataclass(frozen=True, slots=True)
class VerifiedStream(Answer):
    entries: int
    first_id: EntryId | None
    last_id: EntryId | None


@dataclass(frozen=True, slots=True)
class RowCounts(Answer):
    """The table. `duplicate_rows`: beyond one per identity; `rows_without_entry`: None unless `--deep`.

    `rows_without_entry_in_range`: those of them whose time lies between the first and the last entry of the scope.
    """

    rows: int
    duplicate_rows: int
    conflicting: int
    rows_without_entry: int | None
    rows_without_entry_in_range: int | None = None


@dataclass(frozen=True, slots=True)
class VerifyAnswer(Answer):
    """The answer of `verify`. `classes` add up to `stream.entries`; times: ISO 8601.

    `duplicates` where there are duplicate rows; the differing columns with `--deep`; `storage`, the configurations of
    persisted successes by what became of them, with `--storage`.
    """

    stream: VerifiedStream
    classes: Mapping[str, int]
    lost_reasons: Mapping[str, int]
    pending_gone: int
    rows: RowCounts
    lost_since: str | None
    lost_until: str | None
    devices: tuple[DeviceLoss, ...]
    devices_affected: int
    timeline_span_s: int
    timeline: tuple[LossSpan, ...]
    examples: tuple[Example, ...]
    ok: bool
    elapsed_s: float
    rate_per_s: float
    problem: str | None
    incidents: tuple[Mapping[str, Any], ...]
    duplicates: tuple[IdentityIds, ...] | None = optional()
    columns_differing: Mapping[str, int] | None = optional()
    times_differing: Mapping[str, int] | None = optional()
    storage: Mapping[str, int] | None = optional()


@dataclass(slots=True)
class VerifyResult:
    """Counts of a scan, and a few examples of every finding. `storage`: None where it is not looked up."""

    entries: int = 0
    first_id: EntryId | None = None
    last_id: EntryId | None = None
    classes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    storage: Counter[str] | None = None
    conflicting: int = 0
    gone: int = 0
    lost_devices: Counter[int] = field(default_factory=Counter)
    timeline: Timeline = field(default_factory=Timeline)
    first_lost: EntryId | None = None
    last_lost: EntryId | None = None
    examples: list[Example] = field(default_factory=list)
    _found: Counter[str] = field(default_factory=Counter)
    _started: float = field(default_factory=time.monotonic)

    def add(self, page: Page) -> None:
        if page.entries:
            self.first_id = self.first_id or page.entries[0].id
            self.last_id = page.entries[-1].id
            self.entries += len(page.entries)
            self.classes.update([entry.entry_class for entry in page.entries])
        for entry in page.entries:
            if entry.conflicts:
                self.conflicting += 1
                self._example("conflicting", FoundEntry.of(entry, entry.rows[0].id))
            elif entry.entry_class in LOST:
                self._add_lost(entry)
            if entry.storage is not None:
                self._add_storage(entry, entry.storage)
        for pending in page.gone:
            self.gone += 1
            self._example("gone", GoneEntry.of(pending))

    def _add_lost(self, entry: ClassifiedEntry) -> None:
        self.first_lost = self.first_lost or entry.id
        self.last_lost = entry.id
        self.timeline.add(entry.id.ms)
        if entry.device_id is not None:
            self.lost_devices[entry.device_id] += 1
        if entry.entry_class == "lost_invalid":
            self.reasons[entry.rejection.reason] += 1
        self._example(entry.entry_class, FoundEntry.of(entry))

    def _add_storage(self, entry: ClassifiedEntry, state: StorageState) -> None:
        assert self.storage is not None  # noqa: S101
        self.storage[state] += 1
        if state in UNSTORED:
            self._example(state, FoundEntry.of(entry))

    def _example(self, kind: str, finding: FoundEntry | GoneEntry) -> None:
        self._found[kind] += 1
        if self._found[kind] <= EXAMPLES:
            self.examples.append(Example(kind, finding))

    @property
    def lost(self) -> int:
        """Entries without a row, dead letter, discard or pending entry."""
        return self.classes["lost"] + self.classes["lost_invalid"]

    @property
    def unstored(self) -> int:
        """Configurations that are to be dispatched again."""
        storage = self.storage or Counter()
        return sum(storage[state] for state in UNSTORED)

    def answer(
        self,
        rows: RowCounts,
        device_names: Callable[[Iterable[int]], Mapping[int, str]],
        problem: str | None,
        incidents: tuple[Mapping[str, Any], ...],
    ) -> VerifyAnswer:
        """The answer, with what is known of the rows, of the devices that lost most, and what keeps it from proof."""
        elapsed = time.monotonic() - self._started
        found = self.lost or self.gone or self.unstored or rows.duplicate_rows or problem
        return VerifyAnswer(
            stream=VerifiedStream(self.entries, self.first_id, self.last_id),
            classes={name: self.classes[name] for name in CLASSES},
            lost_reasons=dict(self.reasons.most_common()), pending_gone=self.gone, rows=rows,
            lost_since=iso(self.first_lost.ms) if self.first_lost else None,
            lost_until=iso(self.last_lost.ms) if self.last_lost else None,
            devices=self._devices(device_names), devices_affected=len(self.lost_devices),
            timeline_span_s=self.timeline.span_ms // 1000, timeline=self.timeline.rows(),
            examples=tuple(self.examples), ok=not found,
            elapsed_s=round(elapsed, 3), rate_per_s=round(self.entries / elapsed, 1) if elapsed else 0.0,
            problem=problem, incidents=incidents,
            storage=None if self.storage is None else {name: self.storage[name] for name in STORAGE_STATES},
        )  # fmt: skip

    def _devices(self, device_names: Callable[[Iterable[int]], Mapping[int, str]]) -> tuple[DeviceLoss, ...]:
        """The devices that lost most, the most affected first."""
        devices = self.lost_devices.most_common(DEVICES)
        names = device_names([device for device, _ in devices]) if devices else {}
        return tuple(DeviceLoss(device, names.get(device), count) for device, count in devices)
