"""Saving on SQLite and MySQL: look up, compare in Python, insert, all under the dialect's lock.

Records that are all new stay columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import compress, repeat
from typing import Any

from sqlalchemy import Connection, String, bindparam, func, insert, literal_column, select, update

from devicevault_cli.errors import RecordRejected, Unavailable
from devicevault_cli.paging import paged
from devicevault_cli.record_columns import RecordColumns, RecordKeys, decoded
from devicevault_cli.records import INT4_MAX, Identity, Record, identity
from devicevault_cli.repository import repertoire
from devicevault_cli.repository.batches import split_distinct
from devicevault_cli.repository.dialects.base import LockingDialect, existing_devices
from devicevault_cli.repository.faults import swallowed
from devicevault_cli.repository.model import INSERTED, Existing, PendingSave, Saved
from devicevault_cli.repository.replacement import SUCCESS, not_replaced, row_to_replace
from devicevault_cli.repository.schema import results, to_str, to_texts
from devicevault_cli.repository.tables import RESULTS

ATTEMPTS = 5
"""How often to try a batch beside a writer that does not share the lock."""
LOOKUP = 500
"""Identifiers in one IN list."""
_LIST_SIZES = (1, 20, LOOKUP)
"""Lengths of lists with a compiled statement: expanding one costs Core 0.9 us an identifier, a compiled one 0.3."""

_COLLECTIONS = (
    select(results.c.task_identifier, results.c.id, results.c.initiated_at)
    .where(results.c.task_identifier.in_(bindparam("identifiers", expanding=True)))
    .order_by(results.c.timestamp, results.c.id)
)
_SET_DURATION = (
    update(results).where(results.c.id == bindparam("row_id")).values(overall_duration_ms=bindparam("duration"))
)


class LockedInsert:
    """One transaction a batch; all but its COMMIT is over when `submit` returns."""

    def __init__(self, dialect: LockingDialect) -> None:
        self._dialect = dialect
        self._spec = dialect.spec
        columns = dialect.table.c
        found = (columns.id, columns.device_id, columns.status)
        self._named = select(columns.task_identifier, *found).order_by(columns.id)
        self._named_texts: dict[int, str] = {}
        # Not `task_identifier = ''`: on MySQL that is true of spaces too, and an index on it may match millions.
        self._unnamed = (
            select(*found, columns.task_id, columns.log)
            .where(
                func.length(columns.task_identifier) == 0,
                *(columns[name] == bindparam(name) for name in ("task_id", "device_id", "timestamp")),
            )
            .order_by(columns.id)
        )
        self._insert = dialect.statement_text(insert(dialect.table), self._spec.columns)
        self._replace_text = ""
        self._times = [number for number, name in enumerate(self._spec.columns) if self._spec.kind(name) == "time"]

    def prepare(self, records: Sequence[Record]) -> None:
        """Do nothing: there is no work to do in advance."""

    def submit(self, records: Sequence[Record]) -> PendingSave:
        """Save the records.

        Where the unique index refuses a record whose row came meanwhile, all is undone; the next attempt finds the row.
        """
        for _ in range(ATTEMPTS):
            try:
                return self._dialect.save(lambda connection: self._save_all(connection, records), len(records))
            except RecordRejected as error:
                if not self._dialect.came_second(error):
                    raise
        raise Unavailable(f"{self._dialect.where}: another writer saves the same records", hint="retry")

    def _save_all(self, connection: Connection, records: Sequence[Record]) -> list[Saved]:
        if isinstance(records, RecordColumns) and self._are_new(connection, records):
            self._insert_rows(connection, records)
            if self._spec.name != RESULTS.name:
                self._set_durations(connection, records)
            return [INSERTED] * len(records)
        records = list(records)  # of columns each record is made once
        known = existing_devices(connection, {record.device_id for record in records})
        answers: dict[int, Saved] = {}
        for part in split_distinct(records):
            answers.update(self._save(connection, records, part.positions, known))
        return [answers[position] for position in range(len(records))]

    def _are_new(self, connection: Connection, records: RecordColumns) -> bool:
        """Whether all records have an identifier of their own that no row has, and a device."""
        identifiers = records.texts("task_identifier")
        wanted, devices = set(identifiers), set(records.column("device_id"))
        if "" in wanted or len(wanted) < len(identifiers) or self._dialect.repertoires:
            return False
        rows = (row for page in paged(identifiers, LOOKUP) for row in self._named_rows(connection, page))
        return existing_devices(connection, devices) == devices and wanted.isdisjoint(row[0] for row in rows)

    def find(self, records: Sequence[Record]) -> list[list[Existing]]:
        with self._dialect.reading() as connection:
            rows = self._rows_of(connection, records)
        return [rows.get(identity(record), []) for record in records]

    def ask_unmatched(self, keys: RecordKeys) -> Callable[[], list[int]]:
        identifiers = list(map(bytes.decode, keys.task_identifier))
        found: dict[str, tuple[int, str] | None] = {}  # None: the rows of one identifier differ
        with self._dialect.reading() as connection:
            for page in paged(dict.fromkeys(identifiers), LOOKUP):
                for identifier, _, device_id, status in self._named_rows(connection, page):
                    row = device_id, status
                    found[identifier] = row if found.get(identifier, row) == row else None
        wanted = zip(keys.device_id, map(bytes.decode, keys.status), strict=True)
        compared = zip(map(found.get, identifiers), wanted, strict=True)
        unmatched = [position for position, (row, record) in enumerate(compared) if row != record]
        return lambda: unmatched

    def _save(
        self, connection: Connection, records: Sequence[Record], positions: list[int], known: set[int]
    ) -> dict[int, Saved]:
        """Save records of distinct identities. -> what became of each, by position"""
        answers: dict[int, Saved] = {}
        wanted = [records[position] for position in positions if records[position].device_id in known]
        rows = self._rows_of(connection, wanted)
        new: list[Record] = []
        replacing: list[tuple[Existing, Record]] = []
        for position in sorted(positions):
            record = records[position]
            if record.device_id not in known:
                answers[position] = Saved("unknown-device")
            elif existing := rows.get(identity(record)):
                if failed := row_to_replace(self._spec, record, existing):
                    replacing.append((failed, record))
                answers[position] = Saved("replaced" if failed else "duplicate", existing[0])
            else:
                answers[position] = INSERTED
                new.append(record)
        if new:
            self._insert_rows(connection, new)
        if replacing:
            self._replace_rows(connection, replacing)
        if (new or replacing) and self._spec.name != RESULTS.name:
            self._set_durations(connection, [*new, *(record for _, record in replacing)])
        return answers

    def _rows_of(self, connection: Connection, records: Sequence[Record]) -> dict[Identity, list[Existing]]:
        """Rows by identity. Compared in Python: collations of MySQL equate case, accents and trailing spaces."""
        rows: dict[Identity, list[Existing]] = defaultdict(list)
        if repertoires := self._dialect.repertoires:
            records = list(compress(records, repertoire.identifiable(repertoires, self._spec, records)))
        for page in paged({record.task_identifier: None for record in records if record.task_identifier}, LOOKUP):
            wanted = set(page)
            for identifier, row_id, device_id, status in self._named_rows(connection, page):
                if identifier in wanted:
                    rows[identifier].append(Existing(row_id, device_id, status))
        for record in {identity(record): record for record in records if not record.task_identifier}.values():
            rows[identity(record)] = self._unnamed_rows(connection, record)
        return rows

    def _named_rows(self, connection: Connection, page: list[str]) -> Iterator[tuple[str, int, int, str]]:
        """Identifier, id, device and status of the rows that have one of the identifiers, on the driver's cursor."""
        size = next(size for size in _LIST_SIZES if size >= len(page))
        if size not in self._named_texts:
            names = [bindparam(f"identifier_{number}", type_=String) for number in range(size)]
            named = self._named.where(self._dialect.table.c.task_identifier.in_(names))
            self._named_texts[size] = self._dialect.statement_text(named)
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(self._named_texts[size], [*page, *repeat(page[-1], size - len(page))])
            for identifier, row_id, device_id, status in cursor.fetchall():
                yield to_str(identifier), row_id, device_id, to_str(status)

    def _unnamed_rows(self, connection: Connection, record: Record) -> list[Existing]:
        values = {"task_id": record.task_id, "device_id": record.device_id, "timestamp": record.timestamp}
        return [
            Existing(row_id, device_id, status)
            for row_id, device_id, status, task_id, log in connection.execute(self._unnamed, values)
            if (status, task_id, log) == (record.status, record.task_id, record.log)
        ]

    def _insert_rows(self, connection: Connection, records: Sequence[Record]) -> None:
        """Insert on the driver's cursor: through Core a row costs half as much again."""
        rows = self._values(records)
        self._dialect.require_sendable(self._insert, rows)
        with closing(connection.connection.cursor()) as cursor:
            cursor.executemany(self._insert, rows)
            inserted = cursor.rowcount
        if inserted < len(rows):  # a trigger may have put the others elsewhere
            there = self._rows_of(connection, records)
            if not all(there.get(identity(record)) for record in records):
                raise swallowed(self._dialect.where, self._spec)

    def _replace_rows(self, connection: Connection, replacing: Sequence[tuple[Existing, Record]]) -> None:
        """Let records take the place of failed rows; one that another writer has changed meanwhile is an error."""
        if not self._replace_text:
            columns = self._dialect.table.c
            is_failed = self._dialect.exact(columns.status) != literal_column(f"'{SUCCESS}'")
            statement = update(self._dialect.table).where(columns.id == bindparam("row_id"), is_failed)
            self._replace_text = self._dialect.statement_text(statement, self._spec.columns)
        values = self._values([record for _, record in replacing])
        rows = [(*row, failed.id) for row, (failed, _) in zip(values, replacing, strict=True)]
        self._dialect.require_sendable(self._replace_text, rows)
        with closing(connection.connection.cursor()) as cursor:
            for row, (failed, _) in zip(rows, replacing, strict=True):
                cursor.execute(self._replace_text, row)
                if cursor.rowcount != 1:
                    raise not_replaced(self._dialect.where, self._spec, failed)

    def _values(self, records: Sequence[Record]) -> list[tuple[Any, ...]]:
        """The rows of records as the driver takes them."""
        columns: list[Sequence[Any]] = list(
            map(decoded, records.columns) if isinstance(records, RecordColumns) else zip(*records, strict=True)
        )
        for number in self._times:
            columns[number] = to_texts(columns[number])
        return list(zip(*columns, strict=True))

    def _set_durations(self, connection: Connection, stored: Sequence[Record]) -> None:
        """Of each success just stored, the time since its collection began, in the newest row of that collection."""
        ended = {record.task_identifier: record.timestamp for record in stored if record.status == SUCCESS}
        ended.pop("", None)
        if known := self._dialect.repertoires.get((RESULTS.name, "task_identifier")):
            ended = {key: ended[key] for key in ended.keys() - known.lacks(ended)}
        durations: list[dict[str, int]] = []
        for page in paged(ended, LOOKUP):
            found = connection.execute(_COLLECTIONS, {"identifiers": page})
            newest = {identifier: (row_id, begun) for identifier, row_id, begun in found}
            for key in page:
                row_id, begun = newest.get(key, (None, None))
                if begun is not None and 0 <= (duration := (ended[key] - begun) // 1000) <= INT4_MAX:
                    durations.append({"duration": duration, "row_id": row_id})
        if durations:
            connection.execute(_SET_DURATION, durations)
