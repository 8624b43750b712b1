"""One table of one database: what operations ask of it, the same on every database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import compress
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Select, bindparam, delete, func, insert, inspect, select, update

from devicevault_cli.errors import DvctlError, IndexRequired, RecordRejected, TableAtFault
from devicevault_cli.paging import ROWS_PER_STATEMENT, paged
from devicevault_cli.record_columns import RecordKeys
from devicevault_cli.records import Identity, Micros, Record
from devicevault_cli.repository import probe, repertoire, schema
from devicevault_cli.repository.dialects.base import Dialect
from devicevault_cli.repository.faults import Fault
from devicevault_cli.repository.model import (
    CompletedSave,
    Duplicate,
    Existing,
    IndexAnswer,
    PendingSave,
    PutBack,
    Row,
    Saved,
    Server,
    Standbys,
)
from devicevault_cli.repository.replacement import row_to_replace
from devicevault_cli.repository.storage import StorageTables
from devicevault_cli.repository.tables import STORAGE


class Writer(Protocol):
    """A way to save records and to find their rows; each method is as in Repository."""

    def prepare(self, records: Sequence[Record]) -> None: ...

    def submit(self, records: Sequence[Record]) -> PendingSave: ...

    def find(self, records: Sequence[Record]) -> list[list[Existing]]: ...

    def ask_unmatched(self, keys: RecordKeys) -> Callable[[], list[int]]: ...


class Repository:
    """One table of one database. Connects when first used, and anew after a failure; for one thread at a time.

    Every method raises Unavailable, Refused, BadConfig or SchemaMismatch; `submit` and `save` also RecordRejected.
    """

    def __init__(self, dialect: Dialect, writer: Writer) -> None:
        self._dialect = dialect
        self._writer = writer
        self._table = dialect.table
        self.url, self.spec = dialect.url, dialect.spec

    @property
    def where(self) -> str:
        """What messages call the database; of several hosts, the one that is connected."""
        return self._dialect.where

    @property
    def dialect(self) -> str:
        """`postgresql`, `mysql` or `sqlite`."""
        return self._dialect.name

    @property
    def device_id_max(self) -> int:
        """Maximum of the actual type of the `device_id` column; known after `check()`."""
        return self._dialect.facts.device_id_max

    @property
    def unique_index(self) -> bool:
        """Whether a valid unique index on `task_identifier` exists; known after `check()`."""
        return self._dialect.facts.unique_index

    @property
    def equating_index(self) -> str:
        """A unique index that treats different identifiers as equal (by case, accents); known after `check()`."""
        return self._dialect.facts.equating_index

    def close(self) -> None:
        """Close the connection; a later call connects again."""
        self._dialect.close()

    def interrupt(self) -> None:
        """From another thread: end a call that waits for the server, which then raises Unavailable."""
        self._dialect.interrupt()

    # --- which server it is

    def server(self) -> Server | None:
        """Which server answers now; None where it does not identify itself."""
        return self._dialect.server()

    def require_server(self, server: Server | None) -> None:
        """From now on save on this server only, as it is on its timeline: `submit` raises OtherServer on another one.

        None: on any.
        """
        self._dialect.required = server

    def standbys(self) -> Standbys | None:
        """What the server says of synchronous standbys; None where none are asked for."""
        return self._dialect.standbys()

    def may_fail_over(self) -> bool:
        """Whether another server may take the place of this one, and lack its last commits."""
        return self._dialect.may_fail_over()

    # --- saving

    def submit(self, records: Sequence[Record]) -> PendingSave:
        """Start one transaction that saves the records: all or, on an error, none.

        Per record: does the device exist, is there a row with its identity, else insert. A success of the storage table
        replaces the row of a failed store, on PostgreSQL in a second transaction. PostgreSQL still works on it
        when this returns; SQLite may still write to the disk; on MySQL the work is done.
        """
        if not records:
            return CompletedSave([])
        self._dialect.open()
        if self._dialect.repertoires and not all(encodable := self.encodable(records)):
            return self._save_encodable(records, encodable)
        return self._writer.submit(records)

    def prepare(self, records: Sequence[Record]) -> None:
        """Do in advance what the next `submit` can do while the server still works on the batch before."""
        self._writer.prepare(records)

    def save(self, records: Sequence[Record]) -> list[Saved]:
        """Submit and wait."""
        return self.submit(records).result()

    def find(self, records: Sequence[Record]) -> list[list[Existing]]:
        """For each record all rows with its identity, lowest id first. Changes nothing."""
        return self._writer.find(records)

    def ask_unmatched(self, keys: RecordKeys) -> Callable[[], list[int]]:
        """Have records, all with an identifier, compared with their rows. Changes nothing.

        -> a function that waits for the positions, in order, of the records without a row and of those with any row of
        another device or status. PostgreSQL works on it meanwhile, until the repository is asked for something else.
        """
        self._dialect.open()
        if self._dialect.repertoires:  # then some text may be compared with what it is not
            return lambda: list(range(len(keys.status)))
        return self._writer.ask_unmatched(keys)

    def encodable(self, records: Sequence[Record]) -> list[bool]:
        """For each record: whether the character set of the database has all of its text; else it is rejected."""
        self._dialect.open()
        return repertoire.encodable(self._dialect.repertoires, self.spec, list(records))  # columns: made once

    def _save_encodable(self, records: Sequence[Record], encodable: Sequence[bool]) -> CompletedSave:
        """Save a batch; a record that is not encodable is not sent. Raises RecordRejected if it would be stored."""
        unsent = [record for record, fits in zip(records, encodable, strict=True) if not fits]
        known = self.known_devices(record.device_id for record in unsent)
        answers: list[Saved] = []
        for record, rows in zip(unsent, self.find(unsent), strict=True):
            if record.device_id not in known:
                answers.append(Saved("unknown-device"))
            elif rows and row_to_replace(self.spec, record, rows) is None:
                answers.append(Saved("duplicate", rows[0]))
            else:
                message = f"{self.where}: the character set lacks a character of the record"
                raise RecordRejected(message, sqlstate=self._dialect.unencodable)
        saved, explained = iter(self.save(list(compress(records, encodable)))), iter(answers)
        return CompletedSave([next(saved if fits else explained) for fits in encodable])

    def row_to_replace(self, record: Record, rows: Sequence[Existing]) -> Existing | None:
        """Which of its rows, lowest id first, saving the record replaces: that of a failed store."""
        return row_to_replace(self.spec, record, rows)

    # --- reading

    def known_devices(self, ids: Iterable[int]) -> set[int]:
        """Which of the device ids exist."""
        return self._dialect.known_devices(ids)

    def device_names(self, ids: Iterable[int]) -> dict[int, str]:
        """The names of those devices that exist."""
        names = select(schema.devices.c.id, schema.devices.c.name)
        return {row.id: row.name for row in self._by_ids(names, schema.devices.c.id, ids)}

    def fetch(self, ids: Iterable[int]) -> dict[int, Row]:
        """Whole rows by their ids, in that order."""
        columns = [self._table.c[name] for name in ("id", *self.spec.columns)]
        return {row.id: dict(row._mapping) for row in self._by_ids(select(*columns), self._table.c.id, ids)}

    def _by_ids(self, statement: Select[Any], key: ColumnElement[int], ids: Iterable[int]) -> Iterator[Any]:
        statement = statement.where(key.in_(bindparam("ids", expanding=True))).order_by(key)
        for page in paged(sorted(set(ids))):
            with self._dialect.reading() as connection:
                yield from connection.execute(statement, {"ids": page}).all()

    def _scalar(self, statement: Select[Any]) -> Any:
        with self._dialect.reading() as connection:
            return connection.scalar(statement)

    def count(self) -> int:
        """How many rows the table has, exactly."""
        return int(self._scalar(select(func.count()).select_from(self._table)))

    def last_id(self) -> int:
        """The largest id; 0 in an empty table."""
        return int(self._scalar(select(func.coalesce(func.max(self._table.c.id), 0))))

    def ids_after(self, after: int, count: int = 10_000) -> list[int]:
        """The next ids above one, in order."""
        key = self._table.c.id
        with self._dialect.reading() as connection:
            return list(connection.scalars(select(key).where(key > after).order_by(key).limit(count)))

    def times_after(self, after: int, count: int = 10_000) -> list[tuple[int, Micros]]:
        """The next ids above one, in order, each with the row's `timestamp`."""
        key = self._table.c.id
        statement = select(key, self._table.c.timestamp).where(key > after).order_by(key).limit(count)
        with self._dialect.reading() as connection:
            return [(row.id, row.timestamp) for row in connection.execute(statement)]

    def latest_timestamp(self) -> Micros | None:
        """The latest `timestamp` of the rows inserted last: without an index, its maximum would read every row."""
        return max((timestamp for timestamp, _ in self.newest(ROWS_PER_STATEMENT)), default=None)

    def newest(self, limit: int) -> list[tuple[Micros, str]]:
        """`timestamp` and `status` of the rows inserted last."""
        columns = self._table.c
        statement = select(columns.timestamp, columns.status).order_by(columns.id.desc()).limit(limit)
        with self._dialect.reading() as connection:
            return [(row.timestamp, row.status) for row in connection.execute(statement)]

    @cached_property
    def storage(self) -> StorageTables:
        """Backup locations and stored backups, read over the same connection."""
        return StorageTables(self._dialect)

    # --- duplicates

    def _identities(self) -> tuple[tuple[ColumnElement[bool], list[ColumnElement[Any]]], ...]:
        """Which rows have an identifier, and which columns are their identity; the same for those without one."""
        columns, exact = self._table.c, self._dialect.exact
        # Not `task_identifier = ''`: on MySQL that is true of spaces too, and an index on it may match millions.
        length = func.length(columns.task_identifier)
        texts = [exact(columns[name]) for name in ("task_id", "status", "log")]
        unnamed = [columns.device_id, texts[0], columns.timestamp, *texts[1:]]
        return (length > 0, [exact(columns.task_identifier)]), (length == 0, unnamed)

    def duplicates(self, limit: int = 100) -> list[Duplicate]:
        """Identities that stand more than once, grouped in the database: first those with an identifier."""
        found: list[Identity] = []
        for where, identity in self._identities():
            several = select(*identity).where(where).group_by(*identity).having(func.count() > 1)
            statement = several.order_by(func.min(self._table.c.id)).limit(limit - len(found))
            with self._dialect.reading() as connection:
                rows = connection.execute(statement).all()
            found += [row[0] if len(row) == 1 else tuple(row) for row in rows]
        rows_of = zip(found, self.find([*map(self.spec.probe, found)]), strict=True)
        return [Duplicate(identity, [row.id for row in rows]) for identity, rows in rows_of if rows]

    def surplus(self) -> int:
        """Rows beyond one for each identity."""
        total = 0
        for where, identity in self._identities():
            groups = select((func.count() - 1).label("n")).where(where).group_by(*identity).having(func.count() > 1)
            total += int(self._scalar(select(func.coalesce(func.sum(groups.subquery().c.n), 0))))
        return total

    # --- changing rows

    def overwrite(self, row: Existing, record: Record) -> bool:
        """Replace a row that is as it was seen, but for its id. -> whether it now says what the record says"""
        columns = self._table.c
        unchanged = (columns.id == row.id, columns.device_id == row.device_id, columns.status == row.status)
        self._dialect.require_right("UPDATE")
        with self._dialect.writing() as connection:
            connection.execute(update(self._table).where(*unchanged).values(record._asdict()))
        there = self.fetch([row.id]).get(row.id, {})
        return (there.get("device_id"), there.get("status")) == (record.device_id, record.status)

    def remove(self, ids: Sequence[int]) -> None:
        """Delete rows by their ids, in one transaction."""
        self._dialect.require_right("DELETE")
        statement = delete(self._table).where(self._table.c.id.in_(bindparam("ids", expanding=True)))
        with self._dialect.writing() as connection:
            for page in paged(ids):
                connection.execute(statement, {"ids": page})

    def put_back(self, rows: Sequence[Row]) -> PutBack:
        """Insert whole rows that were removed, in one transaction: all or, on an error, none.

        A row keeps its id where that is free, else the database draws one. A row that is there already, equal and with
        its id, is left out. Raises RecordRejected for a row that the table refuses.
        """
        self._dialect.require_writable()
        with self._dialect.writing() as connection:
            ids = [row["id"] for row in rows]
            columns = [self._table.c[name] for name in ("id", *self.spec.columns)]
            found = connection.execute(select(*columns).where(columns[0].in_(ids)))
            taken = {row.id: dict(row._mapping) for row in found}
            kept = [row for row in rows if row["id"] not in taken]
            new = [
                {name: value for name, value in row.items() if name != "id"}
                for row in rows
                if row["id"] in taken and taken[row["id"]] != row
            ]
            if kept:
                connection.execute(self._dialect.insert_with_id(self._table), kept)
            if new:
                connection.execute(insert(self._table), new)
        return PutBack(len(kept), len(new), len(rows) - len(kept) - len(new))

    # --- the state of the table

    def check(self, *, writing: bool = True) -> None:
        """The database answers, has the tables and columns, and (`writing`) takes a row from us, which is undone."""
        self._dialect.inspect()
        if writing:
            self._dialect.require_writable()
            probe.require_rows_taken(self._dialect, despite_outages=self._dialect.leaves_outages_to_first_batch)

    def require_single_writer(self) -> None:
        """Raises IndexRequired where records cannot be saved without a unique index: several servers write the table.

        Known after `check()`.
        """
        writers = self._dialect.facts.writers
        if writers and not self.unique_index:
            raise IndexRequired(
                f"{self.where} uses {writers}: GET_LOCK does not reach the other servers, so that two writers would"
                f" make duplicate rows of {self.spec.name} without a unique index",
                hint=f"run `dvctl db index{' --pipeline storage' if self.spec.name == STORAGE.name else ''}`",
            )

    def require_replacing(self) -> None:
        """Raises Refused where the right to replace the row of a failed store is missing."""
        if self.spec.name == STORAGE.name:
            self._dialect.require_right("UPDATE")

    def faults(self) -> list[Fault]:
        """What is wrong with the table, the worst first; probes it."""
        return probe.find_faults(self._dialect)

    def require_rows_taken(self) -> None:
        """Raises TableAtFault where the table would refuse every row."""
        probe.require_rows_taken(self._dialect)

    def fault_behind(self, error: RecordRejected, record: Record) -> TableAtFault | None:
        """Why the table has to be repaired before it takes the record; None: the record's own values are the cause.

        `error` is what a transaction of this record alone ended with. Without transactions there is no probe: then only
        errors about the length or kind of a value are the record's.
        """
        return probe.fault_behind(self._dialect, error, record)

    def row_security(self) -> list[str]:
        """What row-level security forbids, in sentences."""
        return self._dialect.row_security()

    # --- the unique index

    def create_index(self) -> IndexAnswer:
        """Create the unique partial index on `task_identifier`, unless duplicates prevent it."""
        name = self.spec.index_name
        self.check(writing=False)
        if self.unique_index:
            return IndexAnswer(name, False, [])
        if obstacle := self.index_obstacle():
            raise DvctlError(f"{self.where}: {obstacle}", hint=self._dialect.index_hint)
        preventing = self._named_duplicates()
        if not preventing:
            try:
                self._dialect.create_unique_index(name)
            except RecordRejected:  # a duplicate came meanwhile
                preventing = self._named_duplicates()
            self.check(writing=False)
        return IndexAnswer(name, self.unique_index, preventing)

    @property
    def index_effect(self) -> str:
        """What `create_index` does, in a sentence; known after `check()`."""
        return self._dialect.index_effect(self.spec.index_name)

    @property
    def drop_index_statement(self) -> str:
        """The statement that undoes `create_index`; known after `check()`."""
        return self._dialect.drop_index_statement(self.spec.index_name)

    def index_obstacle(self) -> str:
        """Why the unique index cannot be created, or nothing; known after `check()`."""
        facts = self._dialect.facts
        if facts.no_index or facts.equating_index in ("", self.spec.index_name):
            return facts.no_index
        return f"the unique index {facts.equating_index} treats different identifiers as equal; drop it first"

    def _named_duplicates(self) -> list[Duplicate]:
        return [duplicate for duplicate in self.duplicates() if isinstance(duplicate.identity, str)]

    # --- tables for tests and demonstrations

    def create_tables(self) -> None:
        """DeviceVault's four tables as its Django creates them. Refuses existing ones."""
        with self._dialect.translated():
            there = set(inspect(self._dialect.connection()).get_table_names()) & set(schema.METADATA.tables)
        if there:
            hint = "`db init` is for an empty database; DeviceVault's migrations own the tables of a real one"
            raise DvctlError(f"{self.where} has tables already: {', '.join(sorted(there))}", hint=hint)
        with self._dialect.writing() as connection:
            schema.METADATA.create_all(connection, checkfirst=False)

    def add_devices(self, count: int) -> None:
        """Devices 1 to `count`, in the tables that `create_tables` makes."""
        for page in paged(range(1, count + 1)):
            devices = [
                {"id": number, "name": f"device-{number}", "ip_address": f"192.0.2.{number % 256}", "enabled": True}
                for number in page
            ]
            with self._dialect.writing() as connection:
                connection.execute(insert(schema.devices), devices)
