"""Is the table at fault, or the message? A probe row that is rolled back, and the words for a table that refuses it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

from devicevault_cli.errors import RecordRejected, TableAtFault, Unavailable
from devicevault_cli.records import DeviceResult, Record, StorageResult
from devicevault_cli.repository.tables import TableSpec
from devicevault_cli.times import now_ms

NULLABLE = frozenset({"initiated_at", "collection_duration_ms", "overall_duration_ms", "storage_duration_ms"})
"""The columns into which dvctl writes NULL by a rule of its own."""

_FOREIGN_KEY = frozenset({"23503", "1452", "19"})
_UNIQUE = frozenset({"23505", "1062", "19"})


class Fault(NamedTuple):
    """What is wrong with a table. `refuses`: no row can be saved until it is repaired; else it is only a risk."""

    error: TableAtFault
    refuses: bool = True


class ProbedTable(ABC):
    """A table that can be asked whether it takes rows at all.

    An SQLSTATE alone does not tell whose fault an error is: a CHECK may be violated by one bad message, or by every
    message since somebody added it. So a probe row of known values is inserted and rolled back.
    """

    where: str
    spec: TableSpec

    @abstractmethod
    def faults(self) -> list[Fault]:
        """What is wrong with the table, the worst first; probes it. Raises Unavailable, Refused."""

    def require_rows_taken(self, *, despite_outages: bool = False) -> None:
        """Raises TableAtFault where the table would refuse every row.

        `despite_outages`: a lock or a full disk that keeps the probe from an answer is left to the first batch.
        """
        try:
            found = self.faults()
        except TableAtFault:
            raise
        except Unavailable:
            if not despite_outages:
                raise
            return
        for fault in found:
            if fault.refuses:
                raise fault.error

    def fault_behind(self, error: RecordRejected, record: Record) -> TableAtFault | None:
        """Why the table has to be repaired before it takes the record; None: the record's own values are the cause.

        `error` is what a transaction of this record alone ended with.
        """
        return self._probe(avoid=record.device_id)

    def _probe(self, avoid: int = 0, *, draw_id: bool = True) -> TableAtFault | None:
        """Why the table refuses a probe row, of another device than `avoid` where there is one; None: it takes it."""
        device = self._some_device(avoid)
        try:
            there = self._try_row(probe_record(self.spec, device or avoid or 1), draw_id=draw_id)
        except TableAtFault as fault:
            # With an id of its own the probe may have met another writer; with a drawn one it is certain.
            return fault if draw_id else self._probe(avoid)
        except RecordRejected as error:
            no_device = device is None and error.sqlstate in _FOREIGN_KEY and not error.column
            if (no_device and not error.constraint.startswith(("UNIQUE", "CHECK"))) or self._takes_copy(error):
                return None
            return self._probe_refused(error)
        return None if there else swallowed(self.where, self.spec)

    def _probe_refused(self, error: RecordRejected) -> TableAtFault:
        """What to say of an error that the probe met. Its values are dvctl's own, so the database may be quoted."""
        subject = error.constraint or error.column or "the triggers and constraints"
        said = error.said or str(error)
        return TableAtFault(
            f"{self.where}: {self.spec.name} refuses every row, even a test row: {said} (error {error.sqlstate})",
            hint=f"look at {subject} of {self.spec.name}; dvctl continues once the table takes rows again",
        )

    def _takes_copy(self, refused: RecordRejected) -> bool:
        """Whether the table takes a copy of its newest row: the probe's values may offend against a rule that every
        real message keeps. A copy that is refused only for being one counts as taken."""
        try:
            return self._try_row(None, draw_id=True)
        except TableAtFault:
            return False
        except RecordRejected as error:
            other = (error.sqlstate, error.constraint) != (refused.sqlstate, refused.constraint)
            return other and error.sqlstate in _UNIQUE and not error.column and not error.constraint.startswith("CHECK")

    @abstractmethod
    def _some_device(self, avoid: int) -> int | None:
        """The id of a device, another one than `avoid` where there is one; None: there are no devices."""

    @abstractmethod
    def _try_row(self, record: Record | None, *, draw_id: bool) -> bool:
        """Insert a record (None: a copy of the newest row), as of now, and roll it back. -> whether the row was there

        Constraints that are deferred to COMMIT are checked too. `draw_id` False: an id is given where that is possible,
        so that none is used up. Raises RecordRejected, TableAtFault, Unavailable, Refused.
        """


def probe_record(spec: TableSpec, device_id: int) -> Record:
    """A record as a real worker sends them, with an identity that no other row has."""
    mark = uuid4()
    now = now_ms() * 1000 + mark.int % 1000
    moment = datetime.fromtimestamp(now // 1_000_000, UTC).replace(microsecond=now % 1_000_000)
    named = f"collect:{device_id}:{moment.isoformat()}"
    if spec.record is DeviceResult:
        return DeviceResult(str(mark), named, device_id, "success", now, "[]", None, None, None)
    return StorageResult(str(mark), named, device_id, "success", now, "[]", "git", "0" * 40, None)


def copy_newest(spec: TableSpec, now: str) -> str:
    """The statement that inserts the newest row once more, as of `now` (an expression) and without its log."""
    values = ", ".join({"timestamp": now, "log": "'[]'"}.get(name, name) for name in spec.columns)
    newest = f"SELECT {values} FROM {spec.name} ORDER BY id DESC LIMIT 1"
    return f"INSERT INTO {spec.name} ({', '.join(spec.columns)}) {newest}"


def null_refused(where: str, spec: TableSpec, columns: list[str], code: str) -> TableAtFault:
    """NOT NULL columns without a default that dvctl does not write, or into which it may write NULL."""
    unwritten = [column for column in columns if column not in spec.columns]
    named = ", ".join(unwritten or columns)
    if unwritten:
        what = "has no default, and dvctl does not write it"
        fix = f"ALTER TABLE {spec.name} ALTER COLUMN {unwritten[0]} SET DEFAULT ...;"
    else:
        what = "has to hold NULL for messages that do not say it"
        fix = f"make {named} of {spec.name} nullable"
    return TableAtFault(f"{where}: {spec.name} refuses rows: NOT NULL column {named} {what} ({code})", hint=fix)


def swallowed(where: str, spec: TableSpec, triggers: str = "") -> TableAtFault:
    """The INSERT succeeded, and there is no row."""
    return TableAtFault(
        f"{where}: the INSERT into {spec.name} reported no row; is there a trigger?",
        hint=f"a trigger or rule discards rows: look at {triggers or f'the triggers of {spec.name}'}",
    )
