"""SQLite: BEGIN IMMEDIATE makes each transaction the only writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Column, ColumnElement, Connection

from devicevault_cli.errors import DvctlError, RecordRejected, TableAtFault
from devicevault_cli.records import INT8_MAX
from devicevault_cli.repository.dialects.base import Facts, LockingDialect
from devicevault_cli.repository.dialects.sqlite_access import access_refused
from devicevault_cli.repository.dialects.sqlite_commit import PendingCommit
from devicevault_cli.repository.errors import from_sqlite
from devicevault_cli.repository.faults import NULLABLE, null_refused
from devicevault_cli.repository.model import PendingSave, Saved
from devicevault_cli.repository.tables import TableSpec
from devicevault_cli.repository.url import DatabaseUrl

BUSY_S = 5.0
"""How long to wait for another writer."""
LARGE = 64
"""From so many records on it is worth a thread to read the next ones while COMMIT waits for the disk."""


class SqliteDialect(LockingDialect):
    """One table of an SQLite file, which is created only with `create`."""

    name = "sqlite"
    begin_writing = "BEGIN IMMEDIATE"

    def __init__(self, url: DatabaseUrl, spec: TableSpec, *, create: bool = False) -> None:
        super().__init__(url, spec, "sqlite")
        self._path = Path(url.name)
        self._mode = "rwc" if create else "rw"
        self._thread: ThreadPoolExecutor | None = None
        self._pending: PendingCommit | None = None

    def _connect(self) -> sqlite3.Connection:
        location = f"file:{quote(str(self._path))}?mode={self._mode}"
        connection = sqlite3.connect(location, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def locked(self) -> AbstractContextManager[Connection]:
        return self.writing()

    def save(self, work: Callable[[Connection], list[Saved]], count: int) -> PendingSave:
        """The COMMIT of a large batch waits for the disk in a thread."""
        if count < LARGE:
            return super().save(work, count)
        with self.translated():
            connection = self.connection()
            connection.exec_driver_sql(self.begin_writing)
            answers = work(connection)
            commit: Callable[[], None] = connection.connection.driver_connection.commit  # type: ignore[union-attr]
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "sqlite-commit")
            self._pending = PendingCommit(self._thread.submit(commit), answers, self.translated)
        return self._pending

    def connection(self) -> Connection:
        """The connection, once the COMMIT before is over."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.finish()
        return super().connection()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        super().close()

    def inspect(self) -> None:
        largest = self.compare_columns()
        unique = self._unique_indexes()
        equating = next((name for name, collation in unique if collation != "BINARY"), "")
        self.facts = Facts(largest, bool(unique) and not equating, equating)

    def _unique_indexes(self) -> list[tuple[str, str]]:
        """The name and the collation of each unique index on `task_identifier` alone. SQLAlchemy tells no collation."""
        found = []
        with self.translated():
            connection = self.driver
            for _, name, unique, *_ in connection.execute(f"PRAGMA index_list({self.spec.name})").fetchall():
                keys = "SELECT name, coll FROM pragma_index_xinfo(?) WHERE key"
                described = connection.execute(keys, [name]).fetchall()
                if unique and [column for column, _ in described] == ["task_identifier"]:
                    found.append((name, described[0][1].upper()))
        return found

    def create_unique_index(self, name: str) -> None:
        key = "task_identifier COLLATE BINARY"
        with self.writing() as connection:
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
            connection.exec_driver_sql(f"CREATE UNIQUE INDEX {name} ON {self.spec.name} ({key}) WHERE {key} <> ''")

    def exact(self, column: Column[Any]) -> ColumnElement[Any]:
        """The column may be declared with NOCASE or RTRIM."""
        return column.collate("BINARY")

    def check_deferred(self, connection: Connection) -> None:
        """SQLite has no statement that checks deferred foreign keys."""
        table = self.spec.name
        for _, _, parent, column, target, *_ in connection.exec_driver_sql(f"PRAGMA foreign_key_list({table})").all():
            missing = f"NOT EXISTS (SELECT 1 FROM {parent} AS p WHERE p.{target or 'rowid'} = t.{column})"
            row = f"SELECT 1 FROM {table} AS t WHERE t.rowid = last_insert_rowid() AND t.{column} IS NOT NULL"
            if connection.exec_driver_sql(f"{row} AND {missing}").first():
                said = f"FOREIGN KEY constraint failed: {column} references {parent}"
                raise RecordRejected(f"{self.where} rejects a record", sqlstate="19", said=said)

    def _meaning(self, error: BaseException) -> DvctlError | None:
        """What SQLite's error means: it does not tell a missing right from a disk that is read-only or full."""
        if not isinstance(error, sqlite3.Error):
            return None
        code = getattr(error, "sqlite_errorcode", 1)
        if code & 0xFF in (3, 8, 14, 23) and (refused := access_refused(self._path)):
            return refused
        if code & 0xFF == 13 and self._ids_used_up():
            fix = f"renumber the ids of {self.spec.name} and lower its seq in sqlite_sequence"
            return TableAtFault(f"{self.where}: the ids of {self.spec.name} are used up (SQLite code {code})", hint=fix)
        meaning = from_sqlite(code, str(error), self.where)
        if isinstance(meaning, RecordRejected):
            table, _, column = meaning.column.rpartition(".")
            if table == self.spec.name and (column not in self.spec.columns or column in NULLABLE):
                return null_refused(self.where, self.spec, [column], f"SQLite code {code}")
        return meaning

    def _ids_used_up(self) -> bool:
        try:
            select = "SELECT seq FROM sqlite_sequence WHERE name = ?"
            row = self.driver.execute(select, [self.spec.name]).fetchone()
        except sqlite3.Error:
            return False
        return row is not None and row[0] >= INT8_MAX
