"""The plain way to save: look up, compare in Python, insert, under one lock. For SQLite and MySQL."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import compress
from typing import Any

from devicevault_cli.errors import SchemaMismatch
from devicevault_cli.paging import paged
from devicevault_cli.records import INT4_MAX, INT8_MAX, Identity, Record, identity
from devicevault_cli.repository.batches import split_distinct
from devicevault_cli.repository.faults import copy_newest, swallowed
from devicevault_cli.repository.model import INSERTED, CompletedSave, Existing, Saved
from devicevault_cli.repository.repository import Repository, Value
from devicevault_cli.repository.schema import to_micros, to_text
from devicevault_cli.repository.sql import UNNAMED, marks, text
from devicevault_cli.repository.tables import DEVICES, RESULTS
from devicevault_cli.times import now_ms

LOOKUP = 500
"""Identifiers in one IN list."""


class PlainRepository(Repository):
    """What SQLite and MySQL share: everything but the connection, the lock and the errors."""

    def submit(self, records: Sequence[Record]) -> CompletedSave:
        """Save the records and return when it is done."""
        if not records:
            return CompletedSave([])
        answers: dict[int, Saved] = {}
        with self._writing():
            known = self._known({record.device_id for record in records})
            for part in split_distinct(records):
                answers.update(self._save_distinct(records, part.positions, known))
        return CompletedSave([answers[position] for position in range(len(records))])

    def _save_distinct(self, records: Sequence[Record], positions: list[int], known: set[int]) -> dict[int, Saved]:
        """Records of distinct identities. -> what became of each, by position"""
        answers: dict[int, Saved] = {}
        rows = self._rows_of([records[position] for position in positions if records[position].device_id in known])
        new: list[Record] = []
        for position in sorted(positions):
            record = records[position]
            if record.device_id not in known:
                answers[position] = Saved("unknown-device")
            elif standing := rows.get(identity(record)):
                answers[position] = Saved("duplicate", standing[0])
            else:
                answers[position] = INSERTED
                new.append(record)
        if new:
            self._insert(new)
            if self.spec.name != RESULTS.name:
                self._set_overall_durations(new)
        return answers

    def find(self, records: Sequence[Record]) -> list[list[Existing]]:
        """For each record all rows with its identity, lowest id first."""
        with self._reading():
            rows = self._rows_of(records)
        return [rows.get(identity(record), []) for record in records]

    def _known(self, ids: set[int]) -> set[int]:
        found: set[int] = set()
        for page in paged(sorted(ids)):
            found.update(row[0] for row in self._rows(f"SELECT id FROM {DEVICES} WHERE id IN ({marks(page)})", page))
        return found

    def _rows_of(self, records: Sequence[Record]) -> dict[Identity, list[Existing]]:
        """Rows by identity. Compared in Python: collations of MySQL equate case, accents and trailing spaces."""
        rows: dict[Identity, list[Existing]] = defaultdict(list)
        if self._repertoires:
            records = list(compress(records, self._identifiable(records)))
        for page in paged({record.task_identifier: None for record in records if record.task_identifier}, LOOKUP):
            wanted = set(page)
            sql = (
                f"SELECT task_identifier, id, device_id, status FROM {self.spec.name}"
                f" WHERE task_identifier IN ({marks(page)}) ORDER BY id"
            )
            for key, row_id, device_id, status in self._rows(sql, page):
                if text(key) in wanted:
                    rows[text(key)].append(Existing(row_id, device_id, text(status)))
        for record in {identity(each): each for each in records if not each.task_identifier}.values():
            rows[identity(record)] = self._unnamed_rows(record)
        return rows

    def _unnamed_rows(self, record: Record) -> list[Existing]:
        sql = (
            f"SELECT id, device_id, status, task_id, log FROM {self.spec.name}"
            f" WHERE {UNNAMED} AND task_id = %s AND device_id = %s AND timestamp = %s ORDER BY id"
        )
        values = (record.task_id, record.device_id, to_text(record.timestamp))
        wanted = [record.status, record.task_id, record.log]
        return [
            Existing(row_id, device_id, text(said[0]))
            for row_id, device_id, *said in self._rows(sql, values)
            if list(map(text, said)) == wanted
        ]

    def _insert(self, records: Sequence[Record]) -> None:
        names = self.spec.columns
        columns = [
            [None if value is None else to_text(value) for value in values]
            if self.spec.kind(name) == "time"
            else values
            for name, values in zip(names, zip(*records, strict=True), strict=True)
        ]
        rows = list(zip(*columns, strict=True))
        insert = f"INSERT INTO {self.spec.name} ({', '.join(names)}) VALUES ({marks(names)})"
        if self._write_many(insert, rows) < len(rows):
            self._require_rows(records)

    def _require_rows(self, records: Sequence[Record]) -> None:
        """The INSERT reported fewer rows than it was given; a trigger may have put the others elsewhere."""
        rows = self._rows_of(records)
        if not all(rows.get(identity(record)) for record in records):
            raise swallowed(self.where, self.spec)

    def _try_row(self, record: Record | None, *, draw_id: bool) -> bool:
        with self._rolled_back():
            if record is None:
                return self._write_many(copy_newest(self.spec, "%s"), [[to_text(now_ms() * 1000)]]) > 0
            if draw_id or (row_id := self._free_id()) is None:
                self._insert([record])
            else:
                names = ("id", *self.spec.columns)
                values = [row_id, *(self._stored(*pair) for pair in zip(self.spec.columns, record, strict=True))]
                self._write_many(f"INSERT INTO {self.spec.name} ({', '.join(names)}) VALUES ({marks(names)})", [values])
            self._check_deferred()
            return bool(self._rows_of([record]).get(identity(record)))

    def _free_id(self) -> int | None:
        """An id for the probe that uses none up; None: let the database draw one."""
        return None

    def _check_deferred(self) -> None:
        """Raises RecordRejected for a foreign key of the row just inserted that would fail at COMMIT."""
        return

    def _set_overall_durations(self, stored: Sequence[Record]) -> None:
        """Of each success just stored, the time since its collection began, in the row of that collection."""
        ended = {each.task_identifier: each.timestamp for each in stored if each.status == "success"}
        ended.pop("", None)
        if repertoire := self._repertoires.get((RESULTS.name, "task_identifier")):
            ended = {key: ended[key] for key in ended.keys() - repertoire.lacks(ended)}
        updates: list[list[Any]] = []
        for page in paged(ended, LOOKUP):
            sql = (
                f"SELECT task_identifier, id, initiated_at FROM {RESULTS.name}"
                f" WHERE task_identifier IN ({marks(page)}) ORDER BY id DESC"
            )
            lowest = {text(key): (row_id, begun) for key, row_id, begun in self._rows(sql, page)}
            for key in page:
                row_id, begun = lowest.get(key, (None, None))
                if begun is not None and 0 <= (span := (ended[key] - to_micros(begun)) // 1000) <= INT4_MAX:
                    updates.append([span, row_id])
        if updates:
            self._write_many(f"UPDATE {RESULTS.name} SET overall_duration_ms = %s WHERE id = %s", updates)

    def _change(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        with self._writing():
            self._write_many(sql, rows)

    def _stored(self, column: str, value: Any) -> Value:
        stored: Value = to_text(value) if value is not None and self.spec.kind(column) == "time" else value
        return stored

    def _select(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        with self._reading():
            return self._rows(sql, values)

    def _learn_columns(self, declared: dict[str, dict[str, str]]) -> None:
        """Compare what is there, {table: {column: type}}, with what dvctl needs. Raises SchemaMismatch."""
        require_columns(self.where, needed_columns(self), declared)
        device_id = declared[self.spec.name]["device_id"].lower()
        self.device_id_max = INT8_MAX if "bigint" in device_id else INT4_MAX

    @abstractmethod
    def _writing(self) -> AbstractContextManager[None]:
        """One transaction that no other dvctl shares; committed at its end, rolled back on an error."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[None]:
        """One transaction that changes nothing."""

    @abstractmethod
    def _rolled_back(self) -> AbstractContextManager[None]:
        """One transaction that is undone at its end."""

    @abstractmethod
    def _rows(self, sql: str, values: Sequence[Value]) -> list[tuple[Any, ...]]:
        """Rows, within a transaction."""

    @abstractmethod
    def _write_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> int:
        """Run a changing statement for each row of values, within a transaction. -> how many rows it changed"""


def needed_columns(repository: Repository) -> dict[str, tuple[str, ...]]:
    """The columns that saving touches, by table."""
    spec = repository.spec
    needed = {spec.name: ("id", *spec.columns), DEVICES: ("id",)}
    if spec.name != RESULTS.name:
        needed[RESULTS.name] = ("id", "task_identifier", "initiated_at", "overall_duration_ms")
    return needed


def require_columns(where: str, needed: dict[str, tuple[str, ...]], there: dict[str, dict[str, str]]) -> None:
    """Raises SchemaMismatch that names the first table or the columns missing."""
    for table, columns in needed.items():
        if not there.get(table):
            raise SchemaMismatch(
                f"{where} has no table {table}",
                hint="is it DeviceVault's database, and migrated? (`dvctl db init` makes tables for tests)",
            )
        missing = [column for column in columns if column not in there[table]]
        if missing:
            raise SchemaMismatch(
                f"{where}: table {table} has no column {', '.join(missing)}",
                hint="run DeviceVault's migrations; dvctl never alters its tables",
            )
