"""What a scan found, summed up in bounded memory: the answer of `verify -o json`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from devicevault_cli.messages import Decoded
from devicevault_cli.operations.verify.classes import BAD, Judged, reason
from devicevault_cli.operations.verify.names import CLASSES
from devicevault_cli.operations.verify.scan import Page
from devicevault_cli.operations.verify.timeline import Timeline
from devicevault_cli.streams.model import EntryId, PendingEntry
from devicevault_cli.times import iso

EXAMPLES = 10
"""Of each kind of finding."""
DEVICES = 20


@dataclass(slots=True)
class Verdict:
    """Counts of a scan, and a few examples of every finding."""

    entries: int = 0
    first_id: EntryId | None = None
    last_id: EntryId | None = None
    classes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    conflicting: int = 0
    gone: int = 0
    lost_devices: Counter[int] = field(default_factory=Counter)
    timeline: Timeline = field(default_factory=Timeline)
    first_bad: EntryId | None = None
    last_bad: EntryId | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)
    _shown: Counter[str] = field(default_factory=Counter)
    _started: float = field(default_factory=time.monotonic)

    def add(self, page: Page) -> None:
        """Take a page in."""
        if page.judged:
            self.first_id = self.first_id or page.judged[0].id
            self.last_id = page.judged[-1].id
            self.entries += len(page.judged)
            self.classes.update([each.state for each in page.judged])
        for each in page.judged:
            if each.rows and conflicts(each):
                self.conflicting += 1
                self._example("conflicting", described(each) | {"row": each.rows[0].id})
            elif each.state in BAD:
                self._lost(each)
        for pending in page.gone:
            self.gone += 1
            self._example("gone", {"id": str(pending.id), "time": iso(pending.id.ms), "consumer": pending.consumer})

    def _lost(self, judged: Judged) -> None:
        self.first_bad = self.first_bad or judged.id
        self.last_bad = judged.id
        self.timeline.add(judged.id.ms)
        if judged.device_id is not None:
            self.lost_devices[judged.device_id] += 1
        if judged.state == "lost_invalid":
            self.reasons[reason(judged).reason] += 1
        self._example(judged.state, described(judged))

    def _example(self, kind: str, about: dict[str, Any]) -> None:
        self._shown[kind] += 1
        if self._shown[kind] <= EXAMPLES:
            self.examples.append({"class": kind} | about)

    @property
    def lost(self) -> int:
        """Entries that are accounted for nowhere."""
        return self.classes["lost"] + self.classes["lost_invalid"]

    def answer(
        self, rows: dict[str, Any], device_names: Callable[[Iterable[int]], Mapping[int, str]]
    ) -> dict[str, Any]:
        """The answer, with what is known of the rows and of the devices that lost most."""
        elapsed = time.monotonic() - self._started
        devices = self.lost_devices.most_common(DEVICES)
        names = device_names([device for device, _ in devices]) if devices else {}
        return {
            "stream": {
                "entries": self.entries,
                "first_id": str(self.first_id) if self.first_id else None,
                "last_id": str(self.last_id) if self.last_id else None,
            },
            "classes": {name: self.classes[name] for name in CLASSES},
            "lost_reasons": dict(self.reasons.most_common()),
            "pending_gone": self.gone,
            "rows": rows,
            "lost_since": iso(self.first_bad.ms) if self.first_bad else None,
            "lost_until": iso(self.last_bad.ms) if self.last_bad else None,
            "devices": [{"device_id": device, "name": names.get(device), "lost": count} for device, count in devices],
            "devices_affected": len(self.lost_devices),
            "timeline_span_s": self.timeline.span_ms // 1000,
            "timeline": self.timeline.rows(),
            "examples": self.examples,
            "ok": not (self.lost or self.gone or rows["duplicate_rows"]),
            "elapsed_s": round(elapsed, 3),
            "rate_per_s": round(self.entries / elapsed, 1) if elapsed else 0.0,
        }


def conflicts(judged: Judged) -> bool:
    """Whether the row that stands for the entry speaks of another device or status."""
    if not judged.rows or not isinstance(judged.decision, Decoded):
        return False
    row, record = judged.rows[0], judged.decision.record
    return row.device_id != record.device_id or row.status != record.status


def described(judged: Judged) -> dict[str, Any]:
    """An entry in a line: small, without its configuration."""
    about: dict[str, Any] = {
        "id": str(judged.id),
        "time": iso(judged.id.ms),
        "device_id": judged.device_id,
        "task_identifier": judged.task_identifier,
    }
    if judged.state == "lost_invalid":
        why = reason(judged)
        about |= {"reason": why.reason, "detail": why.detail}
    return about


def described_gone(pending: PendingEntry) -> dict[str, Any]:
    """A pending entry that is on the stream no more."""
    return {"id": str(pending.id), "time": iso(pending.id.ms), "consumer": pending.consumer}
