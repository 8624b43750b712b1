"""One transaction in libpq's pipeline mode: everything is sent at once, the answers are collected later."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import psycopg
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format

from devicevault_cli.errors import DvctlError, Unavailable
from devicevault_cli.records import Identity
from devicevault_cli.repository.dialects.postgresql.arrays import Array
from devicevault_cli.repository.dialects.postgresql.connection import ANSWER_S, LimitedConnection
from devicevault_cli.repository.dialects.postgresql.faults import Refusal

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

T = TypeVar("T")

IN_ONE_PIECE = 6000
"""libpq sends 8 KB at once; so many bytes of statements and parameters are that with what the protocol adds."""


class Statement:
    """A statement and its parameters in binary format. One with parameters returns rows."""

    __slots__ = ("arrays", "sql")

    def __init__(self, sql: str, arrays: Sequence[Array] = ()) -> None:
        self.sql = sql.encode()
        self.arrays = arrays

    def size(self) -> int:
        """Bytes of the statement and its parameters."""
        return len(self.sql) + sum(len(array.data) for array in self.arrays)


class ServerError(Exception):
    """The server refused a statement."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.sqlstate)
        self.refusal = refusal


class PipelineTransaction:
    """The statements of one transaction, sent and not answered yet.

    A small transaction is sent in one piece. In a large one each statement with parameters is parsed first, and the
    server reaches a synchronization point before the parameters are sent: until it has all of them, it counts the
    session as idle in transaction and ends it after `idle_in_transaction_session_timeout`. So a client that is frozen
    while it sends cannot keep a lock for ever. For one that is frozen between parameters and execution, see
    `Catalog.end_frozen_holder`.

    Written on `psycopg.pq`, psycopg's documented mirror of libpq: `Connection.pipeline()` sends what fits into
    the socket and the rest only when the answers are fetched, so that the server would wait for us instead.
    Raises psycopg.OperationalError where the connection breaks, also after ANSWER_S of silence.
    """

    def __init__(self, connection: LimitedConnection, statements: Iterable[Statement]) -> None:
        self._connection = connection
        self._pgconn: PGconn = connection.pgconn
        self._results: list[PGresult] = []
        self._syncs = 0
        """How many points of synchronization the server has still to reach."""
        self._heard = time.monotonic()
        self._pgconn.enter_pipeline_mode()
        statements = list(statements)
        small = sum(map(Statement.size, statements)) < IN_ONE_PIECE
        for statement in statements:
            if small or not statement.arrays:
                self._send(statement)
            else:
                self._send_in_two(statement)
        self._sync()
        while self._pgconn.flush():
            self._poll(select.POLLIN | select.POLLOUT, 0.5)

    def _send(self, statement: Statement) -> None:
        arrays = statement.arrays
        self._pgconn.send_query_params(
            statement.sql,
            [array.data for array in arrays],
            [array.oid for array in arrays],
            [Format.BINARY] * len(arrays),
        )

    def _send_in_two(self, statement: Statement) -> None:
        arrays = statement.arrays
        self._pgconn.send_prepare(b"", statement.sql, [array.oid for array in arrays])
        self._sync()
        self._pgconn.send_query_prepared(b"", [array.data for array in arrays], [Format.BINARY] * len(arrays))

    def _sync(self) -> None:
        self._pgconn.pipeline_sync()
        self._syncs += 1

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
        """The answers that have rows, in order. Raises ServerError; the transaction is over then."""
        while not self.wait(1.0):
            pass
        self._pgconn.exit_pipeline_mode()
        for result in self._results:
            if result.status == ExecStatus.FATAL_ERROR:
                self._connection.rollback()
                raise ServerError(Refusal(*(_field(result, field) for field in _FIELDS)))
        return [result for result in self._results if result.status == ExecStatus.TUPLES_OK]

    def _poll(self, events: int, seconds: float) -> None:
        """Wait for the socket, and read what arrived."""
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
        while self._syncs and not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if self._pgconn.status == ConnStatus.BAD:
                raise psycopg.OperationalError(_last_words(result) or "the connection was lost")
            if result is not None and result.status == ExecStatus.PIPELINE_SYNC:
                self._syncs -= 1
            elif result is not None:
                self._results.append(result)
        return not self._syncs


class PendingTransaction(Generic[T]):
    """A transaction that the server still works on. `collect` makes the answers, such as those of a PendingSave."""

    def __init__(self, transaction: PipelineTransaction, collect: Callable[[], T]) -> None:
        self._transaction = transaction
        self._collect: Callable[[], T] | None = collect
        self._answers: T | DvctlError = Unavailable("waiting for the database was given up")

    def wait(self, seconds: float) -> bool:
        """True once `result()` will not block, also because the connection broke."""
        try:
            return self._collect is None or self._transaction.wait(seconds)
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

    def result(self) -> T:
        self.finish()
        if isinstance(self._answers, DvctlError):
            raise self._answers
        return self._answers


def rows_of(result: PGresult) -> Iterator[list[str]]:
    """The rows of a result in text format; NULL is empty. A database in SQL_ASCII may hold what is no UTF-8."""
    for row in range(result.ntuples):
        yield [(result.get_value(row, column) or b"").decode(errors="replace") for column in range(result.nfields)]


def identity_of(row: list[str]) -> Identity:
    """The identity that a row of `statements.insert_new` names."""
    if len(row) == 1:
        return row[0]
    device_id, task_id, micros, status, log = row
    return int(device_id), task_id, int(micros), status, log


_FIELDS = (
    DiagnosticField.SQLSTATE,
    DiagnosticField.MESSAGE_PRIMARY,
    DiagnosticField.CONSTRAINT_NAME,
    DiagnosticField.COLUMN_NAME,
    DiagnosticField.TABLE_NAME,
    DiagnosticField.SOURCE_FUNCTION,
)


def _field(result: PGresult, field: DiagnosticField) -> str:
    return (result.error_field(field) or b"").decode(errors="replace")


def _last_words(result: PGresult | None) -> str:
    return "" if result is None else result.error_message.decode(errors="replace").partition("\n")[0]
