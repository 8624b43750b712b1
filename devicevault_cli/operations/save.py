"""Saving records: a batch per transaction; where the database refuses one, isolate the record and save the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

from devicevault_cli.errors import LocksExhausted, RecordRejected
from devicevault_cli.messages import Rejected
from devicevault_cli.records import Record
from devicevault_cli.repository.model import INSERTED, Existing, Saved
from devicevault_cli.repository.repository import Repository

T = TypeVar("T")
Outcome: TypeAlias = Saved | Rejected
DATABASE_REJECTED = "database-rejected"
UNENCODABLE = Rejected(DATABASE_REJECTED, "the character set of the database lacks a character of its text")
"""The outcome of a record whose text the database cannot hold."""
SaveAll: TypeAlias = Callable[[Sequence[Record]], list[Saved]]
"""Saves records in one transaction: `Repository.save`, or that with retries."""


class Bisection:
    """Saves records that were refused together: halved until each refused one is alone.

    `run` may be called again after an outage: what has its outcome already is not saved twice.
    """

    def __init__(
        self,
        repository: Repository,
        records: Sequence[Record],
        save: SaveAll | None = None,
        saved: Mapping[int, Outcome] | None = None,
    ) -> None:
        self._repository = repository
        self._records = records
        self._save = save or repository.save
        self._outcomes: dict[int, Outcome] = dict(saved or {})

    def run(self) -> list[Outcome]:
        """One outcome for each record, in order. Raises TableAtFault where a refusal is not the record's doing."""
        self._bisect([position for position in range(len(self._records)) if position not in self._outcomes])
        return [self._outcomes[position] for position in range(len(self._records))]

    def _bisect(self, positions: list[int]) -> None:
        if not positions:
            return
        records = [self._records[position] for position in positions]
        try:
            self._outcomes |= zip(positions, self._save(records), strict=True)
            return
        except LocksExhausted:
            if len(records) == 1:
                raise
        except RecordRejected as error:
            if len(records) == 1:
                self._outcomes[positions[0]] = self._save_refused(records[0], error)
                return
        middle = len(positions) // 2
        self._bisect(positions[:middle])
        self._bisect(positions[middle:])

    def _save_refused(self, record: Record, error: RecordRejected) -> Outcome:
        """The outcome of a record that was refused alone.

        It is at fault only if it is refused once more after the table has proved to take rows: the table may have been
        repaired in between, and a device deleted between look-up and COMMIT is an unknown device by now.
        """
        while (fault := self._repository.fault_behind(error, record)) is None:
            try:
                return self._save([record])[0]
            except RecordRejected as again:
                if again.detail == error.detail:
                    return Rejected(DATABASE_REJECTED, error.detail)
                error = again
        raise fault


def save_bisecting(repository: Repository, records: Sequence[Record]) -> list[Outcome]:
    """Save records, one outcome each in order; neighbours of a refused one are saved. Raises TableAtFault."""
    return Bisection(repository, records).run()


def save_batches(
    repository: Repository, batches: Iterable[tuple[T, Sequence[Record]]]
) -> Iterator[tuple[T, list[Outcome]]]:
    """Save batches, each with a value that belongs to it, in a transaction each. -> value and outcomes, after COMMIT

    A batch is read and sent before the outcomes of the one before it are collected, so that the database works
    meanwhile.
    """
    before: tuple[T, Callable[[], list[Outcome]]] | None = None
    for value, records in batches:
        collect = _send(repository, records)
        if before is not None:
            yield before[0], before[1]()
        before = value, collect
    if before is not None:
        yield before[0], before[1]()


def _send(repository: Repository, records: Sequence[Record]) -> Callable[[], list[Outcome]]:
    """Send a transaction. -> what waits for its outcomes; a transaction that is refused is then bisected"""

    def bisect() -> list[Outcome]:
        return save_bisecting(repository, records)

    def collect() -> list[Outcome]:
        try:
            return list(save.result())
        except (RecordRejected, LocksExhausted):
            return bisect()

    try:
        save = repository.submit(records)
    except (RecordRejected, LocksExhausted):
        return bisect
    return collect


def decided(outcome: Outcome, record: Record) -> Outcome:
    """The same outcome; that of an unknown device as a rejection."""
    if isinstance(outcome, Saved) and outcome.outcome == "unknown-device":
        return Rejected("unknown-device", f"no device has the id {record.device_id}")
    return outcome


def is_stored(outcome: Outcome) -> bool:
    """Whether the database accepted the record: its row was inserted, or took the place of a failed one."""
    return isinstance(outcome, Saved) and outcome.outcome in ("inserted", "replaced")


def any_stored(outcomes: Sequence[Outcome]) -> bool:
    """Whether the database accepted any of the records."""
    return INSERTED in outcomes or any(map(is_stored, outcomes))


def conflicting(existing: Existing | None, record: Record) -> bool:
    """Whether the row that has the record's identity has another device or status."""
    return existing is not None and (existing.device_id, existing.status) != (record.device_id, record.status)
