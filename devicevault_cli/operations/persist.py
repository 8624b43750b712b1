"""From decisions to rows: save a batch, and where it fails for good find the culprit and spare its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from devicevault_cli.errors import LocksExhausted, RecordRejected
from devicevault_cli.messages import Rejected
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Done, Repository, Save, Saved

T = TypeVar("T")
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


def save_ahead(
    repository: Repository, batches: Iterable[tuple[T, Sequence[Record]]]
) -> Iterator[tuple[T, list[Outcome]]]:
    """Save batches, each with what it is about, in a transaction each. -> the same with outcomes, after COMMIT

    A batch is read and sent before the one before it is answered, so that the database works meanwhile.
    """
    before: tuple[T, Callable[[], list[Outcome]]] | None = None
    for about, records in batches:
        collect = _sent(repository, records)
        if before is not None:
            yield before[0], before[1]()
        before = about, collect
    if before is not None:
        yield before[0], before[1]()


def _sent(repository: Repository, records: Sequence[Record]) -> Callable[[], list[Outcome]]:
    """Send a transaction. -> what waits for its outcomes; what is refused as a whole is then saved apart"""

    def apart() -> list[Outcome]:
        return save_apart(repository.save, records)

    def collect() -> list[Outcome]:
        try:
            return list(save.result())
        except (RecordRejected, LocksExhausted):
            return apart()

    try:
        save: Save = repository.submit(records) if records else Done([])
    except (RecordRejected, LocksExhausted):
        return apart
    return collect


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
