"""SQLite: BEGIN IMMEDIATE makes each transaction the only writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from devicevault_cli.repository.failures import from_sqlite
from devicevault_cli.repository.plain import PlainRepository, needed_columns
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
            self.unique_index = self._has_unique_index(connection)
        if writing:
            with self._writing():
                pass

    def _has_unique_index(self, connection: sqlite3.Connection) -> bool:
        for _, name, unique, *_ in connection.execute(f"PRAGMA index_list({self.spec.name})").fetchall():
            columns = [row[2] for row in connection.execute(f"PRAGMA index_info({name})").fetchall()]
            if unique and columns == ["task_identifier"]:
                return True
        return False

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
            raise from_sqlite(getattr(error, "sqlite_errorcode", 1), str(error), self.where) from None
        except BaseException:
            self._abandon()
            raise

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

    def _writing(self) -> Any:
        return self._transaction("BEGIN IMMEDIATE")

    def _reading(self) -> Any:
        return self._transaction("BEGIN")

    def _rows(self, sql: str, values: Sequence[Value]) -> list[tuple[Any, ...]]:
        return self._connected().execute(sql.replace("%s", "?"), values).fetchall()

    def _write_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        self._connected().executemany(sql.replace("%s", "?"), rows)

    def _execute(self, statements: Sequence[str]) -> None:
        with self._writing():
            for statement in statements:
                self._connected().execute(statement)

    def _existing_tables(self) -> set[str]:
        return {row[0] for row in self._select("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def _create_index(self, name: str) -> None:
        table = self.spec.name
        self._execute([f"CREATE UNIQUE INDEX {name} ON {table} (task_identifier) WHERE task_identifier <> ''"])
