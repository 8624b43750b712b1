"""PostgreSQL: one transaction a batch, sent at once and collected later; safe against writers beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import compress
from typing import Any

import psycopg

from devicevault_cli.errors import DvctlError, RecordRejected, TableAtFault, Unavailable
from devicevault_cli.paging import paged
from devicevault_cli.records import INT4_MAX, Record
from devicevault_cli.repository import postgres_checks as checks
from devicevault_cli.repository import postgres_faults as catalog
from devicevault_cli.repository import postgres_sql as sql
from devicevault_cli.repository.failures import connection_lost, from_sqlstate
from devicevault_cli.repository.faults import Fault
from devicevault_cli.repository.instants import to_text
from devicevault_cli.repository.plain import needed_columns, require_columns
from devicevault_cli.repository.postgres_arrays import Array, instants, integers, texts
from devicevault_cli.repository.postgres_batch import Batch, pack
from devicevault_cli.repository.postgres_connection import WatchedConnection, connect, conninfo
from devicevault_cli.repository.postgres_encoding import learn_encoding, unchanged
from devicevault_cli.repository.postgres_flight import Flight, ServerError, Statement, UnderWay, rows_of
from devicevault_cli.repository.postgres_lock import end_frozen_holder
from devicevault_cli.repository.repository import INSERTED, Done, Existing, Repository, Save, Saved, Value
from devicevault_cli.repository.tables import TableSpec
from devicevault_cli.repository.unencodable import save_around
from devicevault_cli.repository.url import DatabaseUrl
from devicevault_cli.repository.waves import Wave, waves

LOCK_MS, STATEMENT_MS = 10_000, 60_000
SEND_MS, SLOWEST_BYTES_A_MS = 10_000, 100
"""How long the server waits, the lock in hand, for a client to send its batch: so long, and longer for a large one."""
SCAN_MS = 900_000
"""For statements that read the whole table: counting, grouping."""


class PostgresRepository(Repository):
    """One table of a PostgreSQL database."""

    dialect = "postgresql"

    def __init__(self, url: DatabaseUrl, spec: TableSpec, application_name: str = "dvctl") -> None:
        super().__init__(url, spec)
        self._conninfo = conninfo(url, application_name)
        self._connection: WatchedConnection | None = None
        self._loose = sql.EXACT
        self._knows_columns = self._diverts = False
        self._under_way: UnderWay | None = None
        self._prepared: Batch | None = None

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
            if self._repertoires and not all(encodable := self.encodable(records)):
                return save_around(self, records, encodable, "22P05")
            batch = self._batch(records)
            self._land()
            connection = self._inspected()
            flight = Flight(connection, self._statements(batch))
        self._under_way = UnderWay(flight, lambda: self._collect(flight, batch))
        return self._under_way

    def prepare(self, records: Sequence[Record]) -> None:
        """Pack the records."""
        self._prepared = self._batch(records)

    def _batch(self, records: Sequence[Record]) -> Batch:
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared.records is records and prepared.by_identifier == self.unique_index:
            return prepared
        planned = waves(records, by_identifier=self.unique_index)
        packed = [self._packed(records, wave) for wave in planned]
        return Batch(self.spec, records, planned, packed, by_identifier=self.unique_index)

    def _packed(self, records: Sequence[Record], wave: Wave) -> list[Array]:
        return pack(self.spec, records, wave)

    def _statements(self, batch: Batch) -> Iterator[Statement]:
        """The lock is a statement of its own: the next one's snapshot is then younger than the lock."""
        yield Statement(sql.BEGIN)
        key = sql.lock_key(self.spec) if not (self.unique_index and batch.named) else None
        yield Statement(sql.settings(LOCK_MS, STATEMENT_MS, SEND_MS + batch.size // SLOWEST_BYTES_A_MS, lock=key))
        yield from batch.statements(unique_index=self.unique_index, diverts=self._diverts, loose=self._loose)
        yield Statement("COMMIT")

    def _collect(self, flight: Flight, batch: Batch) -> list[Saved]:
        with self._translated():
            _, *results = flight.results()
        answers = [INSERTED] * len(batch.records)
        left = batch.not_inserted(results)
        for position, saved in zip(left, self._explained([batch.records[each] for each in left]), strict=True):
            answers[position] = saved
        return answers

    def _explained(self, records: Sequence[Record]) -> list[Saved]:
        """Why records were not inserted: the device first, as with every message."""
        known = self.known_devices(record.device_id for record in records) if records else set()
        found = self.find(records)
        if records and not known:
            with self._translated():
                catalog.require_visible_devices(self._connected(), self.where, self.spec)
        if any(not rows and record.device_id in known for record, rows in zip(records, found, strict=True)):
            self._knows_columns = False
            with self._translated():
                raise catalog.no_row(self._connected(), self.where, self.spec)
        return [
            Saved("duplicate", rows[0]) if record.device_id in known else Saved("unknown-device")
            for record, rows in zip(records, found, strict=True)
        ]

    # --- reading

    def find(self, records: Sequence[Record]) -> list[list[Existing]]:
        """For each record all rows with its identity, lowest id first."""
        found: list[list[Existing]] = [[] for _ in records]
        self._look()
        named: list[int] = []
        unnamed: list[int] = []
        for position, record in compress(enumerate(records), self._identifiable(records)):
            (named if record.task_identifier else unnamed).append(position)
        for page in paged(named):
            keys = [texts([records[position].task_identifier for position in page])]
            self._find_page(sql.find_named(self.spec.name, self._loose), keys, page, found)
        for page in paged(unnamed):
            parts = [records[position] for position in page]
            values = [
                integers([record.device_id for record in parts]),
                texts([record.task_id for record in parts]),
                instants([record.timestamp for record in parts]),
                texts([record.status for record in parts]),
                texts([record.log for record in parts]),
            ]
            self._find_page(sql.find_unnamed(self.spec.name, self._loose), values, page, found)
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
                catalog.require_visible_devices(connection, self.where, self.spec)
        if writing:
            self.require_rows_taken(despite_outages=True)

    def faults(self) -> list[Fault]:
        """What is wrong with the table, the worst first."""
        with self._translated():
            found = list(catalog.sequence_faults(self._connected(), self.where, self.spec))
        if not any(fault.refuses for fault in found) and (refused := self._probe(draw_id=False)):
            found.append(Fault(refused))
        return sorted(found, key=lambda fault: not fault.refuses)

    def _try_row(self, record: Record | None, *, draw_id: bool) -> bool:
        with self._translated():
            connection = self._connected()
            if record is None:
                return catalog.try_copy(connection, self.spec)
            values = [self._stored(*pair) for pair in zip(self.spec.columns, record, strict=True)]
            row_id = None if draw_id else catalog.free_id(connection, self.spec)
            return catalog.try_row(connection, self.spec, values, row_id)

    def _probe_refused(self, error: RecordRejected) -> TableAtFault:
        with self._translated():
            found = catalog.sequence_faults(self._connected(), self.where, self.spec)
            ids = next((fault.error for fault in found if fault.refuses), None)
        return ids or super()._probe_refused(error)

    def row_security(self) -> list[str]:
        """What row-level security forbids, in sentences."""
        with self._translated():
            return catalog.row_security(self._connected(), self.spec)

    def _inspect(self, connection: psycopg.Connection) -> None:
        """Learn the type of the key and whether the unique index exists; compare the columns."""
        needed = needed_columns(self)
        there = checks.columns(connection, needed)
        require_columns(self.where, needed, there)
        self.device_id_max = catalog.LARGEST.get(there[self.spec.name]["device_id"], INT4_MAX)
        self._loose = checks.loose_columns(connection, needed)
        self.unique_index, self.equating_index = checks.unique_index(connection, self.spec, self._loose)
        self._no_index = _CITEXT if there[self.spec.name]["task_identifier"] == "citext" else ""
        self._diverts = catalog.diverts(connection, self.spec)
        self._knows_columns = True

    def _look(self) -> None:
        with self._translated():
            self._land()
            self._inspected()

    def _exact(self, column: str) -> str:
        self._look()
        return sql.exactly(self.spec.name, column, self._loose)

    def _unchanged(self, characters: list[str]) -> list[str]:
        with self._translated():
            return unchanged(self._connected(), characters)

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
        key = self._exact("task_identifier")
        with self._translated():
            connection = self._connected()
            # It waits for every transaction that is under way, and then reads the table twice.
            with connection.patient(math.inf):
                checks.create_unique_index(connection, name, self.spec, key)

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
            self._connection = connect(self._conninfo, self.where)
            self._connection.on_wait = self._while_waiting
            self._repertoires = learn_encoding(self._connection, self.spec, self._unchanged)
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
            raise self._meaning(error.refusal) from None
        except psycopg.Error as error:
            if error.sqlstate is None:
                self.close()
                raise connection_lost(str(error), self.where) from None
            raise self._meaning(catalog.Refusal.of(error)) from None
        except DvctlError:
            raise
        except BaseException:
            self.close()
            raise

    def _meaning(self, refusal: catalog.Refusal) -> DvctlError:
        sqlstate = refusal.sqlstate
        if sqlstate[:2] in ("08", "57", "58", "53", "25", "XX"):
            self.close()
        if sqlstate in ("23505", "42P10"):
            # The unique index came or went while we ran: look again before the next try.
            self._knows_columns = False
        if sqlstate == "42P10":
            return Unavailable(f"{self.where}: the unique index went away (SQLSTATE 42P10)", hint="the next try knows")
        if sqlstate[:2] in ("22", "23") or (refusal.raised and sqlstate[:2] == "P0"):
            return self._rejected(refusal)
        return from_sqlstate(sqlstate, self._told(sqlstate, refusal.text), self.where)

    def _told(self, sqlstate: str, text: str) -> str:
        """What the server said; where the table's lock could not be had, also whether a frozen holder was ended."""
        if sqlstate == "55P03" and self._connection is not None:
            pid = end_frozen_holder(self._connection, sql.lock_key(self.spec))
            if pid is not None:
                return f"{text}; ended session {pid} of a client that had stopped while it held the lock"
        return text

    def _rejected(self, refusal: catalog.Refusal) -> DvctlError:
        try:
            if (session := self._connection) is not None and not session.closed:
                return catalog.meaning(session, self.where, self.spec, refusal)
        except psycopg.Error as error:
            self.close()
            return connection_lost(str(error), self.where)
        return refusal.rejected(self.where)


_CITEXT = "no unique index is possible: the type of task_identifier, citext, ignores case"
