"""SQLite: BEGIN IMMEDIATE makes each transaction the only writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from devicevault_cli.errors import DvctlError, RecordRejected, TableAtFault
from devicevault_cli.records import INT8_MAX
from devicevault_cli.repository.dialects.sqlite_access import access_refused
from devicevault_cli.repository.errors import from_sqlite
from devicevault_cli.repository.faults import NULLABLE, Fault, null_refused
from devicevault_cli.repository.locked_insert import PlainRepository, needed_columns
from devicevault_cli.repository.repository import Value
from devicevault_cli.repository.tables import TableSpec
from devicevault_cli.repository.url import DatabaseUrl

BUSY_S = 5.0
"""How long to wait for another writer."""


class SqliteRepository(PlainRepository):
    """One table of an SQLite file, which is created only on demand."""

    dialect = "sqlite"

    def __init__(self, url: DatabaseUrl, spec: TableSpec, *, create: bool = False) -> None:
        super().__init__(url, spec)
        self._mode = "rwc" if create else "rw"
        self._connection: sqlite3.Connection | None = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            location = f"file:{quote(str(Path(self.url.name)))}?mode={self._mode}"
            connection = sqlite3.connect(
                location, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA foreign_keys=ON")
            self._connection = connection
        return self._connection

    def check(self, *, writing: bool = True) -> None:
        """The file is there, is a database with the tables and columns, and (`writing`) takes a writer."""
        with self._translated():
            connection = self._connected()
            there = {}
            for table in needed_columns(self):
                described = connection.execute(f"PRAGMA table_info({table})").fetchall()
                there[table] = {row[1]: row[2] for row in described}
            self._learn_columns(there)
            unique = self._unique_indexes(connection)
            self.equating_index = next((name for name, collation in unique if collation != "BINARY"), "")
            self.unique_index = bool(unique) and not self.equating_index
        if writing:
            self.require_rows_taken()

    def faults(self) -> list[Fault]:
        """What is wrong with the table."""
        refused = self._probe()
        return [Fault(refused)] if refused else []

    def _check_deferred(self) -> None:
        table = self.spec.name
        for _, _, parent, column, target, *_ in self._rows(f"PRAGMA foreign_key_list({table})", ()):
            missing = f"NOT EXISTS (SELECT 1 FROM {parent} AS p WHERE p.{target or 'rowid'} = t.{column})"
            row = f"SELECT 1 FROM {table} AS t WHERE t.rowid = last_insert_rowid() AND t.{column} IS NOT NULL"
            if self._rows(f"{row} AND {missing}", ()):
                said = f"FOREIGN KEY constraint failed: {column} references {parent}"
                raise RecordRejected(f"{self.where} rejects a record", sqlstate="19", said=said)

    def _unique_indexes(self, connection: sqlite3.Connection) -> list[tuple[str, str]]:
        """The name and the collation of each unique index on `task_identifier` alone."""
        found = []
        for _, name, unique, *_ in connection.execute(f"PRAGMA index_list({self.spec.name})").fetchall():
            described = connection.execute("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key", [name]).fetchall()
            if unique and [column for column, _ in described] == ["task_identifier"]:
                found.append((name, described[0][1].upper()))
        return found

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translates errors; after one the connection is closed, and with it any open transaction."""
        try:
            yield
        except sqlite3.Error as error:
            self._abandon()
            raise self._meaning(getattr(error, "sqlite_errorcode", 1), str(error)) from None
        except BaseException:
            self._abandon()
            raise

    def _meaning(self, code: int, text: str) -> DvctlError:
        """What SQLite's error means: it does not tell a missing right from a disk that is read-only or full."""
        if code & 0xFF in (3, 8, 14, 23) and (refused := access_refused(Path(self.url.name))):
            return refused
        if code & 0xFF == 13 and self._ids_used_up():
            fix = f"renumber the ids of {self.spec.name} and lower its seq in sqlite_sequence"
            return TableAtFault(f"{self.where}: the ids of {self.spec.name} are used up (SQLite code {code})", hint=fix)
        error = from_sqlite(code, text, self.where)
        if isinstance(error, RecordRejected):
            table, _, column = error.column.rpartition(".")
            if table == self.spec.name and (column not in self.spec.columns or column in NULLABLE):
                return null_refused(self.where, self.spec, [column], f"SQLite code {code}")
        return error

    def _ids_used_up(self) -> bool:
        try:
            connection = self._connected()
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", [self.spec.name]).fetchone()
        except sqlite3.Error:
            return False
        return row is not None and row[0] >= INT8_MAX

    def _abandon(self) -> None:
        with suppress(sqlite3.Error):
            self.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._translated():
            connection = self._connected()
            connection.execute(begin)
            yield
            connection.execute("COMMIT")

    @contextmanager
    def _rolled_back(self) -> Iterator[None]:
        with self._translated():
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _writing(self) -> Any:
        return self._transaction("BEGIN IMMEDIATE")

    def _reading(self) -> Any:
        return self._transaction("BEGIN")

    def _rows(self, sql: str, values: Sequence[Value]) -> list[tuple[Any, ...]]:
        return self._connected().execute(sql.replace("%s", "?"), values).fetchall()

    def _write_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> int:
        return self._connected().executemany(sql.replace("%s", "?"), rows).rowcount

    def _execute(self, statements: Sequence[str]) -> None:
        with self._writing():
            for statement in statements:
                self._connected().execute(statement)

    def _existing_tables(self) -> set[str]:
        return {row[0] for row in self._select("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def _create_index(self, name: str) -> None:
        table = self.spec.name
        key = self._exact("task_identifier")
        self._execute(
            [f"DROP INDEX IF EXISTS {name}", f"CREATE UNIQUE INDEX {name} ON {table} ({key}) WHERE {key} <> ''"]
        )

    def _exact(self, column: str) -> str:
        """The column may be declared with NOCASE or RTRIM."""
        return f"{column} COLLATE BINARY"
