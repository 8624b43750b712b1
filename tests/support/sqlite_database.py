"""SQLite files with DeviceVault's tables."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support import schema


class SqliteFiles:
    """What a server is to the others: a folder that gives fresh databases."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = itertools.count(1)

    def database(self, *, bigint: bool = False, empty: bool = False) -> str:
        """The URL of a fresh database with DeviceVault's tables and fifty devices (`empty`: without)."""
        path = self.directory / f"devicevault-{next(self._numbers)}.sqlite3"
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in [] if empty else schema.statements("sqlite", bigint=bigint):
                connection.execute(statement)
        return f"sqlite:///{path}"

    def drop(self, url: str) -> None:
        Path(url.removeprefix("sqlite:///")).unlink(missing_ok=True)


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Another program writes to the file."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        yield
