"""From decisions to rows: save a batch, and where it fails for good find the culprit and spare its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from devicevault_cli.errors import LocksExhausted, RecordRejected
from devicevault_cli.messages import Rejected
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Saved

Outcome: TypeAlias = Saved | Rejected
SaveAll: TypeAlias = Callable[[Sequence[Record]], list[Saved]]
"""Saves records in one transaction: `Repository.save`, or that with patience."""


def save_apart(save: SaveAll, records: Sequence[Record]) -> list[Outcome]:
    """Save records, one outcome each in order; a batch that is refused is halved until the culprit stands alone."""
    if not records:
        return []
    try:
        return list(save(records))
    except LocksExhausted:
        if len(records) == 1:
            raise
    except RecordRejected as error:
        if len(records) == 1:
            return [_judge(save, records[0], error)]
    middle = len(records) // 2
    return [*save_apart(save, records[:middle]), *save_apart(save, records[middle:])]


def rejection(outcome: Outcome, record: Record) -> Rejected | None:
    """Why the message is bad, or None for a row that is there."""
    if isinstance(outcome, Rejected):
        return outcome
    if outcome.outcome == "unknown-device":
        return Rejected("unknown-device", f"no device has the id {record.device_id}")
    return None


def conflicting(outcome: Saved, record: Record) -> bool:
    """Whether the row that was there speaks of another device or status."""
    there = outcome.existing
    return there is not None and (there.device_id, there.status) != (record.device_id, record.status)


def _judge(save: SaveAll, record: Record, error: RecordRejected) -> Outcome:
    """Try a lone record once more: a device deleted between look-up and COMMIT is an unknown device by now."""
    try:
        return save([record])[0]
    except RecordRejected:
        return Rejected("database-rejected", f"SQLSTATE {error.sqlstate}: {error}" if error.sqlstate else str(error))
