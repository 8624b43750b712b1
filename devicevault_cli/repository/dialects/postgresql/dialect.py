"""PostgreSQL: settings inside each transaction, rights and columns from the catalog, what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Column, ColumnElement, Connection, Insert, Text, cast
from sqlalchemy.ext.compiler import compiles

from devicevault_cli.errors import DvctlError, RecordRejected, TableAtFault, Unavailable
from devicevault_cli.plural import number
from devicevault_cli.records import INT4_MAX
from devicevault_cli.repository.dialects.base import Dialect, Facts
from devicevault_cli.repository.dialects.postgresql import faults, statements
from devicevault_cli.repository.dialects.postgresql.catalog import Catalog, Described, UniqueIndex
from devicevault_cli.repository.dialects.postgresql.connection import LimitedConnection, connect, conninfo
from devicevault_cli.repository.dialects.postgresql.encoding import learn_encoding, unchanged
from devicevault_cli.repository.dialects.postgresql.pipeline import PendingTransaction, ServerError
from devicevault_cli.repository.errors import connection_lost, from_sqlstate, other_server
from devicevault_cli.repository.faults import Fault
from devicevault_cli.repository.model import Server, Standbys
from devicevault_cli.repository.tables import TableSpec
from devicevault_cli.repository.url import DatabaseUrl

PROBE_LOCK_MS, PROBE_MS = 2_000, 10_000

_CITEXT = "no unique index is possible: the type of task_identifier, citext, ignores case"
_PARTITIONED = "no unique index is possible: the table is partitioned, and its partition key would have to be in it"
_MAY_WAIT = "a commit may wait for a synchronous standby: see `dvctl doctor`"
_CONNECTION_LOST = ("08", "57", "58", "53", "25", "XX")
"""Classes of SQLSTATE after which the connection is not used any more."""


@dataclass(slots=True)
class PostgresFacts(Facts):
    """What the catalog says of the table."""

    loose: statements.Loose = statements.EXACT
    small: frozenset[str] = frozenset()
    """The columns whose type is integer, not bigint."""
    diverts: bool = False
    """Rows may be put into another table than the one named, where the INSERT does not report them."""
    index: UniqueIndex | None = None
    """The unique index."""


class InsertOverriding(Insert):
    """Puts a value even into an identity column that is GENERATED ALWAYS."""

    inherit_cache = True


@compiles(InsertOverriding)
def _overriding(statement: InsertOverriding, compiler: Any, **given: Any) -> str:
    text: str = compiler.visit_insert(statement, **given)
    return text.replace(") VALUES (", ") OVERRIDING SYSTEM VALUE VALUES (", 1)


class PostgresDialect(Dialect):
    """One table of a PostgreSQL database."""

    name = "postgresql"
    unencodable = "22P05"
    insert_with_id = InsertOverriding
    leaves_outages_to_first_batch = True
    facts: PostgresFacts

    def __init__(self, url: DatabaseUrl, spec: TableSpec, application_name: str = "dvctl") -> None:
        super().__init__(url, spec, "postgresql+psycopg", use_native_hstore=False)
        self._conninfo = conninfo(url, application_name)
        self.facts = PostgresFacts()
        self._is_inspected = False
        self.pending: PendingTransaction[Any] | None = None
        self._described = Described(None)

    # --- the connection

    def _socket(self, driver: Any) -> int | None:
        number: int = driver.fileno()
        return number

    def _connect(self) -> LimitedConnection:
        self.where = self.url.shown
        return connect(self._conninfo, self.where)

    def _prepare(self, connection: Connection) -> None:
        self._is_inspected = False
        session: Any = connection.connection.driver_connection
        if self.url.names_several:
            self.where = self.url.at(session.info.host, session.info.port).shown
        self._described = Catalog(session, self.where, self.spec).server()
        self._require_server()
        self.repertoires = learn_encoding(session, self.spec, self._unchanged)

    def _is_lost(self, connection: Connection) -> bool:
        return super()._is_lost(connection) or bool(connection.connection.driver_connection.closed)  # type: ignore[union-attr]

    def _discard(self) -> None:
        self.finish_pending()  # it ends with an error of its own, and must not close the next connection later
        super()._discard()

    def connection(self) -> Connection:
        """The connection, with no transaction pending on it."""
        self.finish_pending()
        return super().connection()

    def busy_driver(self) -> LimitedConnection:
        """The driver's connection, inspected; a transaction may be pending on it if it was inspected before."""
        session: Any = super().connection().connection.driver_connection
        self._require_server()
        if not self._is_inspected:
            self.inspect()
        limited: LimitedConnection = session
        return limited

    # --- which server it is

    def server(self) -> Server | None:
        with self.catalog() as catalog:
            self._described = catalog.server()
        return self._described.server

    def standbys(self) -> Standbys | None:
        with self.catalog() as catalog:
            return catalog.standbys()

    def may_fail_over(self) -> bool:
        if self.url.names_several:
            return True
        with self.catalog() as catalog:
            return catalog.has_standby()

    @property
    def tells_timeline(self) -> bool:
        """Whether each transaction can tell the timeline it ran on."""
        return self._described.server is not None

    @property
    def waits_for_standby(self) -> bool:
        """Whether a commit waits for a synchronous standby."""
        return self._described.waits_for_standby

    def _require_server(self) -> None:
        """Raises OtherServer, with the connection closed, where this server must not be written to."""
        if self.required is None:
            return
        found, where = self._described, self.where
        if found.in_recovery:
            self._discard()
            raise from_sqlstate("25006", "", where)
        if found.server is not None and not found.server.is_same(self.required):
            self._discard()
            raise other_server(found.server.timeline, self.required.timeline, where)

    def require_timeline(self, file: str) -> None:
        """Raises OtherServer where a transaction ran on another timeline: a pooler may change the server at any time.

        `file`: the name of the file of the write-ahead log, as the transaction has read it.
        """
        if self.required is not None and int(file[:8], 16) != self.required.timeline:
            where = self.where
            self.close()
            raise other_server(int(file[:8], 16), self.required.timeline, where)

    def finish_pending(self) -> None:
        """Complete the pending transaction; it keeps its result."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            pending.finish()

    def close(self) -> None:
        self.pending = None
        super().close()

    def _unchanged(self, characters: list[str]) -> list[str]:
        with self.translated():
            return unchanged(self.driver, characters)

    def _catalog(self) -> Catalog:
        return Catalog(self.driver, self.where, self.spec)

    @contextmanager
    def catalog(self) -> Iterator[Catalog]:
        """The catalog; errors of the driver are translated."""
        with self.translated():
            yield self._catalog()

    # --- transactions

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that may read the whole table.

        In another time zone the last hours of 9999 would be in a year that Python does not know; and psycopg reads
        times in ISO style only, whatever style the database or the role is set to.
        """
        begin = (
            f"{statements.BEGIN_READING}; SET LOCAL statement_timeout = {statements.SCAN_MS};"
            f" SET LOCAL idle_in_transaction_session_timeout = {statements.STATEMENT_MS}; SET LOCAL timezone = 'UTC';"
            " SET LOCAL datestyle = 'ISO'"
        )
        with self.translated(), self.driver.allowing(statements.SCAN_MS / 1000), self.transaction(begin) as connection:
            yield connection

    def trial(self) -> AbstractContextManager[Connection]:
        """A transaction that is rolled back, and waits for nobody long."""
        limits = f"SET LOCAL lock_timeout = {PROBE_LOCK_MS}; SET LOCAL statement_timeout = {PROBE_MS}"
        return self.transaction(f"{self.begin_writing}; {limits}", undo=True)

    # --- the table

    def inspect(self) -> None:
        """Learn the type of the key and whether the unique index exists; compare the columns."""
        with self.catalog() as catalog:
            there, loose = catalog.columns(self.needed_columns())
            self.require_columns(there)
            types = there[self.spec.name]
            index, equating = catalog.unique_index(loose)
            self.facts = PostgresFacts(
                faults.LARGEST.get(types["device_id"], INT4_MAX),
                index is not None,
                equating,
                self._no_index(catalog, types["task_identifier"]),
                loose=loose,
                small=frozenset(column for column, kind in types.items() if kind == "int4"),
                diverts=catalog.diverts(),
                index=index,
            )
            self._is_inspected = True

    @staticmethod
    def _no_index(catalog: Catalog, kind: str) -> str:
        if kind == "citext":
            return _CITEXT
        return _PARTITIONED if catalog.is_partitioned() else ""

    def require_writable(self) -> None:
        """Raises Unavailable on a standby, Refused for a missing right, TableAtFault where no device is visible."""
        with self.catalog() as catalog:
            catalog.require_writable()

    def require_right(self, right: str) -> None:
        with self.catalog() as catalog:
            catalog.require((right, self.spec.name))

    def row_security(self) -> list[str]:
        with self.catalog() as catalog:
            return catalog.row_security()

    def exact(self, column: Column[Any]) -> ColumnElement[Any]:
        """The column itself where it compares byte for byte already."""
        if not self._is_inspected:
            self.inspect()
        kind = statements.loose_type(self.spec.name, column.name, self.facts.loose)
        if kind is None:
            return column
        return (column if kind in statements.COLLATABLE else cast(column, Text)).collate("C")

    def create_unique_index(self, name: str) -> None:
        """Create it beside running writers: it waits for every open transaction, and then reads the table twice."""
        self.inspect()
        with self.catalog() as catalog:
            catalog.create_unique_index(name, self.facts.loose)

    def drop_index_statement(self, name: str) -> str:
        return f"DROP INDEX CONCURRENTLY {name}"

    # --- is the table at fault?

    def known_faults(self) -> list[Fault]:
        """An exhausted sequence, one that is nearly so, and one behind the largest id."""
        with self.catalog() as catalog:
            return list(faults.sequence_faults(catalog))

    def free_id(self) -> int | None:
        """The next value of the sequence, so that the probe need not use it up."""
        return faults.free_id(self._catalog())

    def check_deferred(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")

    def probe_fault(self, error: RecordRejected) -> TableAtFault | None:
        """A sequence that no row can be drawn from."""
        return next((fault.error for fault in self.known_faults() if fault.refuses), None)

    def no_row(self) -> Unavailable:
        """The error for an INSERT that reported no row for a record, while none is there."""
        self._is_inspected = False
        with self.catalog() as catalog:
            return faults.no_row(catalog)

    # --- errors

    def _survives(self, error: BaseException) -> bool:
        """The server refused a statement, or dvctl raised an error by itself: the session is still good."""
        if isinstance(error, psycopg.Error):
            return error.sqlstate is not None and error.sqlstate[:2] not in _CONNECTION_LOST
        if isinstance(error, ServerError):
            return error.refusal.sqlstate[:2] not in _CONNECTION_LOST
        return isinstance(error, DvctlError)

    def _meaning(self, error: BaseException) -> DvctlError | None:
        if isinstance(error, ServerError):
            return self._refusal_meaning(error.refusal)
        if not isinstance(error, psycopg.Error):
            return None
        if error.sqlstate is None:
            text = f"{error}; {_MAY_WAIT}" if self.waits_for_standby else str(error)
            return connection_lost(text, self.where)
        return self._refusal_meaning(faults.Refusal.of(error))

    def _refusal_meaning(self, refusal: faults.Refusal) -> DvctlError:
        sqlstate = refusal.sqlstate
        if sqlstate in ("23505", "42P10"):
            # The unique index was created or dropped meanwhile: look for it again before the next attempt.
            self._is_inspected = False
        if sqlstate == "42P10":
            error = f"{self.where}: the unique index was dropped meanwhile (SQLSTATE 42P10)"
            return Unavailable(error, hint="retry: dvctl looks for the index again")
        if sqlstate[:2] in ("22", "23") or (refusal.raised and sqlstate[:2] == "P0"):
            return self._rejected(refusal)
        text = refusal.text
        if (
            sqlstate == "55P03"
            and self._opened is not None
            and (pid := self._catalog().end_frozen_holder()) is not None
        ):
            text += f"; ended session {pid} of a client that had stopped while it held the lock"
        if sqlstate == "55P03" and self._opened is not None and self.waits_for_standby:
            text += f"; {self._commits_waiting()}"
        return from_sqlstate(sqlstate, text, self.where)

    def _commits_waiting(self) -> str:
        """Why a lock is not released, where a commit waits for a standby that is away."""
        with suppress(psycopg.Error):
            if (found := self._catalog().standbys()) and found.waiting:
                waiting = number(found.waiting, "commit waits", "commits wait")
                return f"{waiting} for a synchronous standby (synchronous_standby_names = '{found.names}')"
        return _MAY_WAIT

    def _rejected(self, refusal: faults.Refusal) -> DvctlError:
        try:
            if self._opened is not None:
                return faults.meaning(self._catalog(), refusal)
        except psycopg.Error as error:
            self.close()
            return connection_lost(str(error), self.where)
        return refusal.rejected(self.where)
