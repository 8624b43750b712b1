"""The connection of a repository: an SQLAlchemy engine in autocommit mode, transactions of our own, errors translated.

The driver never begins a transaction by itself, since none may begin before its lock is held.
"""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from devicevault_cli.errors import DvctlError


class Session(ABC):
    """One long-lived connection. It is opened when first used, and anew after an error closed it."""

    def __init__(self, driver: str, **options: Any) -> None:
        """`driver`: what SQLAlchemy calls dialect and driver, such as `mysql+pymysql`."""
        self._engine = create_engine(
            f"{driver}://",
            creator=self._connect,
            poolclass=NullPool,
            pool_reset_on_return=None,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            **options,
        )
        self._opened: Connection | None = None

    def connection(self) -> Connection:
        """The connection, opened if necessary."""
        if self._opened is not None and self._is_lost(self._opened):
            self._discard()
        if self._opened is None:
            self._opened = self._engine.connect()
            self._prepare(self._opened)
        return self._opened

    @property
    def driver(self) -> Any:
        """The driver's own connection."""
        return self.connection().connection.driver_connection

    def close(self) -> None:
        """Close the connection; the database rolls back what was not committed."""
        if self._opened is not None:
            connection, self._opened = self._opened, None
            connection.invalidate()
            connection.close()

    def interrupt(self) -> None:
        """From another thread: end a call that waits for the server, by shutting its socket down."""
        opened = self._opened
        number = None if opened is None else self._socket(opened.connection.driver_connection)
        if number is not None:
            with socket.socket(fileno=os.dup(number)) as copied:
                copied.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raises DvctlError for what the driver raises, whether through SQLAlchemy or not.

        The driver's error is not chained as a cause: it may quote the row. A failed transaction is rolled back, and the
        connection is closed unless `_survives` says otherwise.
        """
        try:
            yield
        except BaseException as error:
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            if not (self._survives(cause) and self._rolled_back()):
                self.close()
            meaning = None if isinstance(cause, DvctlError) else self._meaning(cause)
            if meaning is None:
                raise
            raise meaning from None

    @contextmanager
    def transaction(self, begin: str, *, undo: bool = False) -> Iterator[Connection]:
        """A transaction that starts with the statement `begin`. It is committed, with `undo` rolled back.

        The driver begins and ends it: through Core that would take 0.1 ms more.
        """
        with self.translated():
            connection = self.connection()
            driver = connection.connection
            with closing(driver.cursor()) as cursor:
                cursor.execute(begin)
            yield connection
            if undo:
                driver.rollback()
            else:
                driver.commit()

    def _rolled_back(self) -> bool:
        with suppress(Exception):
            if self._opened is not None:
                self._opened.connection.rollback()
            return True
        return False

    def _discard(self) -> None:
        """Give up a connection that broke while it was not used."""
        self.close()

    def _is_lost(self, connection: Connection) -> bool:
        return connection.invalidated

    def _survives(self, error: BaseException) -> bool:
        """Whether the connection can still be used after an error, and its transaction be rolled back."""
        return False

    def _socket(self, driver: Any) -> int | None:
        """The file number of the socket to the server; None where there is none."""
        return None

    @abstractmethod
    def _connect(self) -> Any:
        """A new connection of the driver, in autocommit mode. Raises DvctlError or the driver's error."""

    def _prepare(self, connection: Connection) -> None:
        """Set up a new connection."""
        return

    @abstractmethod
    def _meaning(self, error: BaseException) -> DvctlError | None:
        """What an error of the driver means; None for any other error."""
