"""One transaction in libpq's pipeline mode: everything is sent at once, the answers are collected later."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format

from devicevault_cli.errors import DvctlError, Unavailable
from devicevault_cli.repository.postgres_arrays import Array
from devicevault_cli.repository.repository import Saved

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

ANSWER_S = 75.0
"""How long a silent server is waited for: longer than the lock and statement timeouts together."""


class Statement:
    """A statement and its parameters in binary format."""

    __slots__ = ("arrays", "sql")

    def __init__(self, sql: str, arrays: Sequence[Array] = ()) -> None:
        self.sql = sql.encode()
        self.arrays = arrays


class ServerError(Exception):
    """The server refused a statement: SQLSTATE, primary message and, where there is one, the constraint."""

    def __init__(self, sqlstate: str, text: str, constraint: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate, self.text, self.constraint = sqlstate, text, constraint


class Flight:
    """Statements between two points of synchronization.

    Written on `psycopg.pq`, psycopg's documented mirror of libpq: `Connection.pipeline()` sends what fits into
    the socket and the rest only when the answers are fetched, so that the server would wait for us instead.
    Raises psycopg.OperationalError where the connection breaks, also after ANSWER_S of silence.
    """

    def __init__(self, connection: psycopg.Connection, statements: Iterable[Statement]) -> None:
        self._connection = connection
        self._pgconn: PGconn = connection.pgconn
        self._results: list[PGresult] = []
        self._landed = False
        self._heard = time.monotonic()
        self._pgconn.enter_pipeline_mode()
        for statement in statements:
            self._pgconn.send_query_params(
                statement.sql,
                [array.data for array in statement.arrays],
                [array.oid for array in statement.arrays],
                [Format.BINARY] * len(statement.arrays),
            )
        self._pgconn.pipeline_sync()
        while self._pgconn.flush():
            self._poll(select.POLLIN | select.POLLOUT, 1.0)

    def wait(self, seconds: float) -> bool:
        """True once every answer is there."""
        end = time.monotonic() + seconds
        while not self._take():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._poll(select.POLLIN, left)
        return True

    def results(self) -> list[PGresult]:
        """An answer for each statement. Raises ServerError; the transaction is over then."""
        while not self.wait(1.0):
            pass
        self._pgconn.exit_pipeline_mode()
        for result in self._results:
            if result.status == ExecStatus.FATAL_ERROR:
                self._connection.rollback()
                raise ServerError(*(_field(result, field) for field in _FIELDS))
        return self._results

    def _poll(self, events: int, seconds: float) -> None:
        poller = select.poll()
        poller.register(self._pgconn.socket, events)
        ready = poller.poll(max(0.0, seconds) * 1000)
        if any(event & ~select.POLLOUT for _, event in ready):
            self._pgconn.consume_input()
        if ready:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > ANSWER_S:
            raise psycopg.OperationalError(f"no answer within {ANSWER_S:g} s")

    def _take(self) -> bool:
        """Take the answers that have arrived; None from libpq stands between those of two statements."""
        while not self._landed and not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if self._pgconn.status == ConnStatus.BAD:
                raise psycopg.OperationalError(_last_words(result) or "the connection was lost")
            if result is not None and result.status == ExecStatus.PIPELINE_SYNC:
                self._landed = True
            elif result is not None:
                self._results.append(result)
        return self._landed


class UnderWay:
    """A Save that the server still works on. `collect` makes the answers of the flight."""

    def __init__(self, flight: Flight, collect: Callable[[], list[Saved]]) -> None:
        self._flight = flight
        self._collect: Callable[[], list[Saved]] | None = collect
        self._answers: list[Saved] | DvctlError = Unavailable("waiting for the database was given up")

    def wait(self, seconds: float) -> bool:
        """True once `result()` will not block, also because the connection broke."""
        try:
            return self._collect is None or self._flight.wait(seconds)
        except psycopg.Error:
            return True

    def finish(self) -> None:
        """Wait for the end, however it comes, and remember it."""
        if self._collect is not None:
            collect, self._collect = self._collect, None
            try:
                self._answers = collect()
            except DvctlError as error:
                self._answers = error

    def result(self) -> list[Saved]:
        """The answers, after COMMIT."""
        self.finish()
        if isinstance(self._answers, DvctlError):
            raise self._answers
        return self._answers


def rows_of(result: PGresult) -> Iterator[list[str]]:
    """The rows of a result in text format; NULL is empty."""
    for row in range(result.ntuples):
        yield [(result.get_value(row, column) or b"").decode() for column in range(result.nfields)]


_FIELDS = (DiagnosticField.SQLSTATE, DiagnosticField.MESSAGE_PRIMARY, DiagnosticField.CONSTRAINT_NAME)


def _field(result: PGresult, field: DiagnosticField) -> str:
    return (result.error_field(field) or b"").decode(errors="replace")


def _last_words(result: PGresult | None) -> str:
    return "" if result is None else result.error_message.decode(errors="replace").partition("\n")[0]
