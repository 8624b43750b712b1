"""PostgreSQL: one transaction a batch, sent at once and collected later; safe against writers beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from devicevault_cli.errors import BadConfig, DvctlError, Unavailable
from devicevault_cli.paging import paged
from devicevault_cli.records import INT4_MAX, INT8_MAX, Record, identity
from devicevault_cli.repository import postgres_checks as checks
from devicevault_cli.repository import postgres_sql as sql
from devicevault_cli.repository.failures import connection_lost, from_libpq_connect, from_sqlstate
from devicevault_cli.repository.instants import to_text
from devicevault_cli.repository.plain import needed_columns, require_columns
from devicevault_cli.repository.postgres_arrays import Array, instants, integers, texts
from devicevault_cli.repository.postgres_connection import WatchedConnection
from devicevault_cli.repository.postgres_flight import Flight, ServerError, Statement, UnderWay, identity_of, rows_of
from devicevault_cli.repository.postgres_lock import end_frozen_holder
from devicevault_cli.repository.repository import INSERTED, Done, Existing, Repository, Save, Saved, Value
from devicevault_cli.repository.tables import TableSpec
from devicevault_cli.repository.url import DatabaseUrl
from devicevault_cli.repository.waves import Wave, waves

LOCK_MS, STATEMENT_MS = 10_000, 60_000
SEND_MS, SLOWEST_BYTES_A_MS = 10_000, 100
"""How long the server waits, the lock in hand, for a client to send its batch: so long, and longer for a large one."""
SCAN_MS = 900_000
"""For statements that read the whole table: counting, grouping."""

_PACKERS: dict[str, Callable[[Sequence[Any]], Array]] = {"text": texts, "integer": integers, "time": instants}

# Half a minute without a sign of life ends the connection, also when the network swallows packets.
_CONNECT = {
    "connect_timeout": "10",
    "client_encoding": "UTF8",
    "keepalives": "1",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


class PostgresRepository(Repository):
    """One table of a PostgreSQL database."""

    dialect = "postgresql"

    def __init__(self, url: DatabaseUrl, spec: TableSpec, application_name: str = "dvctl") -> None:
        super().__init__(url, spec)
        try:
            given = conninfo_to_dict(url.text)
        except psycopg.ProgrammingError:
            raise BadConfig("the database URL cannot be read by libpq", hint="check its options") from None
        self._conninfo = make_conninfo(
            **{name: str(value) for name, value in (_CONNECT | {"application_name": application_name} | given).items()}
        )
        self._connection: WatchedConnection | None = None
        self._knows_columns = False
        self._under_way: UnderWay | None = None

    # --- saving

    def submit(self, records: Sequence[Record]) -> Save:
        """Send one transaction; the server works on it from now on.

        One is under way at a time: what was submitted before is collected first, into its Save. So that the server
        is not kept waiting, submit the next batch before asking the last one's Save for its result.
        """
        if not records:
            return Done([])
        with self._translated():
            self._inspected()
            planned = waves(records, by_identifier=self.unique_index)
            packed = [self._packed(records, wave) for wave in planned]
            self._land()
            connection = self._inspected()
            flight = Flight(connection, self._statements(planned, packed))
        self._under_way = UnderWay(flight, lambda: self._collect(flight, records, planned))
        return self._under_way

    def _packed(self, records: Sequence[Record], wave: Wave) -> list[Array]:
        columns = zip(*(records[position] for position in wave.positions), strict=True)
        packers = (_PACKERS[self.spec.kind(column)] for column in self.spec.columns)
        return [pack(column) for pack, column in zip(packers, columns, strict=True)]

    def _statements(self, planned: list[Wave], packed: list[list[Array]]) -> Iterator[Statement]:
        """The lock is a statement of its own: the next one's snapshot is then younger than the lock."""
        yield Statement(sql.BEGIN)
        locked = not self.unique_index or not all(wave.named for wave in planned)
        key = sql.lock_key(self.spec) if locked else None
        send_ms = SEND_MS + sum(len(array.data) for arrays in packed for array in arrays) // SLOWEST_BYTES_A_MS
        yield Statement(sql.settings(LOCK_MS, STATEMENT_MS, send_ms, lock=key))
        for wave, arrays in zip(planned, packed, strict=True):
            yield Statement(sql.save_wave(self.spec, named=wave.named, unique_index=self.unique_index), arrays)
        yield Statement("COMMIT")

    def _collect(self, flight: Flight, records: Sequence[Record], planned: list[Wave]) -> list[Saved]:
        with self._translated():
            _, *results = flight.results()
        answers = [INSERTED] * len(records)
        left: list[int] = []
        for wave, result in zip(planned, results, strict=True):
            if result.ntuples < len(wave.positions):
                inserted = set(map(identity_of, rows_of(result)))
                left += [position for position in wave.positions if identity(records[position]) not in inserted]
        for position, saved in zip(left, self._explained([records[each] for each in left]), strict=True):
            answers[position] = saved
        return answers

    def _explained(self, records: Sequence[Record]) -> list[Saved]:
        """Why records were not inserted: the device first, as with every message."""
        known = self.known_devices(record.device_id for record in records) if records else set()
        found = self.find(records)
        if any(not rows and record.device_id in known for record, rows in zip(records, found, strict=True)):
            raise Unavailable(f"{self.where}: rows went, or devices came, while they were looked up", hint="try again")
        return [
            Saved("duplicate", rows[0]) if record.device_id in known else Saved("unknown-device")
            for record, rows in zip(records, found, strict=True)
        ]

    # --- reading

    def find(self, records: Sequence[Record]) -> list[list[Existing]]:
        """For each record all rows with its identity, lowest id first."""
        found: list[list[Existing]] = [[] for _ in records]
        named = [position for position, record in enumerate(records) if record.task_identifier]
        unnamed = [position for position, record in enumerate(records) if not record.task_identifier]
        for page in paged(named):
            keys = [texts([records[position].task_identifier for position in page])]
            self._find_page(sql.find_named(self.spec.name), keys, page, found)
        for page in paged(unnamed):
            parts = [records[position] for position in page]
            values = [
                integers([record.device_id for record in parts]),
                texts([record.task_id for record in parts]),
                instants([record.timestamp for record in parts]),
                texts([record.status for record in parts]),
                texts([record.log for record in parts]),
            ]
            self._find_page(sql.find_unnamed(self.spec.name), values, page, found)
        return found

    def _find_page(self, query: str, values: list[Array], page: list[int], found: list[list[Existing]]) -> None:
        with self._translated():
            connection = self._connected()
            opening = (sql.BEGIN_READING, sql.settings(LOCK_MS, STATEMENT_MS, STATEMENT_MS, lock=None))
            statements = [*map(Statement, opening), Statement(query, values), Statement("COMMIT")]
            flight = Flight(connection, statements)
            while not flight.wait(0.5):
                self.on_wait()
            _, result = flight.results()
        for n, row_id, device_id, status in rows_of(result):
            found[page[int(n) - 1]].append(Existing(int(row_id), int(device_id), status))

    def _select(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        with self._translated():
            connection = self._connected()
            with connection.patient(SCAN_MS / 1000), connection.transaction():
                # In another time zone the last hours of 9999 would be in a year that Python does not know; and psycopg
                # reads times in ISO style only, whatever style the database or the role is set to.
                connection.execute(
                    f"SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {SCAN_MS};"
                    f" SET LOCAL idle_in_transaction_session_timeout = {STATEMENT_MS}; SET LOCAL timezone = 'UTC';"
                    " SET LOCAL datestyle = 'ISO'"
                )
                return connection.execute(sql, values or None).fetchall()

    # --- the state of the database

    def check(self, *, writing: bool = True) -> None:
        """The server answers, has the tables and columns, and (`writing`) takes our writes."""
        with self._translated():
            connection = self._connected()
            self._inspect(connection)
            if writing:
                checks.require_writable(connection, self.where)
                checks.require_rights(connection, self.where, self.spec)

    def _inspect(self, connection: psycopg.Connection) -> None:
        """Learn the type of the key and whether the unique index exists; compare the columns."""
        needed = needed_columns(self)
        there = checks.columns(connection, needed)
        require_columns(self.where, needed, there)
        self.device_id_max = _LARGEST.get(there[self.spec.name]["device_id"], INT4_MAX)
        self.unique_index = checks.has_unique_index(connection, self.spec)
        self._knows_columns = True

    def _existing_tables(self) -> set[str]:
        return {row[0] for row in self._select("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")}

    def _execute(self, statements: Sequence[str]) -> None:
        with self._translated():
            connection = self._connected()
            with connection.transaction():
                for statement in statements:
                    connection.execute(statement)

    def _change(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        with self._translated():
            connection = self._connected()
            checks.require(connection, self.where, [(sql.partition(" ")[0], self.spec.name)])
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(sql, rows)

    def _stored(self, column: str, value: Any) -> Value:
        is_time = value is not None and self.spec.kind(column) == "time"
        stored: Value = f"{to_text(value)}+00" if is_time else value
        return stored

    def _create_index(self, name: str) -> None:
        """Beside running writers; a leftover that is invalid is dropped, also the one of this very attempt."""
        with self._translated():
            connection = self._connected()
            try:
                connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                # It waits for every transaction that is under way, and then reads the table twice.
                with connection.patient(math.inf):
                    connection.execute(
                        f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {self.spec.name} (task_identifier)"
                        " WHERE task_identifier <> ''"
                    )
            except psycopg.errors.UniqueViolation:
                connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                raise

    # --- the connection

    def _connected(self) -> WatchedConnection:
        """The connection, with nothing under way on it."""
        self._land()
        return self._open()

    def _inspected(self) -> WatchedConnection:
        """The connection, and columns and unique index as this connection has seen them."""
        connection = self._open()
        if not self._knows_columns:
            self._inspect(connection)
        return connection

    def _land(self) -> None:
        """Collect what is under way into its Save."""
        if self._under_way is not None:
            while not self._under_way.wait(0.5):
                self.on_wait()
            before, self._under_way = self._under_way, None
            before.finish()

    def _open(self) -> WatchedConnection:
        if self._connection is None or self._connection.closed:
            self._knows_columns = False
            try:
                self._connection = WatchedConnection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
            except psycopg.OperationalError as error:
                raise from_libpq_connect(str(error), self.where) from None
            self._connection.on_wait = self._while_waiting
        return self._connection

    def _while_waiting(self) -> None:
        self.on_wait()

    def close(self) -> None:
        """Close the connection; the server rolls back what was not committed."""
        self._under_way = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(psycopg.Error):
                connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translates errors. What is left of the connection is closed unless the server just refused a statement."""
        try:
            yield
        except ServerError as error:
            raise self._meaning(error.sqlstate, error.text, error.constraint) from None
        except psycopg.Error as error:
            if error.sqlstate is None:
                self.close()
                raise connection_lost(str(error), self.where) from None
            raise self._meaning(
                error.sqlstate, error.diag.message_primary or "", error.diag.constraint_name or ""
            ) from None
        except DvctlError:
            raise
        except BaseException:
            self.close()
            raise

    def _meaning(self, sqlstate: str, text: str, constraint: str) -> DvctlError:
        if sqlstate[:2] in ("08", "57", "58", "53", "25", "XX"):
            self.close()
        if sqlstate in ("23505", "42P10"):
            # The unique index came or went while we ran: look again before the next try.
            self._knows_columns = False
            if constraint.endswith("_pkey") or sqlstate == "42P10":
                hint = "is the sequence of the id column behind its maximum?" if constraint else "the next try knows"
                return Unavailable(f"{self.where}: the table's keys changed (SQLSTATE {sqlstate})", hint=hint)
        if sqlstate == "55P03" and self._connection is not None:
            pid = end_frozen_holder(self._connection, sql.lock_key(self.spec))
            if pid is not None:
                text += f"; ended session {pid} of a client that had stopped while it held the lock"
        return from_sqlstate(sqlstate, text, self.where)


_LARGEST = {"int2": 32_767, "int4": INT4_MAX, "int8": INT8_MAX}
